"""ResidentFit (ours): SlackFit for separate models in limited memory, which loads only what is worth it.

SlackFit (SuperServe, NSDI 2025) is made for a supernet that holds all subnets. With separate models that do not all fit
into memory, nearly every change of subnet loads one. ResidentFit asks for SlackFit's choice first. It runs where that
model is resident; it is loaded only if the batch is then still in time; otherwise the worker runs SlackFit's choice
among the models that it holds. Where nothing is resident, the choice is loaded, late or not. With a supernet, or memory
that holds all models, it decides as SlackFit does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.slackfit import bucket_choices
from sim.base.parameters import Parameters, PositiveInt
from sim.engine.policy import Dispatch
from sim.tables.floor import part_of

if TYPE_CHECKING:
    from sim.engine.policy import Policy, View


@dataclass(frozen=True, slots=True)
class ResidentFit(Parameters):
    """SlackFit's choice where it is loaded, or can be in time; otherwise the same among the models that are resident.

    Attributes:
        buckets: Number of latency buckets, as of SlackFit.
    """

    buckets: PositiveInt = 3

    def decide(self, view: View) -> Dispatch:
        """Return SlackFit's choice among all subnets, or among those on the first free worker."""
        table, loading_ns = view.table, view.system.loading_ns
        choice = bucket_choices(table, self.buckets).at(view.slack_ns)
        free = view.system.free_workers()
        worker = min(free, key=lambda one: loading_ns(choice.subnet, one))
        wait_ns = loading_ns(choice.subnet, worker)
        if not wait_ns or wait_ns + table.latency(choice.subnet, choice.batch_size) <= view.slack_ns:
            return Dispatch(choice.subnet, choice.batch_size, worker)
        resident = tuple(one for one in range(len(table.subnets)) if not loading_ns(one, free[0]))
        if not resident:
            return Dispatch(choice.subnet, choice.batch_size, worker)
        held = bucket_choices(part_of(table, resident), self.buckets).at(view.slack_ns)
        return Dispatch(resident[held.subnet], held.batch_size, free[0])


if TYPE_CHECKING:
    _conforms: type[Policy] = ResidentFit
