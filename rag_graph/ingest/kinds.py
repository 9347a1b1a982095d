"""What a file is, from its bytes first and its name second."""

from __future__ import annotations

import io
import zipfile
from enum import StrEnum
from pathlib import PurePosixPath

from rag_graph.errors import (
    DocumentTooLargeError,
    EmptyDocumentError,
    UnreadableDocumentError,
    UnsupportedDocumentError,
)

READABLE = "PDF, DOCX, PPTX, XLSX, EPUB, HTML, CSV, Markdown, plain text and source code"
MAX_ZIP_ENTRIES = 20_000
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_MARK_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Kind(StrEnum):
    """The kinds of document that can be read."""

    PDF = "PDF"
    DOCX = "DOCX"
    PPTX = "PPTX"
    XLSX = "XLSX"
    EPUB = "EPUB"
    HTML = "HTML"
    CSV = "CSV"
    MARKDOWN = "Markdown"
    TEXT = "text"


ENDINGS = {
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".csv": Kind.CSV,
}
"""Kinds of text that only the name tells apart; any other text is taken as it is."""

BINARY_ENDINGS = {
    ".pdf": Kind.PDF,
    ".docx": Kind.DOCX,
    ".pptx": Kind.PPTX,
    ".xlsx": Kind.XLSX,
    ".epub": Kind.EPUB,
}
_OFFICE_FOLDERS = {"word": Kind.DOCX, "ppt": Kind.PPTX, "xl": Kind.XLSX}


def detect(name: str, content: bytes, max_unzipped_bytes: int) -> Kind:
    """Return what `content` is. A PDF named `.txt` is a PDF; random bytes named `.md` are refused.

    Args:
        name: the file's name; its ending decides between kinds of text only.
        content: the whole file.
        max_unzipped_bytes: the most that a zipped format may unpack to.

    Raises:
        EmptyDocumentError: there is nothing in it.
        UnsupportedDocumentError: it is of no kind that can be read.
        UnreadableDocumentError: it is not what its name says, or broken.
        DocumentTooLargeError: it unpacks to more than the limit.
    """
    if not content.strip():
        raise EmptyDocumentError(f"{name} is empty. Check that it was saved and uploaded whole.")
    if content.startswith(b"PK\x03\x04"):
        return _zipped(name, content, max_unzipped_bytes)
    suffix = PurePosixPath(name).suffix.lower()
    if _is_pdf(name, suffix, content):
        return Kind.PDF
    _refuse_legacy(name, content)
    if suffix in BINARY_ENDINGS:
        raise UnreadableDocumentError(
            f"{name} is not a {BINARY_ENDINGS[suffix]} file, whatever its name says. "
            "It may be cut off or damaged: open it, or upload it again."
        )
    decode(name, content)
    return ENDINGS.get(suffix, Kind.HTML if _looks_like_html(content) else Kind.TEXT)


def decode(name: str, content: bytes) -> str:
    """Return `content` as text: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        UnreadableDocumentError: it is neither.
    """
    if content.startswith(_MARK_UTF16):
        return _decode(name, content, "utf-16")
    controls = len(content[:65536]) - len(content[:65536].translate(None, _CONTROLS))
    if controls:
        raise UnreadableDocumentError(
            f"{name} is not text: it holds control bytes. Isthmus reads {READABLE}."
        )
    return _decode(name, content, "utf-8-sig")


def _decode(name: str, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableDocumentError(
            f"{name} is not UTF-8 text (byte {error.start} is wrong). Save it as UTF-8."
        ) from error


def _is_pdf(name: str, suffix: str, content: bytes) -> bool:
    """Whether it is a PDF. Readers take one whose header has other bytes before it.

    Within the first 1,024 (Adobe's PDF Reference 1.7, H.3), but a text may speak of it there.
    """
    if b"%PDF-" not in content[:1024]:
        return False
    return content.startswith(b"%PDF-") or suffix == ".pdf" or not _is_text(name, content)


def _is_text(name: str, content: bytes) -> bool:
    try:
        decode(name, content)
    except UnreadableDocumentError:
        return False
    return True


def _zipped(name: str, content: bytes, limit: int) -> Kind:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UnreadableDocumentError(
            f"{name} is a broken archive: {error}. It may be cut off: upload it again."
        ) from error
    # zipfile never reads more of an entry than is declared here, so a lie gains nothing.
    if sum(e.file_size for e in entries) > limit or len(entries) > MAX_ZIP_ENTRIES:
        raise DocumentTooLargeError(
            f"{name} unpacks to more than {limit} bytes or {MAX_ZIP_ENTRIES} files. "
            "Split it, or raise RAG_MAX_UNZIPPED_BYTES."
        )
    folders = {e.filename.split("/")[0] for e in entries}
    for folder, kind in _OFFICE_FOLDERS.items():
        if folder in folders and "[Content_Types].xml" in folders:
            return kind
    if {"META-INF", "mimetype"} <= folders:
        return Kind.EPUB
    raise UnsupportedDocumentError(
        f"{name} is an archive. Unpack it and ingest its files; Isthmus reads {READABLE}."
    )


def _refuse_legacy(name: str, content: bytes) -> None:
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise UnsupportedDocumentError(
            f"{name} is an old or a password-protected Office file. "
            "Save it without a password as DOCX, PPTX or XLSX."
        )
    if content.startswith(b"{\\rtf"):
        raise UnsupportedDocumentError(f"{name} is an RTF file. Save it as DOCX.")


def _looks_like_html(content: bytes) -> bool:
    return (
        content[:512]
        .lstrip(b"\xef\xbb\xbf \t\r\n")
        .lower()
        .startswith((b"<!doctype html", b"<html"))
    )
