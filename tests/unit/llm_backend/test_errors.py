from __future__ import annotations

from contracts.errors import STATUS
from llm_backend import errors


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    direct = set(kind.__subclasses__())
    return direct.union(*map(subclasses, direct))


def test_exit_codes_are_distinct() -> None:
    codes = [kind.exit_code for kind in subclasses(errors.StartupError)]  # type: ignore[attr-defined]
    assert sorted(codes) == sorted(set(codes))
    assert not {0, 1} & set(codes)


def test_every_request_error_has_a_status() -> None:
    assert {kind.code for kind in subclasses(errors.RequestError)} <= set(STATUS)  # type: ignore[attr-defined]


def test_the_tree_is_drawn() -> None:
    assert errors.__doc__ is not None
    for kind in subclasses(errors.LlmError):
        assert kind.__name__ in errors.__doc__
