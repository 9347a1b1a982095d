"""Settings of `rag_graph`, read once at a process's start from `RAG_*` environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.tls import TlsFiles
from rag_graph import urls

OPTIONAL_PATHS = (
    "reranker_dir",
    "mcp_file",
    "models_file",
    "llm_tls_ca",
    "llm_tls_cert",
    "llm_tls_key",
)


class RagSettings(BaseSettings):
    """How documents are kept and found, and where answers are generated."""

    model_config = SettingsConfigDict(env_prefix="RAG_", frozen=True)

    store_uri: str = Field(
        default="~/.local/share/isthmus/store",
        description="LanceDB database: a directory, or an az:// or s3:// URI.",
    )
    cache_dir: Path = Field(
        default=Path("~/.cache/isthmus"),
        description="Directory for the embedding model converted to ONNX.",
    )
    embedder_threads: int = Field(
        default=1, ge=1, description="CPU threads that one embedding model uses."
    )
    embedder_dirs: str = Field(
        default="",
        description="Directories of more ONNX embedding models (model.onnx, tokenizer.json, and "
        "what sentence-transformers keeps beside them), separated by commas, for collections that "
        "were embedded with them.",
    )
    embedder_url: str = Field(
        default="",
        description="Base URL of an OpenAI-compatible endpoint that embeds new collections, such "
        "as http://127.0.0.1:8080/v1. Empty: the bundled model.",
    )
    embedder_model: str = Field(default="", description="Model to ask for at embedder_url.")
    embedder_dimension: int = Field(
        default=0, ge=0, description="Length of the vectors of embedder_model."
    )
    embedder_api_key: SecretStr = Field(
        default=SecretStr(""), description="Bearer token for embedder_url. Empty: none."
    )
    embedder_timeout_s: float = Field(
        default=30.0, gt=0, description="Seconds that one request to embedder_url may take."
    )
    embedder_query_prompt: str = Field(
        default="",
        description="Stands before a question that the model of embedder_url embeds, for a model "
        'that was trained so, such as "query: " for E5.',
    )
    embedder_document_prompt: str = Field(
        default="",
        description="Stands before what the model of embedder_url embeds to be found.",
    )
    reranker_dir: Path | None = Field(
        default=None,
        description="Directory of an ONNX cross-encoder (model.onnx, tokenizer.json) that reranks "
        "what a search found. Empty: none.",
    )
    reranker_url: str = Field(
        default="",
        description="Base URL of an endpoint with /rerank that reranks what a search found, such "
        "as http://127.0.0.1:8080/v1. Empty: none.",
    )
    reranker_model: str = Field(
        default="",
        description="Model to ask for at reranker_url, in Cohere's form; empty for the form of "
        "text-embeddings-inference.",
    )
    reranker_api_key: SecretStr = Field(
        default=SecretStr(""), description="Bearer token for reranker_url. Empty: none."
    )
    reranker_timeout_s: float = Field(
        default=2.0, gt=0, description="Seconds that one reranking at reranker_url may take."
    )
    rerank_candidates: int = Field(
        default=20, ge=2, le=200, description="Best passages of the fusion that are reranked."
    )
    chunk_tokens: int = Field(
        default=200, ge=32, le=254, description="Longest chunk, in the embedder's tokens."
    )
    max_document_bytes: int = Field(
        default=64 * 2**20, ge=1, description="Largest document accepted, in bytes."
    )
    max_unzipped_bytes: int = Field(
        default=256 * 2**20, ge=1, description="Most that a zipped document unpacks to, in bytes."
    )
    max_pages: int = Field(default=5000, ge=1, description="Most pages of a PDF.")
    max_text_chars: int = Field(
        default=20_000_000, ge=1, description="Most text in one document, in characters."
    )
    parse_timeout_s: float = Field(
        default=120.0, gt=0, description="Seconds that reading one document may take."
    )
    parse_memory_bytes: int = Field(
        default=2 * 2**30, ge=2**28, description="Address space of a parsing process, in bytes."
    )
    parse_processes: int = Field(
        default=1, ge=1, description="Documents that are parsed at the same time."
    )
    parse_idle_s: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without a document after which the parsing processes end.",
    )
    ingest_documents: int = Field(
        default=32,
        ge=1,
        description="Documents that the ingestor works on at the same time: some are parsed while "
        "others are embedded, and what is ready together is committed together.",
    )
    max_waiting_jobs: int = Field(
        default=20_000, ge=1, description="Ingestion jobs of a tenant that may wait."
    )
    top_k: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Passages that a search returns. 3 suits the small bundled LLM.",
    )
    candidates: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Passages that dense and BM25 search each bring to the fusion.",
    )
    probes: int = Field(
        default=28,
        ge=1,
        description="Partitions of the approximate index that a dense search looks into.",
    )
    rank_constant: int = Field(
        default=5,
        ge=0,
        description="k of reciprocal rank fusion: the smaller, the more a first place counts.",
    )
    read_consistency_s: float = Field(
        default=0.0,
        ge=0,
        description="Seconds after which a reader looks for what other processes wrote; "
        "0 looks on every search.",
    )
    maintain_every: int = Field(
        default=32, ge=1, description="Commits between two compactions of a collection."
    )
    keep_versions_s: float = Field(
        default=600.0,
        ge=1,
        description="Seconds for which a replaced version of a table is kept for its readers.",
    )
    index_rows: int = Field(
        default=25_000,
        ge=256,
        description="Chunks from which on dense search uses an approximate index.",
    )
    resident_bytes: int = Field(
        default=32 * 2**20,
        ge=0,
        description="Memory for small collections, which are searched in it while they do not "
        "change: 32 MiB hold some 10,000 chunks. 0: none.",
    )
    index_cache_bytes: int = Field(
        default=2 * 2**30,
        ge=2**24,
        description="Memory of a retriever for indices: a million chunks take 420 MiB, and a "
        "search that finds them there takes a third of the time.",
    )
    metadata_cache_bytes: int = Field(
        default=128 * 2**20, ge=2**20, description="Memory of a retriever for tables' metadata."
    )
    ingest_cache_bytes: int = Field(
        default=32 * 2**20,
        ge=2**16,
        description="Memory of the ingestor for indices, and as much again for metadata.",
    )
    context_tokens: int = Field(
        default=1000, ge=64, description="Most tokens of passages put into a prompt."
    )
    min_evidence: float = Field(
        default=0.5,
        ge=0,
        le=1.5,
        description="Evidence below which a question is not answered: cosine of the nearest "
        "passage plus half the share of the question's words found; 0 answers always.",
    )
    max_parts: int = Field(
        default=3,
        ge=0,
        le=8,
        description="Most parts that a multi-hop question is split into; 0 never splits.",
    )
    mcp_file: Path | None = Field(
        default=None,
        description="TOML table of the MCP servers whose tools a multi-hop question may use. "
        "Empty: none.",
    )
    tool_steps: int = Field(
        default=3, ge=1, le=10, description="Rounds of tool calls that one question may take."
    )
    tool_tokens: int = Field(
        default=4000,
        ge=256,
        description="Tokens, prompts and answers together, after which no more tools are called "
        "for a question.",
    )
    memory_url: str = Field(
        default="~/.local/share/isthmus/threads.sqlite",
        description="Where conversations are kept: a SQLite file, or postgresql://…",
    )
    memory_days: float = Field(
        default=30.0,
        ge=0,
        description="Days after its last turn that a conversation is forgotten; 0: never.",
    )
    memory_turns: int = Field(
        default=12, ge=2, description="Latest turns of a thread that a model is shown."
    )
    llm_url: str = Field(
        default="",
        description="Base URL of the LLM service, such as http://127.0.0.1:8001/v1; several of "
        "one model separated by commas. Empty: none.",
    )
    llm_fallback_url: str = Field(
        default="",
        description="Base URLs, separated by commas, asked for their first model when none of "
        "RAG_LLM_URL can answer.",
    )
    llm_model: str = Field(
        default="", description="Model to ask for. Empty: the first that the service lists."
    )
    llm_api_key: SecretStr = Field(
        default=SecretStr(""), description="Bearer token for the LLM service. Empty: none."
    )
    models_file: Path | None = Field(
        default=None,
        description="TOML table of the models that may answer, with endpoints, context, prices "
        "and strengths. Empty: the one model of RAG_LLM_URL.",
    )
    answer_budget: float = Field(
        default=0.0,
        ge=0,
        description="Most that one call of a model may cost, in the currency of RAG_MODELS_FILE; "
        "0 for no limit.",
    )
    llm_tls_ca: Path | None = Field(
        default=None,
        description="PEM authority of an LLM service with mutual TLS; set all three or none.",
    )
    llm_tls_cert: Path | None = Field(
        default=None, description="PEM certificate chain shown to the LLM service."
    )
    llm_tls_key: Path | None = Field(default=None, description="PEM private key of llm_tls_cert.")
    max_tokens: int = Field(default=256, ge=1, description="Longest answer, in tokens.")
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="Sampling temperature when a question sets none."
    )
    timeout_s: float = Field(
        default=120.0, gt=0, description="Seconds for a whole answer when a question sets none."
    )
    connect_timeout_s: float = Field(
        default=2.0, gt=0, description="Seconds to reach the LLM service."
    )
    first_token_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds without text from an LLM endpoint after which another endpoint or "
        "model is asked, if there is one; longer than a queue at a healthy endpoint, and than a "
        "model's reasoning before its answer.",
    )

    @property
    def llm_tiers(self) -> list[list[str]]:
        """The LLM services' URLs: those of the wanted model, then the fallbacks'."""
        return [_parts(given) for given in (self.llm_url, self.llm_fallback_url)]

    @property
    def llm_tls(self) -> TlsFiles | None:
        """The files for mutual TLS with the LLM services, or None."""
        if self.llm_tls_cert is None or self.llm_tls_key is None:
            return None
        return TlsFiles(self.llm_tls_cert, self.llm_tls_key, self.llm_tls_ca)

    @property
    def reranks(self) -> bool:
        """Whether a reranker is configured."""
        return self.reranker_dir is not None or bool(self.reranker_url)

    @property
    def embedder_folders(self) -> list[Path]:
        """The directories of `embedder_dirs`."""
        return [Path(folder).expanduser() for folder in _parts(self.embedder_dirs)]

    @field_validator("llm_url", "llm_fallback_url")
    @classmethod
    def _check_llm_urls(cls, given: str) -> str:
        for url in _parts(given):
            urls.check(url)
        return given

    @field_validator("embedder_url", "reranker_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if url:
            urls.check(url, credentials=True)
        return url

    @field_validator("memory_url")
    @classmethod
    def _expand_memory(cls, url: str) -> str:
        if not url:
            raise ValueError("set RAG_MEMORY_URL to a file or to a postgresql:// URL")
        return url if "://" in url else str(Path(url).expanduser())

    @field_validator("store_uri")
    @classmethod
    def _expand_uri(cls, uri: str) -> str:
        if not uri:
            raise ValueError("set RAG_STORE_URI to a directory or to an az:// or s3:// URI")
        return uri if "://" in uri else str(Path(uri).expanduser())

    @field_validator(*OPTIONAL_PATHS, mode="before")
    @classmethod
    def _empty_is_none(cls, path: object) -> object:
        return None if path == "" else path  # a Path would make it the working directory

    @field_validator("cache_dir", *OPTIONAL_PATHS)
    @classmethod
    def _expand_path(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _check_embedder(self) -> Self:
        if self.embedder_url and not (self.embedder_model and self.embedder_dimension):
            raise ValueError("RAG_EMBEDDER_URL needs RAG_EMBEDDER_MODEL and RAG_EMBEDDER_DIMENSION")
        if not self.embedder_url and (self.embedder_query_prompt or self.embedder_document_prompt):
            raise ValueError("the prompts of RAG_EMBEDDER_… are for the model of RAG_EMBEDDER_URL")
        return self

    @model_validator(mode="after")
    def _check_reranker(self) -> Self:
        if self.reranker_dir is not None and self.reranker_url:
            raise ValueError("set RAG_RERANKER_DIR or RAG_RERANKER_URL, not both")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        given = {
            path is not None for path in (self.llm_tls_ca, self.llm_tls_cert, self.llm_tls_key)
        }
        if len(given) > 1:
            raise ValueError(
                "set all of RAG_LLM_TLS_CA, RAG_LLM_TLS_CERT and RAG_LLM_TLS_KEY, or none; a "
                "private authority alone is trusted by SSL_CERT_FILE"
            )
        return self


def _parts(given: str) -> list[str]:
    """Return what commas separate."""
    return [part.strip() for part in given.split(",") if part.strip()]
