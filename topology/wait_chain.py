"""Who waits for whom: the root of a chain of waits, and workers that wait for work from dead ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from topology.pending import PendingWait
    from topology.state import WorkerState


def root_of(expired: Sequence[PendingWait], states: Mapping[str, WorkerState], died: Collection[str]) -> PendingWait:
    """Return the wait at the root of a chain of waits: that for a dead worker, or else the one that began first.

    A wait with a timeout of its own ends by itself, and is no root.

    Args:
        expired: Waits without a timeout of their own, from which the chains are followed.
        states: The workers, by id.
        died: The ids of dead workers.
    """
    reached = list(expired)
    known = set(map(id, reached))
    for wait in reached:  # grows
        for peer in wait.awaited():
            for following in states[peer].waits() if peer in states else ():
                if id(following) not in known and not following.has_timeout:
                    known.add(id(following))
                    reached.append(following)
    dead = [wait for wait in reached if not set(died).isdisjoint(wait.awaited())]
    return min(dead or reached, key=lambda wait: wait.since_ns)


def orphaned(states: Mapping[str, WorkerState], died: Collection[str]) -> set[str]:
    """Return the workers that wait for work, and only from dead workers or from others of this kind."""
    if not died:
        return set()
    waits = {id_: state.waits() for id_, state in states.items() if not state.ended}
    orphans = {
        id_
        for id_, own in waits.items()
        if own and all(wait.mailbox.channel.name in states[id_].idle_channels for wait in own)
    }
    while lost := {
        id_
        for id_ in orphans
        if not all(peer in died or peer in orphans for wait in waits[id_] for peer in wait.awaited())
    }:
        orphans -= lost
    return orphans
