"""Errors pickle whole, have codes with a status, and are all drawn in the module's docstring."""

from __future__ import annotations

import inspect
import pickle

import pytest

from contracts.errors import STATUS
from rag_graph import errors
from rag_graph.errors import RagError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, RagError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_pickling(kind: type[RagError]) -> None:
    error = kind("What went wrong.", "overloaded", "model", 2.5)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert (str(copy), copy.code, copy.param, copy.retry_after) == (
        "What went wrong.",
        "overloaded",
        "model",
        2.5,
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_has_a_code_with_a_status_and_is_in_the_tree(kind: type[RagError]) -> None:
    assert kind("x").code in STATUS
    assert kind.__name__ in (errors.__doc__ or "")
