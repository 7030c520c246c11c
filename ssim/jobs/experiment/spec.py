"""The experiment file: one frozen model, with the names of the YAML in the order of the YAML.

Parameters of trace sources and policies are not repeated here: they are the fields of those classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sim.base.parameters import NonNegative, Percent, Positive, PositiveInt
from sim.base.units import ns_from_s
from sim.engine.run_metrics import Measure
from sim.engines import Engine
from ssim.files.model import Closed, JobSpec
from ssim.jobs.experiment.cluster_spec import ClusterSpec, Plan, TableSpec
from ssim.jobs.experiment.live_spec import LiveSpec
from ssim.results.record import Keep


class PolicySpec(Closed):
    """A policy, and its parameters."""

    use: str
    """A short name, or `module:Class` for one of your own."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters by name."""
    plan: Plan | None = None
    """The latencies that it plans on, as in `latency_table`, which holds for all policies."""

    @property
    def label(self) -> str:
        """The policy with the parameters that the file gives, for tables and figures."""
        plan = {} if self.plan is None else {"plan": self.plan}
        given = ", ".join(f"{name}={value}" for name, value in (self.params | plan).items())
        return f"{self.use}({given})" if given else self.use


class QueueTableSpec(Closed):
    """The latency table of a queue on a kind of workers."""

    kind: str
    """The name of the kind."""
    table: TableSpec
    """The table, as `latency_table`."""


class QueueSpec(Closed):
    """A queue: a model, a tenant or a class of service."""

    name: str
    """Its name: in a trace with classes, that of the class of its queries."""
    trace: dict[str, Any] | None = None
    """Its arrivals, as `trace`, which holds for files whose queues have none."""
    slo_ms: Positive | None = None
    """The SLO of its queries in milliseconds; that of the trace if left out."""
    weight: Positive = 1.0
    """Its share of the workers' time with `cluster.order: fair`, and of weighted results."""
    priority: PositiveInt = 1
    """Its rank with `cluster.order: priority`: the smallest number is offered first."""
    floor: Percent | None = None
    """The least accuracy in percent of a subnet that serves it; any subnet if left out."""
    bound: PositiveInt | None = None
    """Queries of it that may wait; any more are rejected. No bound if left out."""
    latency_table: TableSpec | None = None
    """The table of its own model; that of the file, or of each kind of workers, if left out."""
    tables: tuple[QueueTableSpec, ...] = ()
    """The tables of its own model, where there are kinds of workers: one for each kind."""
    own_weights: bool = False
    """Whether its model has weights of its own, as a fine-tuned copy has, although others have equal subnets."""
    policy: PolicySpec | None = None
    """Its own policy, in place of each policy of the file."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters that it sets or changes in each policy of the file."""


class PlannerSpec(Closed):
    """A planner, and its parameters."""

    use: str
    """A short name, or `module:Class` for one of your own."""
    period_s: Positive = 10.0
    """Seconds between its turns, the first of which comes after one period."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters by name."""


class MeasureSpec(Closed):
    """The part of a run that all figures are about."""

    from_s: NonNegative = 0.0
    """Its start in seconds from the start of the trace: what comes before is warm-up."""
    to_s: Positive | None = None
    """Its end in seconds, at most that of the trace; the end of the run if left out."""

    def __str__(self) -> str:
        return f"measured from {self.from_s:g} s to {'the end' if self.to_s is None else f'{self.to_s:g} s'}"

    def build(self) -> Measure:
        """Return the part in nanoseconds."""
        return Measure(ns_from_s(self.from_s), None if self.to_s is None else ns_from_s(self.to_s))


class CapacitySpec(Closed):
    """What `ssim capacity` looks for: the highest rate at which a policy meets an SLO attainment."""

    rate: str = "mean_qps"
    """Parameter of the trace that is varied, from its value in the file."""
    target: Annotated[float, Field(gt=0, le=1)] = 0.999
    """SLO attainment to meet, from 0 to 1."""
    precision: Annotated[float, Field(ge=1e-6, le=1)] = 0.005
    """How closely the rate is found, relatively."""


class ExperimentSpec(JobSpec):
    """One experiment: traces, a cluster, a latency table and the policies to compare."""

    schema_: Literal["experiment/1"] = Field(alias="schema")  # pyright: ignore[reportIncompatibleVariableOverride]  # frozen
    """What kind of file this is."""
    trace: dict[str, Any] | None = None
    """The arrivals: `kind`, and the parameters of that kind; left out if every queue has a trace of its own."""
    cluster: ClusterSpec
    """The workers."""
    latency_table: TableSpec | None = None
    """How long a batch of each subnet takes; left out if every kind of workers, or every queue, has its own table."""
    engine: Engine = "auto"
    """Which engine runs it: `auto`, `simpy` or `compiled`; results are the same."""
    keep: Keep = "requests"
    """How much of a run is stored: `summary`, `windows` of 1 s, `batches` or `requests`."""
    policies: Annotated[tuple[PolicySpec, ...], Field(min_length=1)]
    """The policies to compare."""
    planner: PlannerSpec | None = None
    """What changes the number of workers in a run, within `max_workers` and `min_workers`."""
    queues: tuple[QueueSpec, ...] = ()
    """Queues, each with an SLO, a weight or a model of its own; without any, all queries wait in one queue."""
    reference: str | None = None
    """The policy that the others are compared with, by name or as tables show it; the first one if left out."""
    measure: MeasureSpec | None = None
    """The part of a run that all figures are about; the whole run if left out."""
    capacity: CapacitySpec = CapacitySpec()
    """What `ssim capacity` looks for."""
    live: LiveSpec = LiveSpec()
    """How `ssim run --live` serves the trace; a simulation takes no notice of it."""

    def plan_at(self, place: tuple[str | int, ...], number: int, queue: int | None = None) -> Plan | None:
        """Return what a policy plans on, of the table that is named at a place: its own plan, or that of the table.

        Args:
            place: Keys and list indices; `("latency_table",)` for the table of the run, wherever it is named.
            number: The policy of the file.
            queue: The queue that it serves, which may have its own policy; None for all.
        """
        own = None if queue is None else self.queues[queue].policy
        policy = own or self.policies[number]
        if policy.plan is not None:
            return policy.plan
        tables = self.named_tables()
        table = tables.get(place) or (next(iter(tables.values())) if place == ("latency_table",) else None)
        return None if table is None else table.plan

    def named_tables(self) -> dict[tuple[str | int, ...], TableSpec]:
        """Return all latency tables by where they are named; the first one is the table of the run."""
        found: dict[tuple[str | int, ...], TableSpec | None] = {("latency_table",): self.latency_table}
        for number, kind in enumerate(self.cluster.kinds):
            found["cluster", "kinds", number, "table"] = kind.table
        for place, queue in enumerate(self.queues):
            found["queues", place, "latency_table"] = queue.latency_table
            for number, one in enumerate(queue.tables):
                found["queues", place, "tables", number, "table"] = one.table
        return {place: table for place, table in found.items() if table is not None}

    def traces(self) -> list[dict[str, Any]]:
        """Return the trace of the file, or those of its queues."""
        found = (self.trace, *(queue.trace for queue in self.queues))
        return [trace for trace in found if trace is not None]

    @property
    def trace_kind(self) -> str:
        """The kinds of its traces."""
        return ", ".join(dict.fromkeys(str(trace["kind"]) for trace in self.traces()))

    def references(self) -> list[str]:
        """Return the labels of the policies that `reference` may mean; exactly one in a valid file."""
        labels = [policy.label for policy in self.policies]
        if self.reference is None or self.reference in labels:
            return [self.reference or labels[0]]
        return [policy.label for policy in self.policies if policy.use == self.reference]
