"""A training that diverges ends as an error, or says what it left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from sim.base.errors import TrainingError  # noqa: E402 - after torch is known to be there
from ssim.jobs.federated.progress import diverged_workers  # noqa: E402
from tests.federated.quadratic import NAMES, job_of, run, shipped  # noqa: E402
from tests.ssim.in_process import ssim  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
schema: federated/1
name: nan
seed: 1
topology: {use: %s, roles: {trainer: {config: {rate: 1.0e+30}}}}
data: digits
family: {kind: cnn_small, width: 4, hidden: 16}
rounds: 2
"""


def with_nan(delta: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.full_like(part, torch.nan) for name, part in delta.items()}


@pytest.mark.parametrize("name", NAMES)
def test_if_all_clients_diverge_the_training_fails_and_if_one_does_it_goes_on(name: str) -> None:
    plan, owners = shipped(name)
    ids = [worker.dataset.id for worker in plan.workers if worker.dataset is not None]
    every, one = (job_of(plan, 3, broken=dict.fromkeys(some, with_nan)) for some in (ids, ids[:1]))
    with pytest.raises(TrainingError, match=r"not all values are finite|no model is finite"):
        diverged_workers(run(plan, owners, every), every.context.initial_state())
    report = run(plan, owners, one)
    assert set(diverged_workers(report, one.context.initial_state())) <= {"trainer/0"}


def test_nothing_diverges_without_reason() -> None:
    plan, owners = shipped("classical")
    job = job_of(plan, 3)
    assert diverged_workers(run(plan, owners, job), job.context.initial_state()) == []


@pytest.mark.parametrize("use", ["classical", "gossip"])
def test_it_ends_as_an_error(use: str, tmp_path: Path) -> None:
    (tmp_path / "nan.yaml").write_text(FILE % use)
    ended = ssim(tmp_path, "train", "nan.yaml")
    assert ended.returncode == 1
    assert "a smaller `rate`" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list((tmp_path / "results").glob("nan/*/manifest.json"))
