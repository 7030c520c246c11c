"""`ssim policy`: what a policy decides, whether it obeys the policy interface, and which engine runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssim.commands.group import CommandGroup, example
from ssim.commands.options import (
    completed,
    json_option,
    parse_where,
    policy_names,
    stored_jobs,
    table_names,
    where_option,
)
from ssim.commands.printing import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sim.compiled.step_policy import StepPolicy
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable
    from ssim.results.visits import Visits

_name = click.argument("name", shell_complete=completed(policy_names))
table_option = click.option(
    "--table",
    "table_name",
    default="ofa-resnet50-rtx2080ti",
    show_default=True,
    metavar="NAME|FILE",
    shell_complete=completed(table_names),
    help="The latency table to decide with; `ssim table list` names those that are shipped.",
)
parameters = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter, such as buckets=40. Repeatable.",
)


@click.group(cls=CommandGroup)
def policy() -> None:
    """Scheduling policies: which there are, whether they obey the policy interface, and what they decide.

    NAME is a short name (see `ssim policy list`), module:Class, or FILE.py:Class for a policy of your own.
    """


@policy.command("list", epilog=example("ssim policy list"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the shipped policies, with their parameters and defaults."""
    from policies import SHORT_NAMES

    print_plug_ins(SHORT_NAMES, "policy", as_json=as_json)


def print_plug_ins(names: Mapping[str, str], noun: str, *, as_json: bool) -> None:
    """Print the shipped plug-ins of a sort, with their parameters and defaults.

    Args:
        names: What their short names stand for.
        noun: What messages call such a plug-in.
        as_json: Whether as JSON.
    """
    import dataclasses

    from ssim.files.plugins import find_class

    found = []
    for name in sorted(names):
        owner = find_class(name, names, noun)
        fields = (field for field in dataclasses.fields(owner) if field.init)
        given = [f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default}" for f in fields]
        found.append({"name": name, "about": (owner.__doc__ or "").splitlines()[0], "parameters": given})
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(f"{one['name']}: {one['about']}\n    {', '.join(one['parameters']) or 'no parameters'}")


@policy.command(epilog=example("ssim policy check slackfit --set buckets=40", "ssim policy check my_policy.py:Mine"))
@_name
@table_option
@where_option
@parameters
def check(name: str, table_name: str, choices: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Check that a policy obeys the policy interface, and print which engine runs it and why.

    The policy is asked at every latency of the table and around it, with short and long queues. Its decisions must be
    possible, and the same for the same situation.
    """
    from policies.checks import check_policy
    from sim.compiled.step_policy import StepPolicy
    from sim.compiled.tabulate import NotTabulableError, tabulate
    from sim.engines import SIMPY_ONLY, numba_is_installed

    built, table = _built(name, table_name, choices, settings)
    check_policy(built, table)
    click.echo(f"{name}: obeys the policy interface")
    here = "" if numba_is_installed() else "; numba is not installed here, so it runs in SimPy"
    if isinstance(built, StepPolicy):
        click.echo(f"{name}: {_stepped(built, table)}{here}")
        own = ("several queues", "a queue for each worker", "kinds of workers with several tables", *SIMPY_ONLY)
        click.echo(f"{name}: needs SimPy with: {'; '.join(own)}")
        return
    try:
        found = tabulate(built, table, workers=1, slo_ns=2 * int(table.latency_ns.max()))
    except NotTabulableError as reason:
        click.echo(f"{name}: runs in the SimPy engine only ({reason})")
        return
    rows, lengths = found.subnets.shape
    intervals, queues = f"slack interval{'s' * (rows > 1)}", f"queue length{'s' * (lengths > 1)}"
    said = f"a decision table of {rows} {intervals} x {lengths} {queues}"
    click.echo(f"{name}: runs in the compiled engine as {said}{here}")
    click.echo(f"{name}: needs SimPy with: {'; '.join(SIMPY_ONLY)}")


def _stepped(policy: StepPolicy, table: LatencyTable) -> str:
    """Return how a stepped policy runs: compiled, to the same outcomes on a bursty trace, or in SimPy only.

    Raises:
        PolicyError: The outcomes differ.
    """
    import numpy as np

    from sim.base.errors import PolicyError, SpecError
    from sim.engine.cluster import Cluster
    from sim.engine.policy import policy_name
    from sim.engines import numba_is_installed, replay
    from sim.traces.synthetic import Gamma

    if not numba_is_installed():
        return "offers a step function to the compiled engine"
    rate = 4 * table.max_batch * 1e9 / float(table.latency_ns.max())
    slo_ms = 1.2 * float(table.latency_ns.max()) / 1e6
    trace = Gamma(mean_qps=rate, cv2=4, duration_s=20_000 / rate, slo_ms=slo_ms).trace(seed=0)
    # Overheads that the policy gets to see, in its slack and in its latencies.
    cluster = Cluster(4, table.smallest_ns // 4, network_ns=table.smallest_ns, dispatch_per_query_ns=1000)
    simpy, _ = replay(trace, cluster, table, policy, engine="simpy")
    try:
        compiled, _ = replay(trace, cluster, table, policy, engine="compiled")
    except SpecError as reason:
        return f"runs in the SimPy engine only ({reason.value})"
    if not all(
        np.array_equal(getattr(simpy.batches, name), getattr(compiled.batches, name))
        for name in ("start_ns", "finish_ns", "worker", "subnet", "size")
    ):
        what = "decides otherwise when it is compiled"
        raise PolicyError(policy_name(policy), what, "", "keep to numbers that fit 64 bits, or ask for engine: simpy")
    return f"runs in the compiled engine by its step function (same outcomes on {len(trace)} queries)"


@policy.command(
    epilog=example(
        "ssim policy plot slackfit -o slackfit.pdf", "ssim policy plot slackfit --run azure/slackfit@7 -o path.gif"
    )
)
@_name
@table_option
@where_option
@parameters
@click.option(
    "--run",
    shell_complete=completed(stored_jobs),
    help="A stored run of this policy: JOB/POLICY, JOB/POLICY@SEED or JOB/ID.",
)
@click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder of results."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The picture: a .pdf, .svg or .png file; with --run also a .gif, which is a film.",
)
def plot(
    name: str,
    table_name: str,
    choices: tuple[str, ...],
    settings: tuple[str, ...],
    run: str | None,
    results: Path,
    output: Path,
) -> None:
    """Draw the decisions of a policy over slack and queue length: accuracy of the subnet, and batch size.

    With --run, each batch of a stored run is a dot where the policy decided on it. The run must have been of this
    policy with this table.
    """
    from figures.decisions import draw_decisions
    from figures.style import save_as
    from policies.decision_map import decision_map

    built, table = _built(name, table_name, choices, settings)
    title = f"{', '.join((name, *settings))} on {table.device}"
    if run is None:
        save_as(draw_decisions(*decision_map(built, table), title=title), output)
    else:
        visited, table = _visited(built, table, results, run)
        surface = decision_map(built, table, visited.slack_ms.max(), int(visited.queue_length.max()))
        if output.suffix == ".gif":
            import numpy as np

            from figures.burst import film

            accuracy_of = {subnet.id: subnet.accuracy for subnet in table.subnets}
            accuracy = np.array([accuracy_of[subnet] for subnet in visited.subnet])
            film(output, surface[:3], *visited[:3], accuracy, visited.arrival_s, title)
        else:
            save_as(draw_decisions(*surface, title=title, visited=(visited.slack_ms, visited.queue_length)), output)
    click.echo(f"decisions of {name}: {output}")


def _visited(policy: Policy, table: LatencyTable, results: Path, name: str) -> tuple[Visits, LatencyTable]:
    """Return where a stored run of a policy has been, and the table as the policy saw it there.

    Raises:
        StoreError: There is no such run, or it was of another policy or table.
    """
    from sim.base.errors import StoreError
    from sim.engine.cluster import Cluster
    from sim.tables.law import FIXED, LatencyLaw
    from ssim.jobs.experiment.planning import table_hash, table_seen
    from ssim.jobs.identity import described
    from ssim.results.store import Snapshot
    from ssim.results.stored import stored_run
    from ssim.results.visits import visits

    store, run_id = stored_run(results, name)
    store = Snapshot(store.folder)
    visited = visits(store, run_id)
    identity = (store.manifest(run_id) or {})["identity"]
    if identity["policy"] != described(policy):
        was = identity["policy"]
        hint = "name this policy, and its parameters with --set"
        raise StoreError(name, "is a run of another policy", f"{was['class']} {was['params']}", hint)
    if identity["latency_table"] != table_hash(table):
        raise StoreError(name, "is a run with another latency table", "", "name its table with --table")
    cluster = identity["cluster"]
    drawn = cluster.get("latency")
    law = LatencyLaw(drawn["law"], drawn["p99_over_median"]) if drawn else FIXED
    seen = table_seen(table, identity.get("plan"), law)
    return visited, Cluster(1, dispatch_per_query_ns=cluster["dispatch_per_query_ns"]).served(seen)


def _built(
    name: str, table_name: str, choices: tuple[str, ...], settings: tuple[str, ...]
) -> tuple[Policy, LatencyTable]:
    """Return the policy and the table that a command names.

    Raises:
        SsimError: There is no such policy, parameter or table.
    """
    from sim.tables.files import load_table
    from ssim.files.yaml_file import parse_settings
    from ssim.jobs.experiment.policies import build_policy
    from ssim.jobs.experiment.spec import PolicySpec

    built = build_policy(PolicySpec(use=name, params=parse_settings(settings)), Path.cwd())
    return built, load_table(table_name, where=parse_where(choices))
