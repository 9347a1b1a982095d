"""`isthmus cluster`: prove the isolation, and run the system's custom resources on Kubernetes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.cluster_views import proof_table, states_table
from kuberay import changes, replicas
from kuberay.client import Cluster
from kuberay.errors import ClusterError, ManifestError, NotFoundError
from kuberay.models import Kind, Object, kind_of, state_of
from kuberay.pods import Manifest, load_manifests, pods_of
from kuberay.pools import pools_from_file
from kuberay.proof import Proof, prove
from kuberay.wait import wait_ready

app = typer.Typer(help="Prove and run Isthmus on Kubernetes.", no_args_is_help=True)

Context = Annotated[str, typer.Option(help="Context of the kubeconfig. Default: the current one.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Default: the context's.")]
ApiTimeout = Annotated[float, typer.Option(help="Seconds that one API call may take.", min=0.1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Let the server check, change nothing.")]
Pools = Annotated[
    Path | None,
    typer.Option(help="Values file with `nodePools`, or JSON of `terraform show -json`."),
]
Name = Annotated[str, typer.Argument(help="Name of a RayService, MPIJob or RayCluster.")]


@app.command("prove")
def prove_command(
    source: Annotated[
        str, typer.Argument(help="Rendered manifests, `-` for standard input, or a chart folder.")
    ],
    values: Annotated[
        list[Path] | None, typer.Option("--values", "-f", help="Values files for a chart folder.")
    ] = None,
    pools: Pools = None,
    helm: Annotated[str, typer.Option(help="Helm, for a chart folder.")] = "helm",
) -> None:
    """Prove that Ray cannot land on a GPU node and LLM ranks can. Exits 1 if not."""
    with _reported():
        files = values or []
        if Path(source).is_dir() and not files:
            files = [Path(source) / "values.yaml"]
        pool_file = pools or (files[-1] if files else None)
        if pool_file is None:
            raise ManifestError("Say which node pools there are: --pools FILE.")
        node_pools = pools_from_file(pool_file)
        proof = prove(pods_of(_manifests(source, files, helm)), node_pools)
        # Piped or logged, a proof must not be folded to a terminal that is not there.
        console = Console(width=None if sys.stdout.isatty() else 200)
        console.print(proof_table(proof, node_pools))
        _conclude(proof)


@app.command("apply")
def apply_command(
    source: Annotated[str, typer.Argument(help="Manifests, or `-` for standard input.")],
    pools: Pools = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take over fields that others manage.")
    ] = False,
    dry_run: DryRun = False,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Apply RayServices, RayClusters and MPIJobs; with --pools only if isolation is proven."""
    with _reported(), _connected(context, namespace, api_timeout, dry_run) as cluster:
        manifests = _manifests(source, [], "")
        kinds = [kind_of(m) for m in manifests]  # refuse all before changing one
        if pools is not None:
            _conclude(prove(pods_of(manifests), pools_from_file(pools)))
        for kind, manifest in zip(kinds, manifests, strict=True):
            cluster.apply(_remembering(cluster, kind, manifest), force=force)
            name = manifest["metadata"]["name"]
            _say(f"{kind} {name} applied{_until_restart(kind, name)}", dry_run)


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="Default: everything in the namespace.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Print a line at every change.")] = False,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Show what runs."""
    with _reported(), _connected(context, namespace, api_timeout) as cluster:
        if watch:
            if not name:
                raise ManifestError("Say what to watch: isthmus cluster status NAME --watch.")
            found = cluster.find(name)
            for change in cluster.watch(kind_of(found), name):
                typer.echo(state_of(change).line)
            return
        objects = [cluster.find(name)] if name else _everything(cluster)
        if not objects:
            typer.echo(f"Nothing runs in namespace {cluster.namespace}. Install helm/isthmus.")
            return
        Console().print(states_table(state_of(found) for found in objects))


@app.command()
def wait(
    name: Name,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=0)] = 1800,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Wait until an object is ready, telling every change on the way."""
    with _reported(), _connected(context, namespace, api_timeout) as cluster:
        wait_ready(cluster, name, timeout_s=timeout, on_progress=typer.echo)


@app.command()
def scale(
    name: Name,
    group: Annotated[str, typer.Option(help="Ray worker group to scale.")] = "",
    deployment: Annotated[str, typer.Option(help="Serve deployment to scale.")] = "",
    low: Annotated[int | None, typer.Option("--min", help="Fewest replicas.", min=0)] = None,
    high: Annotated[int | None, typer.Option("--max", help="Most replicas.", min=1)] = None,
    dry_run: DryRun = False,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Set the bounds between which a worker group or a Serve deployment scales."""
    with _reported(), _connected(context, namespace, api_timeout, dry_run) as cluster:
        if bool(group) == bool(deployment) or (low is None and high is None):
            raise ManifestError("Give either --group or --deployment, and --min, --max or both.")
        change = (
            changes.scale_group(group, low, high)
            if group
            else changes.scale_deployment(deployment, low, high)
        )
        kind: Kind = "RayService" if deployment else _ray_kind(cluster, name)
        changes.retry_conflicts(cluster, kind, name, change)
        _say(f"{kind} {name}: {group or deployment} scaled", dry_run)


@app.command()
def logs(
    name: Name,
    tail: Annotated[int, typer.Option(help="Lines from the end of each log.", min=0)] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with the first pod's.")] = False,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Print the logs of an object's pods."""
    with _reported(), _connected(context, namespace, api_timeout) as cluster:
        pods = cluster.pods(cluster.find(name))
        if not pods:
            raise NotFoundError(f"{name} has no pods now; `isthmus cluster status` tells why.")
        for pod in pods[:1] if follow else pods:
            for line in cluster.logs(pod.name, tail=tail, follow=follow):
                typer.echo(f"{pod.name}: {line}")


@app.command()
def rollback(
    name: Name,
    dry_run: DryRun = False,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Undo the last change that `isthmus cluster` made; a second time redoes it."""
    with _reported(), _connected(context, namespace, api_timeout, dry_run) as cluster:
        kind = kind_of(cluster.find(name))
        changes.retry_conflicts(cluster, kind, name, changes.restore)
        _say(f"{kind} {name} rolled back{_until_restart(kind, name)}", dry_run)


@app.command()
def suspend(
    name: Annotated[str, typer.Argument(help="Name of an MPIJob.")],
    dry_run: DryRun = False,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Free an LLM replica's pods, so that its GPU nodes can scale to zero."""
    with _reported(), _connected(context, namespace, api_timeout, dry_run) as cluster:
        replicas.suspend(cluster, name)
        _say(f"MPIJob {name} suspended", dry_run)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="Name of an MPIJob.")],
    dry_run: DryRun = False,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Bring a suspended LLM replica back, with what its spec says now."""
    with _reported(), _connected(context, namespace, api_timeout, dry_run) as cluster:
        replicas.resume(cluster, name)
        _say(f"MPIJob {name} resumed", dry_run)


@app.command()
def restart(
    name: Annotated[str, typer.Argument(help="Name of an MPIJob.")],
    timeout: Annotated[float, typer.Option(help="Seconds for the old pods to end.", min=0)] = 600,
    context: Context = "",
    namespace: Namespace = "",
    api_timeout: ApiTimeout = 10.0,
) -> None:
    """Give an LLM replica new pods: a new image or setting reaches it by nothing else."""
    with _reported(), _connected(context, namespace, api_timeout) as cluster:
        replicas.restart(cluster, name, timeout_s=timeout, on_progress=typer.echo)
        typer.echo(f"MPIJob {name} restarted; `isthmus cluster wait {name}` waits for its model")


@contextmanager
def _reported() -> Iterator[None]:
    """Print a failure as its sentence and exit with 1."""
    try:
        yield
    except ClusterError as error:
        typer.echo(f"isthmus cluster: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _connected(
    context: str, namespace: str, api_timeout: float, dry_run: bool = False
) -> Iterator[Cluster]:
    with Cluster.connect(
        context=context, namespace=namespace, timeout_s=api_timeout, dry_run=dry_run
    ) as cluster:
        yield cluster


def _manifests(source: str, values: list[Path], helm: str) -> list[Manifest]:
    if source == "-":
        return load_manifests(sys.stdin.read(), "standard input")
    path = Path(source)
    if path.is_dir():
        return load_manifests(_helm_template(path, values, helm), f"helm template {path}")
    try:
        return load_manifests(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"Cannot read manifests from {path}: {error}") from error


def _helm_template(chart: Path, values: list[Path], helm: str) -> str:
    command = [helm, "template", "isthmus", str(chart)]
    for file in values:
        command += ["--values", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ManifestError(
            f"Cannot run {helm}: {error}. Install Helm, or pipe `helm template` into `-`."
        ) from error
    if done.returncode:
        raise ManifestError(f"helm template refused the values: {done.stderr.strip()}")
    return done.stdout


def _conclude(proof: Proof) -> None:
    for finding in proof.findings:
        typer.echo(f"✗ {finding}", err=True)
    if not proof.holds:
        raise typer.Exit(1)
    typer.echo("Proven: Ray stays off GPU nodes by two layers, each alone; LLM ranks reach theirs.")


def _remembering(cluster: Cluster, kind: Kind, manifest: Object) -> Object:
    """Return the manifest with the live object's spec noted in it, if there is one."""
    try:
        live = dict(cluster.get(kind, manifest["metadata"]["name"]))
    except NotFoundError:
        return manifest
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), **changes.memory_of(live)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _everything(cluster: Cluster) -> list[Object]:
    services = cluster.list_all("RayService")
    return [
        *services,
        *cluster.list_all("MPIJob"),
        *(cluster.list_all("RayCluster") if not services else []),
    ]


def _ray_kind(cluster: Cluster, name: str) -> Kind:
    kind = kind_of(cluster.find(name))
    if kind == "MPIJob":
        raise ManifestError(
            f"{name} is an MPIJob, whose size is its tensor parallelism. Change the number of "
            "copies with the chart's llm.replicas, or use suspend and resume."
        )
    return kind


def _until_restart(kind: Kind, name: str) -> str:
    return f"; its pods change with `isthmus cluster restart {name}`" if kind == "MPIJob" else ""


def _say(text: str, dry_run: bool) -> None:
    typer.echo(text + (" (dry run: nothing was changed)" if dry_run else ""))
