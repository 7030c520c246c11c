"""The files that `ssim init` writes: small, commented, and ready to run."""

from __future__ import annotations

from pathlib import Path

NEXT = {
    "experiment": "ssim run {file}",
    "policy": "ssim run {file}",
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
# An experiment: policies compared on one trace, over several seeds.
schema: experiment/1
name: {name}                  # also the folder below results/
seed: 7
repeats: 3                    # seeds 7, 8, 9
trace:                        # {trace_comment}
  {trace}
cluster: {{workers: 8, dispatch_ms: 2.0}}   # dispatch_ms: overhead of each batch
latency_table: ofa-resnet50-rtx2080ti      # `ssim table list` shows others
policies:
{policies}
  - {{use: clipper, params: {{accuracy: 78.25}}}}   # one fixed subnet
# sweep: {{cluster.workers: [4, 8]}}          # any key may take several values
# reference: slackfit         # what the other policies are compared with; the first one if left out
# measure: {{from_s: 2}}        # leaves the warm-up out of all figures
"""

_BURSTY = "{kind: bursty, base_qps: 1500, variant_qps: 3500, cv2: 8, duration_s: 20, slo_ms: 36}"

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

_TRACE = '''\
"""A trace source of your own: arrivals as a function of a seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sim import stream
from sim.traces.source import TraceSource


@dataclass(frozen=True, kw_only=True)
class OnOff(TraceSource):
    """Poisson arrivals that are switched on and off.

    Attributes:
        on_qps: Rate while they are on, in queries per second.
        period_s: Length of one on-off cycle in seconds; they are on for its first half.
        duration_s: Length of the trace in seconds.
        slo_ms: Time that a query may take, in milliseconds (a parameter of every source).
    """

    kind: ClassVar[str] = "on_off"

    on_qps: float
    period_s: float
    duration_s: float

    @property
    def duration_ns(self) -> int:
        """Length of the trace in nanoseconds."""
        return round(self.duration_s * 1e9)

    def chunks(self, seed: int) -> Iterator[np.ndarray]:
        """Yield arrival times in nanoseconds, int64, never decreasing."""
        rng = stream(seed, "arrivals")
        count = rng.poisson(self.on_qps * self.duration_s)
        seconds = np.sort(rng.uniform(0, self.duration_s, count))
        on = seconds % self.period_s < self.period_s / 2
        yield (seconds[on] * 1e9).astype(np.int64)
'''

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
    path = out or Path(f"{'experiment' if kind in {'policy', 'trace'} else kind}.yaml")
    name = path.stem
    code = path.with_name(f"my_{kind}.py")
    texts = {"topology": _TOPOLOGY, "federated": _FEDERATED, "training": _TRAINING}
    if kind in texts:
        return {path: _EDITOR.format(schema=kind) + texts[kind].format(name=name)}
    trace, comment, policies = _BURSTY, "`ssim trace list` shows other kinds", "  - slackfit"
    files: dict[Path, str] = {}
    if kind == "policy":
        policies += f"\n  - {{use: {code.stem}:Mine, params: {{margin_ms: 2}}}}"
        files[code] = _POLICY.format(module=code.stem)
    if kind == "trace":
        trace = f"{{kind: {code.stem}:OnOff, on_qps: 9000, period_s: 2, duration_s: 20, slo_ms: 36}}"
        comment = f"the class OnOff of {code.name}"
        files[code] = _TRACE
    text = _EXPERIMENT.format(name=name, trace=trace, trace_comment=comment, policies=policies)
    return {**files, path: _EDITOR.format(schema="experiment") + text}
