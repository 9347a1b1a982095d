"""Everything that `rag_graph` raises on purpose.

    RagError
    ├── DocumentError                    one document cannot go in; the others can
    │   ├── UnsupportedDocumentError     a type that we do not read
    │   ├── UnreadableDocumentError      broken, encrypted, not what its name says
    │   ├── EmptyDocumentError           nothing to index in it
    │   └── DocumentTooLargeError        over a limit of the settings
    ├── NotFoundError                    no such document or job
    │   └── CollectionNotFoundError      no such collection
    ├── CollectionExistsError            a collection of that name is there already
    ├── BusyError                        too many jobs are waiting
    ├── InvalidQueryError                a question or search that cannot be run as asked
    ├── StoreError                       the vector store cannot be read or written
    ├── MemoryStoreError                 conversations cannot be read or written
    ├── ModelTableError                  the table of models cannot be used
    ├── ToolTableError                   the table of MCP servers cannot be used
    ├── ToolError                        a tool cannot be called, or failed
    ├── LLMTlsError                      the files for mutual TLS cannot be used
    ├── EvalDataError                    a data set cannot be read
    ├── EmbedderError                    the embedding model is missing, broken or does not fit
    ├── RerankerError                    the reranking model is missing, broken or fails
    └── LLMError                         the LLM service did not answer
        ├── LLMRequestError              it refused the request: sending it again is useless
        ├── LLMUnavailableError          it is down, overloaded or failed: try again later
        ├── LLMTimeoutError              it did not answer within the deadline
        └── LLMStreamError               it broke off, or spoke nonsense, mid-answer

`code` is one of `contracts.errors.Code` and `str(error)` the sentence for a person. Every class
takes positional arguments only: keyword-only ones do not survive the pickling that Ray does.
"""

from __future__ import annotations

from contracts.errors import Code, CodedError


class RagError(CodedError):
    """Base of the tree. `code` names the failure for programs, `param` the field at fault."""


class DocumentError(RagError):
    """One document cannot be ingested."""

    default_code = Code.UNREADABLE_DOCUMENT


class UnsupportedDocumentError(DocumentError):
    """The document is of a type that Isthmus does not read."""

    default_code = Code.UNSUPPORTED_MEDIA_TYPE


class UnreadableDocumentError(DocumentError):
    """The document is broken, encrypted, or not what its name says."""


class EmptyDocumentError(DocumentError):
    """The document holds no text."""


class DocumentTooLargeError(DocumentError):
    """The document exceeds a size, page or time limit."""

    default_code = Code.PAYLOAD_TOO_LARGE


class NotFoundError(RagError):
    """No such document or job."""

    default_code = Code.NOT_FOUND


class CollectionNotFoundError(NotFoundError):
    """No such collection."""


class CollectionExistsError(RagError):
    """A collection of that name is there already."""

    default_code = Code.CONFLICT


class BusyError(RagError):
    """Too many jobs are waiting; try again later."""

    default_code = Code.OVERLOADED


class InvalidQueryError(RagError):
    """A question or search cannot be run as asked."""

    default_code = Code.INVALID_REQUEST


class StoreError(RagError):
    """The vector store cannot be read or written."""


class EmbedderError(RagError):
    """The embedding model is missing, broken, or does not fit the collection."""


class RerankerError(RagError):
    """The reranking model is missing, broken, or failed; a search goes on without it."""


class MemoryStoreError(RagError):
    """Conversations cannot be read or written."""


class ModelTableError(RagError):
    """The table of models cannot be used."""

    default_code = Code.INVALID_REQUEST


class ToolTableError(RagError):
    """The table of MCP servers cannot be used."""

    default_code = Code.INVALID_REQUEST


class ToolError(RagError):
    """A tool cannot be called, or failed; the answer goes on without it."""

    default_code = Code.UPSTREAM_ERROR


class EvalDataError(RagError):
    """A data set for evaluation cannot be read."""

    default_code = Code.INVALID_REQUEST


class LLMError(RagError):
    """The LLM service did not answer."""

    default_code = Code.UPSTREAM_ERROR


class LLMRequestError(LLMError):
    """The LLM service refused the request."""

    default_code = Code.INVALID_REQUEST


class LLMUnavailableError(LLMError):
    """The LLM service is down, overloaded or failed."""


class LLMTimeoutError(LLMError):
    """The LLM service did not answer within the deadline."""

    default_code = Code.REQUEST_TIMEOUT


class LLMStreamError(LLMError):
    """The LLM service broke off mid-answer, or sent what is not the contract."""


class LLMTlsError(RagError):
    """The files for mutual TLS with the LLM service cannot be used."""
