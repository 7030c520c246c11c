"""A worker that joins the router of a live run on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.base.errors import SpecError
from ssim.jobs.experiment.live import live_points
from ssim.jobs.experiment.live_workers import worker_program
from ssim.jobs.experiment.remote_workers import meeting_point, required

if TYPE_CHECKING:
    from serving.processes import WorkerProgram
    from serving.remote.address import Address, Tls
    from ssim.jobs.job import Job


def joined(job: Job, at: str) -> tuple[Address, Tls | None, WorkerProgram, dict[str, Any]]:
    """Return what a worker of this machine needs: the router's address, TLS, its program, and what must be the same.

    Args:
        job: The experiment.
        at: HOST:PORT of the router.

    Raises:
        SpecError: It has no workers of other machines, or they can't be run here.
    """
    point = live_points(job, "leave it out")[0]
    live, run = point.spec.live, next(run for run in job.runs if run.point is point)
    if live.remote is None:
        raise SpecError(
            "live.remote", "is missing, so the router starts workers on its own machine", "", "add live: {remote: {}}"
        )
    address, tls = meeting_point(live.remote, at, "--to", point.folder)
    program = worker_program(live, 1, run.setup.table, run.seed, point.folder)
    return address, tls, program, required(live, run.setup.table)
