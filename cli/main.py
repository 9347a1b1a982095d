"""The `isthmus` command: wiring only, one module for each subcommand."""

from __future__ import annotations

import sys

import typer

from cli import ask, cluster, collections, config, doctor, ingest, mcp, up
from cli import eval as evaluation
from cli.errors import CliError

app = typer.Typer(
    name="isthmus",
    help="Answers from your documents: starts the system, feeds it, asks it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("ingest")(ingest.ingest)
app.command("ask")(ask.ask)
app.command("mcp")(mcp.mcp)
app.command("doctor")(doctor.doctor)
app.command("config")(config.config)
app.add_typer(collections.app, name="collections")
app.add_typer(cluster.app, name="cluster")
app.add_typer(evaluation.app, name="eval")


def main() -> None:
    """Run the command; an error of ours is one sentence and a status, never a traceback."""
    try:
        app()
    except CliError as error:
        typer.echo(f"isthmus: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
