"""Chunks: bounded, whole words, context carried, ids stable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rag_graph.ingest.chunk import split
from rag_graph.ingest.sections import Parsed, Section
from tests.support.rag import FakeEmbedder

EMBEDDER = FakeEmbedder()
WORDS = st.lists(st.text(alphabet="abcd.", min_size=1, max_size=8), min_size=1, max_size=300)


@given(WORDS)
def test_no_chunk_is_too_long_and_no_word_is_lost_or_cut(words: list[str]) -> None:
    parsed = Parsed("T", (Section(" ".join(words)),))
    chunks = split("d", parsed, EMBEDDER, 20)
    assert [word for chunk in chunks for word in chunk.text.split()] == words
    assert all(EMBEDDER.count(chunk.text) <= 20 for chunk in chunks)


def test_the_heading_path_is_context_and_the_page_is_kept() -> None:
    sections = (Section("Body text.", page=4, headings=("Guide", "Pools")),)
    (chunk,) = split("d", Parsed("Guide", sections), EMBEDDER, 50)
    assert chunk.content == "Guide > Pools\nBody text."
    assert (chunk.page, chunk.heading, chunk.text) == (4, "Guide > Pools", "Body text.")


def test_a_long_context_loses_its_outermost_parts_first() -> None:
    sections = (Section("Body.", headings=("far " * 30, "near")),)
    (chunk,) = split("d", Parsed("Title", sections), EMBEDDER, 50)
    assert chunk.context == "near\n"


def test_ids_are_stable_and_unique() -> None:
    parsed = Parsed("T", (Section("Same text."), Section("Same text."), Section("Other.")))
    first = [chunk.chunk_id for chunk in split("d", parsed, EMBEDDER, 50)]
    assert first == [chunk.chunk_id for chunk in split("d", parsed, EMBEDDER, 50)]
    assert len(set(first)) == 3
    assert not set(first) & {c.chunk_id for c in split("e", parsed, EMBEDDER, 50)}
