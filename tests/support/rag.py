"""Small stand-ins for the RAG tests: an embedder without a model, documents, passages."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from rag_graph.retrieval.vectors import Vectors
from rag_graph.state import Passage

DIMENSION = 64


class FakeEmbedder:
    """Hashes words into a vector: texts that share words are near. Counts what it embeds."""

    name = "fake"
    dimension = DIMENSION
    max_tokens = 100

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def count(self, text: str) -> int:
        return len(text.split())

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        vectors = np.full((len(texts), DIMENSION), 1e-3, np.float32)
        for i, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[i, zlib.crc32(word.encode()) % DIMENSION] += 1
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    async def embed_query(self, text: str) -> Vectors:
        found: Vectors = (await self.embed([text]))[0]
        return found


def passage(text: str, number: int = 1, **fields: object) -> Passage:
    """Return a passage of document `d<number>`."""
    values: dict[str, object] = {
        "chunk_id": f"c{number}",
        "document_id": f"d{number}",
        "title": f"Title {number}",
        "source": f"docs/{number}.md",
        "text": text,
        "score": 1.0 / number,
    }
    return Passage(**{**values, **fields})  # type: ignore[arg-type]


def pdf(*pages: str) -> bytes:
    """Return a PDF whose pages hold one line of text each."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * i} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    return _assemble(objects)


def encrypted_pdf() -> bytes:
    """Return a PDF that asks for a password, which nobody knows."""
    lock = f"<< /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >>"
    ids = f"/Encrypt {lock} /ID [<{'43' * 16}> <{'43' * 16}>]"
    return pdf("Nobody reads this.").replace(b"trailer << ", b"trailer << " + ids.encode() + b" ")


def _assemble(objects: Sequence[str]) -> bytes:
    body, offsets = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    return (
        body
        + (
            f"xref\n0 {size}\n0000000000 65535 f \n{table}"
            f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
        ).encode()
    )
