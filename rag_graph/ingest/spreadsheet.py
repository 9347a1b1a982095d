"""XLSX to Markdown: a heading and a table for each sheet.

Not markitdown's own converter, since that one needs pandas, which every Ray process would then
import wherever it is installed: 45 MB in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import openpyxl
from markitdown import DocumentConverter, DocumentConverterResult, StreamInfo


class SpreadsheetConverter(DocumentConverter):
    """Reads the values that the cells were saved with, formulas' results included."""

    def convert(
        self,
        file_stream: BinaryIO,
        stream_info: StreamInfo,
        **_: Any,
    ) -> DocumentConverterResult:
        """Return the workbook as Markdown. Raises what openpyxl raises of a damaged file."""
        book = openpyxl.load_workbook(file_stream, read_only=True, data_only=True)
        try:
            sheets = [
                "\n".join([f"## {sheet.title}\n", *_table(sheet.iter_rows(values_only=True))])
                for sheet in book.worksheets
            ]
        finally:
            book.close()
        return DocumentConverterResult(markdown="\n\n".join(sheets))


def _table(rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    """Yield the lines of a Markdown table whose first row is its head; empty rows are left out."""
    filled = (row for row in rows if any(cell is not None for cell in row))
    for number, row in enumerate(filled):
        yield _line(_text(cell) for cell in row)
        if number == 0:
            yield _line("---" for _ in row)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: object) -> str:
    """Return a cell on one line, its bars escaped."""
    return "" if cell is None else " ".join(str(cell).replace("|", r"\|").split())
