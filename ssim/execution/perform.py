"""One task performed; its errors are part of the outcome."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from sim.base.errors import SsimError
from ssim.jobs.job import RunOutcome

if TYPE_CHECKING:
    from ssim.jobs.job import Task, Watch
    from ssim.results.store import Store


def perform(task: Task, store: Store, watch: Watch | None = None) -> RunOutcome:
    """Do a run and store its result; an error is part of the outcome.

    Args:
        task: The run, and how it is done.
        store: Where the result goes.
        watch: Called with each step of the run.
    """
    try:
        return RunOutcome(task.run, task.run.execute(store, task.how, watch))
    except SsimError as error:
        # A copy: the frames of the error itself would hold all that the run had in memory, to the end of the sweep.
        return RunOutcome(task.run, error=type(error)(*error.args), traceback=traceback.format_exc())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's own code may raise anything
        return RunOutcome(task.run, error=task.run.failed(error), traceback=traceback.format_exc())
