"""The files that `ssim init` writes: small, commented, and ready to run."""

from __future__ import annotations

from pathlib import Path

NEXT = {
    "experiment": "ssim run {file}",
    "policy": "ssim run {file}",
    "planner": "ssim run {file}",
    "trace": "ssim run {file}",
    "topology": "ssim topology draw {file} -o topology.png",
    "federated": "ssim train {file}",
    "training": "ssim supernet train {file}",
}
"""The command to try next."""

_EDITOR = (
    "# yaml-language-server: $schema={schema}.schema.json   (made by: ssim schema {schema} > {schema}.schema.json)\n"
)

_EXPERIMENT = """\
# An experiment: policies compared on one trace.
schema: experiment/1
name: {name}                  # also the folder below results/
seed: 7
{repeats}trace:                        # {trace_comment}
  {trace}
{cluster}
latency_table: ofa-resnet50-rtx2080ti      # `ssim table list` shows others
policies:
{policies}
  - {{use: clipper, params: {{accuracy: 78.25}}}}   # one fixed subnet
# sweep: {{cluster.workers: [4, 8]}}          # any key may take several values
# reference: slackfit         # what the other policies are compared with; the first one if left out
# measure: {{from_s: 2}}        # leaves the warm-up out of all figures
"""

_BURSTY = "{kind: bursty, base_qps: 1500, variant_qps: 3500, cv2: 8, duration_s: 20, slo_ms: 36}"

_RAMP = (
    "{kind: time_varying, start_qps: 2000, end_qps: 7000, acceleration_qps2: 500, ramp_start_s: 4, cv2: 2, "
    "duration_s: 20, slo_ms: 36}"
)

_POLICY = '''\
"""A policy of your own: `ssim policy check {module}:Mine` tests it."""

from dataclasses import dataclass

from sim import Dispatch, View


@dataclass(frozen=True)
class Mine:
    """The most accurate subnet that runs the whole queue in time.

    Attributes:
        margin_ms: Part of the slack that is left unused, in milliseconds.
    """

    margin_ms: float = 1.0

    def decide(self, view: View) -> Dispatch:
        """Return the subnet and the batch size to run now."""
        budget_ns = view.slack_ns - round(self.margin_ms * 1e6)
        table, size = view.table, min(view.queue_length, view.table.max_batch)
        for subnet in reversed(range(len(table.subnets))):  # the most accurate one first
            if table.latency(subnet, size) <= budget_ns:
                return Dispatch(subnet, size)
        return Dispatch(0, size)
'''

_PLANNER = '''\
"""A planner of your own: `ssim planner check {module}:Mine` tests it."""

import math
from dataclasses import dataclass

from sim import WorkerPlan, PlannerView


@dataclass(frozen=True)
class Mine:
    """As many workers as the last rate needs.

    Attributes:
        qps_per_worker: What a worker is counted on to serve, in queries/s.
    """

    qps_per_worker: float = 800.0

    def plan(self, view: PlannerView) -> WorkerPlan:
        """Return the workers from now on; `max_workers` and `min_workers` of the file limit them."""
        needed = math.ceil(view.rate_per_s / self.qps_per_worker)
        return WorkerPlan({{kind.name: math.ceil(needed / len(view.kinds)) for kind in view.kinds}})
'''

_RECORDING = """\
kind: file
  path: {file}                # a list of files or a pattern is one trace, too
  arrival: {{column: TIMESTAMP, unit: iso}}   # iso, s, ms, us or ns
  slo: {{column: limit_ms, unit: ms}}         # or slo_ms: 36 for all queries
  class: {{column: tenant}}
  # origin: first             # time 0: the first arrival, or `zero` for that of the file
  # sort: true                # the rows are not in order
  # spread: true              # the clock is coarse: place arrivals at random within its steps"""

_TOPOLOGY = """\
# A topology: roles, the channels between them, and the data sets that clients hold (Flame's TAG).
schema: topology/1
name: {name}
roles:
  trainer: {{data: true, program: "federated.programs:Trainer"}}   # data: true makes one worker for each data set
  aggregator: {{program: "federated.programs:Aggregator"}}
channels:
  param:
    pair: [trainer, aggregator]
    verbs: {{trainer: [fetch, upload], aggregator: [distribute, aggregate]}}
    link: {{latency_ms: 20, bandwidth_mbps: 100}}
datasets:
  trainer: {{default: 4}}       # four clients in the group "default"
"""

_FEDERATED = """\
# A federated training: a supernet, or one model, over the clients of a topology.
schema: federated/1
name: {name}
seed: 7
topology:
  use: classical              # a shipped topology (`ssim examples`), or a file
  roles: {{trainer: {{config: {{epochs: 2, batch: 16, rate: 0.1}}}}}}   # what is different here
data: digits                  # 8 x 8 images of digits, from scikit-learn
partition: {{kind: dirichlet, alpha: 0.5}}   # how unevenly classes are spread over clients
family: cnn_small             # a small convolutional supernet
algorithm: fedavg             # or fedprox, fedopt, feddyn, scaffold, ...
rounds: 5
"""

_TRAINING = """\
# A training: one supernet, then its subnets are calibrated and measured.
schema: training/1
name: {name}
seed: 7
data: digits                  # 8 x 8 images of digits, from scikit-learn
family: cnn_small             # a small convolutional supernet
batch: 64
phases:
  - {{epochs: 10, rate: 0.1}}   # each step trains the largest, the smallest and random subnets (sandwich rule)
"""


def files_of(kind: str, out: Path | None) -> dict[Path, str]:
    """Return the text of each file that `ssim init` writes for a kind, by path.

    Args:
        kind: A key of `NEXT`.
        out: The YAML file; None for one that is called after the kind.
    """
    path = out or Path(f"{'experiment' if kind in {'policy', 'planner', 'trace'} else kind}.yaml")
    name = path.stem
    code = path.with_name(f"my_{kind}.py")
    texts = {"topology": _TOPOLOGY, "federated": _FEDERATED, "training": _TRAINING}
    if kind in texts:
        return {path: _EDITOR.format(schema=kind) + texts[kind].format(name=name)}
    repeats = "repeats: 3                    # seeds 7, 8, 9\n"
    cluster = "cluster: {workers: 8, dispatch_ms: 2.0}   # dispatch_ms: overhead of each batch"
    trace, comment, policies = _BURSTY, "`ssim trace list` shows other kinds", "  - slackfit"
    files: dict[Path, str] = {}
    if kind == "policy":
        policies += f"\n  - {{use: {code.stem}:Mine, params: {{margin_ms: 2}}}}"
        files[code] = _POLICY.format(module=code.stem)
    if kind == "planner":
        trace = _RAMP
        cluster = "cluster: {workers: 4, max_workers: 16, startup_s: 2}   # startup_s: until a new one serves"
        cluster += f"\nplanner: {{use: '{code.stem}:Mine', period_s: 2}}    # its turns"
        files[code] = _PLANNER.format(module=code.stem)
    if kind == "trace":
        code = code.with_suffix(".csv")
        trace = _RECORDING.format(file=code.name)
        comment = f"`ssim trace describe {code.name} --arrival TIMESTAMP:iso`; public formats: `ssim trace list`"
        files[code] = _recorded()
        repeats = ""  # a recording is the same for all seeds
    parts = {"repeats": repeats, "cluster": cluster, "trace": trace, "trace_comment": comment, "policies": policies}
    text = _EXPERIMENT.format(name=name, **parts)
    return {**files, path: _EDITOR.format(schema="experiment") + text}


def _recorded() -> str:
    """Return a small recording: ten seconds of a busy and a quiet tenant."""
    rows = [
        f"2026-01-01 00:00:{time_ms // 1000:02d}.{time_ms % 1000:03d},{tenant},{limit_ms}"
        for time_ms in range(0, 10_000, 2)
        for tenant, limit_ms in ((("paid", 36), ("free", 100)) if time_ms % 1000 < 600 else (("free", 100),))  # noqa: PLR2004 - a share of each second
    ]
    return "\n".join(["TIMESTAMP,tenant,limit_ms", *rows, ""])
