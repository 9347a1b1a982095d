"""`isthmus eval`: how good retrieval and answers are, on XQuAD or on data of one's own."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cli.errors import CliError, UsageError
from contracts import errors
from rag_graph.errors import RagError
from rag_graph.evals.reads import BY_EVAL, idle
from rag_graph.settings import RagSettings

if TYPE_CHECKING:
    from rag_graph.evals.metrics import Estimate
    from rag_graph.evals.report import Scores
    from rag_graph.llm.pool import LLM

# The evaluations import LanceDB and ONNX Runtime, a second that other commands need not wait for:
# they are imported in the functions that run them.

app = typer.Typer(help="Measure retrieval and answers.", no_args_is_help=True)

XQUAD = Path("../shared/data/xquad/xquad.en.json")
Result = TypeVar("Result")
OnStep = Callable[[str, int, int], None]

DataOption = Annotated[Path, typer.Option("--data", help="SQuAD JSON, or JSON lines.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="First N questions only.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the scores there.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write a page with a chart there.")]
CompareOption = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--compare", help='Two settings, as "candidates=20,rank_constant=60" "candidates=80".'
    ),
]


@app.command()
def retrieval(
    data: DataOption = XQUAD,
    limit: LimitOption = None,
    json_path: JsonOption = None,
    html_path: HtmlOption = None,
    compare: CompareOption = None,
) -> None:
    """Search every question; score where the document that answers it comes."""
    runs: dict[str, Scores] = {}
    facts: dict[str, Any] = {}
    for name, settings in _settings(compare, "retrieval").items():
        with _steps() as on_step:
            methods, found = _run(_retrieval(data, limit, settings, on_step))
        facts |= found
        runs |= {name: next(iter(methods.values()))} if compare else methods
    _report("Retrieval", runs, facts, json_path, html_path, difference=compare is not None)


@app.command()
def answers(
    data: DataOption = XQUAD,
    limit: LimitOption = None,
    json_path: JsonOption = None,
    html_path: HtmlOption = None,
    compare: CompareOption = None,
) -> None:
    """Ask every question of the LLM at RAG_LLM_URL, or of the mock; score the answers."""
    runs: dict[str, Scores] = {}
    facts: dict[str, Any] = {}
    for name, settings in _settings(compare, "answers").items():
        with _steps() as on_step:
            scores, found = _run(_answers(data, limit, settings, on_step))
        facts |= found
        runs[name] = scores
    _report("Answers", runs, facts, json_path, html_path, difference=compare is not None)


async def _retrieval(
    path: Path, limit: int | None, settings: RagSettings, on_step: OnStep
) -> tuple[dict[str, Scores], dict[str, Any]]:
    from rag_graph.evals import datasets
    from rag_graph.evals import retrieval as evals

    data = datasets.load(path, limit)
    with tempfile.TemporaryDirectory(prefix="isthmus-eval-") as folder:
        used = settings.model_copy(update={"store_uri": folder})
        measured = await evals.run(data, *await evals.open_models(used), used, on_step)
    facts = {
        "data": str(path),
        "questions": len(measured.search_ms),
        "documents": measured.documents,
        "chunks": measured.chunks,
        "ingest_s": round(measured.ingest_s, 3),
        "search_ms_p50": round(statistics.median(measured.search_ms), 3),
    }
    return {name: result.scores for name, result in measured.methods.items()}, facts


async def _answers(
    path: Path, limit: int | None, settings: RagSettings, on_step: OnStep
) -> tuple[Scores, dict[str, Any]]:
    from rag_graph.evals import answers as evals
    from rag_graph.evals import datasets
    from rag_graph.evals.retrieval import build, open_models
    from rag_graph.graph import RagGraph

    data = datasets.load(path, limit)
    with tempfile.TemporaryDirectory(prefix="isthmus-eval-") as folder:
        used = settings.model_copy(update={"store_uri": folder})
        retriever, _, _ = await build(data, *await open_models(used), used, on_step)
        client, model = _llm(used)
        try:
            graph = RagGraph(retriever.search, client, used)
            result = await evals.run(data, graph, on_step)
        finally:
            await client.aclose()
    return result.scores, {"data": str(path), "questions": len(data.questions), "llm": model}


def _llm(settings: RagSettings) -> tuple[LLM, str]:
    """Return a client as the gateway has it, and what it is called in the report."""
    from contracts.mock_llm import MockLLM
    from rag_graph import routing
    from rag_graph.llm.asgi_transport import StreamingASGITransport
    from rag_graph.llm.client import LLMClient
    from rag_graph.llm.pool import open_llm
    from rag_graph.llm.router import ModelRouter

    if settings.models_file:
        table = routing.load(settings.models_file)
        return ModelRouter.open(table, settings), str(settings.models_file)
    if not settings.llm_url:
        return LLMClient("http://mock", transport=StreamingASGITransport(MockLLM())), "mock"
    return open_llm(settings), settings.llm_url


def _settings(compare: tuple[str, str] | None, kind: str) -> dict[str, RagSettings]:
    """Return the settings to run, by name: the environment's, or two changes of them."""
    try:
        base = RagSettings()
        if compare is None:
            return {"settings": base}
        a, b = (_changed(base, text, kind) for text in compare)
    except ValidationError as error:
        said = errors.of_settings(error, "RAG_")
        raise UsageError(f"{said} `isthmus config` lists the settings.") from error
    if a == b:
        raise UsageError("--compare needs two different settings.")
    return dict(zip(compare, (a, b), strict=True))


def _changed(base: RagSettings, text: str, kind: str) -> RagSettings:
    changes = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or name not in RagSettings.model_fields:
            raise UsageError(f"{part!r} is not NAME=VALUE of a setting. See isthmus config.")
        if name not in BY_EVAL[kind]:
            known = ", ".join(sorted(BY_EVAL[kind]))
            raise UsageError(f"{name} makes no difference to eval {kind}. These do: {known}.")
        changes[name] = value
    settings = RagSettings.model_validate({**base.model_dump(), **changes})
    if reason := idle(changes, settings):
        raise UsageError(reason)
    return settings


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except RagError as error:
        raise CliError(str(error)) from error


@contextmanager
def _steps() -> Iterator[OnStep]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def on_step(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        yield on_step


def _report(
    title: str,
    runs: Mapping[str, Scores],
    facts: Mapping[str, Any],
    json_path: Path | None,
    html_path: Path | None,
    *,
    difference: bool,
) -> None:
    from rag_graph.evals import report

    body = report.as_json(runs, facts)
    columns = {name: report.estimates(scores) for name, scores in runs.items()}
    if difference:
        a, b = runs.values()
        columns["difference"] = report.compared(a, b)
        body["difference"] = {n: asdict(e) for n, e in columns["difference"].items()}
    console = Console(highlight=False)
    console.print(_table(title, columns))
    for name, value in facts.items():
        console.print(f"{name}: {value}")
    if json_path:
        _write(json_path, json.dumps(body, indent=2) + "\n")
    if html_path:
        _write(html_path, report.as_html(f"{title}: {facts['data']}", runs, facts))


def _table(title: str, columns: Mapping[str, Mapping[str, Estimate]]) -> Table:
    table = Table(title=f"{title}, mean [95 % confidence interval]", title_justify="left")
    for head in ["measure", *columns]:
        table.add_column(head)
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        table.add_row(name, *(_cell(column.get(name)) for column in columns.values()))
    return table


def _cell(value: Estimate | None) -> str:
    return "–" if value is None else f"{value.mean:.4f} [{value.low:.4f}, {value.high:.4f}]"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
