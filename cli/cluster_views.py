"""How `isthmus cluster` shows proofs and states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from kuberay.models import State
from kuberay.placement import NodePool, Verdict
from kuberay.proof import Proof


def proof_table(proof: Proof, pools: Sequence[NodePool]) -> Table:
    """Return pods by node pools: where each may land, and every reason why not elsewhere."""
    table = Table(title="Where pods may land", show_lines=True)
    table.add_column("Pod", overflow="fold")
    for pool in pools:
        spot = ", spot" if pool.spot else ""
        table.add_column(f"{pool.name}\n({pool.role}{spot})", overflow="fold")
    for owners, row in _rows(proof.verdicts, len(pools)):
        table.add_row("\n".join(owners), *(_cell(verdict) for verdict in row))
    return table


def _rows(verdicts: Sequence[Verdict], width: int) -> Iterable[tuple[list[str], Sequence[Verdict]]]:
    """Fold pods that are judged alike into one row."""
    rows: dict[tuple[tuple[str, ...], ...], tuple[list[str], Sequence[Verdict]]] = {}
    for start in range(0, len(verdicts), width):
        row = verdicts[start : start + width]
        alike = (row[0].pod.side, *(tuple(v.blocked_by.values()) for v in row))
        owners, _ = rows.setdefault(alike, ([], row))  # type: ignore[arg-type]
        owners.append(row[0].pod.owner)
    return rows.values()


def _cell(verdict: Verdict) -> Text:
    if verdict.lands:
        return Text("may land", style="bold green")
    return Text("\n".join(verdict.blocked_by.values()), style="dim")


def states_table(states: Iterable[State]) -> Table:
    """Return one line for each object."""
    table = Table()
    for column in ("Kind", "Name", "State"):
        table.add_column(column, overflow="fold")
    for state in states:
        style = "red" if state.failed else "green" if state.ready else "yellow"
        table.add_row(state.kind, state.name, Text(state.line, style=style))
    return table
