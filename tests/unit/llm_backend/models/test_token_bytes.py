from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models

from llm_backend.models.token_bytes import TokenBytes
from llm_backend.models.tokenizer import Tokenizer
from tests.support.tiny_model import write_tiny_model

VOCABULARY = {"<unk>": 0, "▁a": 1, "b": 2, "é": 3, "##c": 4, "<0x41>": 5}
OTHERS = (f"<0x{byte:02X}>" for byte in range(256) if byte != 0x41)
BYTES = {name: i for i, name in enumerate(OTHERS, len(VOCABULARY))}


def fast(decoder: decoders.Decoder | None) -> FastTokenizer:
    made = FastTokenizer(models.BPE(vocab=VOCABULARY | BYTES, merges=[], unk_token="<unk>"))
    if decoder is not None:
        made.decoder = decoder
    made.add_special_tokens(["<s>"])
    return made


def llama() -> decoders.Decoder:
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])


def test_the_bytes_of_byte_level_tokens_are_those_of_the_text(tmp_path: Path) -> None:
    tokenizer = Tokenizer(write_tiny_model(tmp_path))
    every = "".join(map(chr, [*range(0x500), 0x20AC, 0x1F600, 0x10FFFF]))
    found = [tokenizer.token_bytes(token_id) for token_id in tokenizer.encode(every)]
    assert b"".join(found) == every.encode()  # type: ignore[arg-type]


def test_half_a_character_reads_as_one_that_is_broken(tmp_path: Path) -> None:
    tokenizer = Tokenizer(write_tiny_model(tmp_path))
    ids = tokenizer.encode("😀")
    assert [tokenizer.token_bytes(each) for each in ids] == [b"\xf0", b"\x9f", b"\x98", b"\x80"]
    assert [tokenizer.token(each) for each in ids] == ["\ufffd"] * 4


@given(st.binary(max_size=20))
def test_byte_tokens_beside_plain_text(raw: bytes) -> None:
    made = fast(llama())
    ids = [made.token_to_id(f"<0x{byte:02X}>") for byte in raw]
    assert [TokenBytes(made).of(token_id) for token_id in ids] == [bytes([b]) for b in raw]


@pytest.mark.parametrize(
    ("decoder", "piece", "expected"),
    [
        (llama(), "▁a", b" a"),
        (llama(), "b", b"b"),
        (llama(), "é", "é".encode()),
        (llama(), "<s>", b"<s>"),
        (decoders.Metaspace(), "▁a", b" a"),
        (decoders.Metaspace(), "<0x41>", b"<0x41>"),
        (decoders.WordPiece(), "##c", b"c"),
        (decoders.WordPiece(), "b", b" b"),
        (decoders.ByteLevel(), "<s>", b"<s>"),
        (None, "b", b" b"),
    ],
)
def test_what_a_token_adds(decoder: decoders.Decoder | None, piece: str, expected: bytes) -> None:
    made = fast(decoder)
    assert TokenBytes(made).of(made.token_to_id(piece)) == expected


def test_of_a_token_that_the_tokenizer_does_not_know_nothing_can_be_told() -> None:
    assert TokenBytes(fast(llama())).of(10_000) is None
