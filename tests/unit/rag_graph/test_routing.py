"""The routing policy, over tables made for the case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.openai import ChatMessage
from rag_graph.errors import LLMRequestError, ModelTableError
from rag_graph.routing import Decision, ModelEntry, Wanted, decide, estimate_tokens, load

SMALL = ModelEntry(
    name="small",
    context_tokens=1000,
    input_price=1,
    output_price=2,
    strengths=frozenset({"lookup"}),
)
LARGE = ModelEntry(
    name="large",
    context_tokens=9000,
    input_price=10,
    output_price=20,
    strengths=frozenset({"multi_hop"}),
)
SPARE = ModelEntry(name="spare", input_price=5, output_price=5)
TABLE = (SMALL, LARGE, SPARE)


def chosen(*down: str, **wanted: Any) -> tuple[list[str], str]:
    fields: dict[str, Any] = {
        "task": "lookup",
        "prompt_tokens": 500,
        "answer_tokens": 100,
        **wanted,
    }
    decision: Decision = decide(TABLE, Wanted(**fields), lambda name: name not in down)
    return [entry.name for entry in decision.chain], decision.reason


def test_the_strong_come_first_then_the_cheap() -> None:
    assert chosen() == (["small", "spare", "large"], "strong at lookup")
    assert chosen(task="multi_hop") == (["large", "small", "spare"], "strong at multi_hop")
    assert chosen(task="rewrite") == (["small", "spare", "large"], "the cheapest that fits")


def test_who_is_asked_for_answers_alone() -> None:
    assert chosen("spare", model="spare", task="multi_hop") == (["spare"], "asked for by name")
    with pytest.raises(LLMRequestError, match=r"no model 'huge'; there are: small, large, spare"):
        chosen(model="huge")


def test_a_long_prompt_needs_room() -> None:
    assert chosen(prompt_tokens=950)[0] == ["spare", "large"]
    table = (SMALL, LARGE)
    long = decide(table, Wanted("lookup", 950, 100), lambda _: True)
    assert (long.chain, long.reason) == (
        (LARGE,),
        "the only model with room for it within the budget",
    )
    longest = decide(table, Wanted("lookup", 9000, 100), lambda _: True)
    assert longest.chain == (LARGE,)
    assert "too long for every model" in longest.reason


def test_the_budget_holds() -> None:
    price = SPARE.cost(500, 100)
    assert chosen(task="multi_hop", budget=price)[0] == ["small", "spare"]
    names, reason = chosen(budget=1e-9)
    assert names == ["small"]
    assert "over the budget" in reason


def test_the_sick_come_last() -> None:
    assert chosen("small") == (
        ["spare", "large", "small"],
        "the cheapest that fits; down now: small",
    )
    names, reason = chosen("small", "large", "spare")
    assert names == ["small", "spare", "large"]
    assert "none looks healthy" in reason


def test_one_model_is_the_only_one() -> None:
    only = decide((SMALL,), Wanted("multi_hop", 1, 1), lambda _: True)
    assert only == Decision((SMALL,), "the only model")


def test_a_price_is_for_a_million_tokens() -> None:
    assert LARGE.cost(1_000_000, 500_000) == 20.0


def test_estimates_grow_with_the_text() -> None:
    messages = [ChatMessage(role="user", content="x" * 300)]
    assert 100 <= estimate_tokens(messages) <= 120


def write(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text)
    return path


def test_a_table_is_read(tmp_path: Path) -> None:
    text = '[[models]]\nname = "a"\nurls = ["http://x"]\nstrengths = ["lookup"]\ninput_price = 0.5'
    (entry,) = load(write(tmp_path, text))
    assert (entry.name, entry.urls, entry.input_price) == ("a", ("http://x",), 0.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models = 1 2", "not TOML"),
        ("", "models"),
        ('[[models]]\nname = "a"\nprice = 1', "price"),
        ('[[models]]\nname = "a"\nstrengths = ["poetry"]', "strengths"),
        ('[[models]]\nname = "a"\n[[models]]\nname = "a"', "same name"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ModelTableError, match=words):
        load(write(tmp_path, text))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelTableError, match="cannot be read"):
        load(tmp_path / "none.toml")
