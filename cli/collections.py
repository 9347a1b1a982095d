"""`isthmus collections`: what there is, what embeds it, and another embedder without downtime."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cli.errors import GatewayError
from cli.gateway import Gateway
from cli.settings import CliSettings

app = typer.Typer(help="Collections: list, make, delete, embed anew.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The collection.")]
PAGE = 1000


@app.command("list")
def show() -> None:
    """List the collections."""
    with Gateway.of(CliSettings()) as gateway:
        found = gateway.get("/v1/collections")["collections"]
    table = Table("Collection", "Documents", "Chunks", "Embedder", "Chunk tokens", "Before")
    for one in found:
        numbers = (str(one[field]) for field in ("documents", "chunks"))
        before = one["previous_embedder"] or ""
        table.add_row(one["name"], *numbers, one["embedder"], str(one["chunk_tokens"]), before)
    Console().print(table)


@app.command()
def create(
    name: Name,
    embedder: Annotated[str | None, typer.Option(help="What embeds it.")] = None,
    chunk_tokens: Annotated[int | None, typer.Option(help="Longest chunk, tokens.")] = None,
) -> None:
    """Make a collection."""
    with Gateway.of(CliSettings()) as gateway:
        made = gateway.post(
            "/v1/collections", {"name": name, "embedder": embedder, "chunk_tokens": chunk_tokens}
        )
    Console().print(
        f"{name}: embedded by {made['embedder']}, chunks of {made['chunk_tokens']} tokens."
    )


@app.command()
def documents(name: Name) -> None:
    """List a collection's documents."""
    console = Console(highlight=False, soft_wrap=True)
    with Gateway.of(CliSettings()) as gateway:
        after, more = "", True
        while more:
            page = gateway.get("/v1/documents", collection=name, after=after, limit=PAGE)
            for one in page["documents"]:
                console.print(f"{one['id']}  {one['chunks']:>5} chunks  {one['name']}")
                after = one["name"]
            more = page["has_more"]


@app.command()
def remove(name: Name, document: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Delete a document."""
    with Gateway.of(CliSettings()) as gateway:
        gateway.delete(f"/v1/documents/{document}", collection=name)
    Console().print(f"{document} is gone from {name}.")


@app.command()
def delete(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a collection and all its documents."""
    if not yes:
        typer.confirm(f"Delete {name} and all its documents?", abort=True)
    with Gateway.of(CliSettings()) as gateway:
        gateway.delete(f"/v1/collections/{name}")
    Console().print(f"{name} is gone.")


@app.command()
def embed(name: Name, embedder: Annotated[str, typer.Argument(help="The new embedder.")]) -> None:
    """Embed a collection anew, while it goes on answering."""
    with Gateway.of(CliSettings()) as gateway:
        _follow(gateway, gateway.post(f"/v1/collections/{name}/re-embed", {"embedder": embedder}))


@app.command()
def rollback(name: Name) -> None:
    """Go back to the embedder before."""
    with Gateway.of(CliSettings()) as gateway:
        _follow(gateway, gateway.post(f"/v1/collections/{name}/rollback", {}))


def _follow(gateway: Gateway, job: dict[str, Any]) -> None:
    """Show a job until it has ended.

    Raises:
        GatewayError: it failed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(highlight=False, soft_wrap=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Embedding {job['collection']} anew", total=None)
        for news in gateway.follow(job["id"]):
            job = news
            progress.update(task, completed=job["chunks_done"], total=job["chunks_total"])
    if job["error"] is not None:
        raise GatewayError(job["error"]["message"])
    console.print(f"{job['collection']} is embedded by {job['name']}: {job['status']}.")
