"""A worker of another machine: what it tells while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssim.commands.printing import tell

if TYPE_CHECKING:
    from ssim.jobs.job import Job


def join_and_tell(job: Job, at: str) -> None:
    """Join a router, and serve until it is gone.

    Args:
        job: The experiment.
        at: HOST:PORT of the router.

    Raises:
        SpecError: The file has no workers of other machines, or they can't be run here.
        ServingError: There is no router, it is lost, or it refuses this worker.
    """
    from serving.remote.joining import join
    from ssim.jobs.experiment.joined import joined

    address, tls, program, required = joined(job, at)
    join(address, tls, program, required, tell)
