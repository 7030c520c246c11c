"""The experiment file: one frozen model, with the names of the YAML in the order of the YAML.

Parameters of trace sources and policies are not repeated here: they are the fields of those classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sim.base.parameters import NonNegative, NonNegativeInt, PositiveInt
from sim.base.units import ns_from_ms, ns_from_s
from sim.engine.cluster import MAX_WORKERS, Cluster, DropRule, WorkerFailure
from sim.engines import Engine
from ssim.results.store import Keep

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Closed(BaseModel):
    """A part of a file: it knows its keys and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FaultSpec(Closed):
    """A worker that fails at `at_s` and, if `recover_s` is given, comes back then."""

    worker: NonNegativeInt
    at_s: NonNegative
    recover_s: NonNegative | None = None


class ClusterSpec(Closed):
    """The workers, what a batch costs beside its latency, and what is dropped."""

    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)]
    dispatch_ms: NonNegative = 0.0
    actuation_ms: NonNegative | Literal["table"] = 0.0
    drop: DropRule = "never"
    faults: tuple[FaultSpec, ...] = ()

    def build(self) -> Cluster:
        """Return the cluster, in nanoseconds.

        Raises:
            SpecError: A fault does not fit the workers, or another fault.
        """
        faults = (
            WorkerFailure(f.worker, ns_from_s(f.at_s), None if f.recover_s is None else ns_from_s(f.recover_s))
            for f in self.faults
        )
        actuation: int | Literal["table"] = "table" if self.actuation_ms == "table" else ns_from_ms(self.actuation_ms)
        return Cluster(self.workers, ns_from_ms(self.dispatch_ms), actuation, self.drop, tuple(faults))


class TableSpec(Closed):
    """A latency table: a shipped name or a file, and which part of it to use."""

    use: str
    max_batch: PositiveInt | None = None
    stages: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


class PolicySpec(Closed):
    """A policy by short name or `module:Class`, and its parameters."""

    use: str
    params: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """The policy with the parameters that the file gives, for tables and figures."""
        given = ", ".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.use}({given})" if given else self.use


class CapacitySpec(Closed):
    """What `ssim capacity` looks for: the highest rate at which a policy holds an SLO attainment.

    `rate` is the parameter of the trace that is moved, from its value in the file; `precision` how closely, relatively.
    """

    rate: str = "mean_qps"
    target: Annotated[float, Field(gt=0, le=1)] = 0.999
    precision: Annotated[float, Field(ge=1e-6, le=1)] = 0.005


class ExperimentSpec(Closed):
    """One experiment: traces, a cluster, a latency table and the policies to compare."""

    schema_: Literal["experiment/1"] = Field(alias="schema")
    name: Name
    seed: Seed
    repeats: PositiveInt = 1
    trace: dict[str, Any]
    cluster: ClusterSpec
    latency_table: TableSpec
    engine: Engine = "auto"
    keep: Keep = "requests"
    policies: Annotated[tuple[PolicySpec, ...], Field(min_length=1)]
    sweep: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}
    capacity: CapacitySpec = CapacitySpec()


def normalised(data: Any) -> Any:
    """Return the content of an experiment file with its short forms written out: `slackfit` is `{use: slackfit}`."""
    if not isinstance(data, dict):
        return data
    full = dict(data)
    if isinstance(full.get("latency_table"), str):
        full["latency_table"] = {"use": full["latency_table"]}
    if isinstance(full.get("policies"), list):
        full["policies"] = [{"use": item} if isinstance(item, str) else item for item in full["policies"]]
    return full
