from __future__ import annotations

from tests.support import chart


def test_people_and_accounts_are_bound() -> None:
    binding = chart.one(chart.rendered("secrets-and-people"), "RoleBinding")
    assert binding["roleRef"]["name"] == "isthmus-operator"
    assert binding["subjects"] == [
        {"kind": "Group", "name": "ops", "apiGroup": "rbac.authorization.k8s.io"},
        {"kind": "ServiceAccount", "name": "ci", "namespace": "rag"},
    ]
