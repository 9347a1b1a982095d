from __future__ import annotations

from tests.support import chart


def test_it_allows_what_the_command_line_does_and_no_secrets() -> None:
    rules = chart.one(chart.rendered("secrets-and-people"), "Role")["rules"]
    granted = {(r, v) for rule in rules for r in rule["resources"] for v in rule["verbs"]}
    assert ("mpijobs", "patch") in granted
    assert ("pods/log", "get") in granted
    assert not any(verb == "*" or "secret" in resource for resource, verb in granted)
    assert [resource for resource, verb in granted if verb == "delete"] == ["jobs"]


def test_nobody_needs_it_by_default() -> None:
    assert chart.objects(chart.rendered("prod"), "Role") == {}
