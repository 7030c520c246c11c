"""The workers of a run with a planner: who serves, starts or has failed, and who comes and goes by a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sim.engine.planning import KindView
from sim.engine.run_metrics import NEVER_NS
from sim.engine.scaling import Fleet, fleet_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool


class NewWorker(NamedTuple):
    """A worker that a plan brings.

    Attributes:
        worker: Its number, the next one.
        pool: Its pool.
        startup_ns: Its start-up.
    """

    worker: int
    pool: int
    startup_ns: int


class Roster:
    """All workers that have been there."""

    def __init__(self, cluster: Cluster, pools: Sequence[WorkerPool], load_ns: Sequence[int] = ()) -> None:
        """Begin with the workers of the cluster.

        Args:
            cluster: The workers.
            pools: The workers of each kind in the order of offers, with the tables that policies see.
            load_ns: How long a new worker of each loads the weights that it begins with; empty for no time.
        """
        self._cluster, self._pools, self._load_ns = cluster, pools, load_ns or [0] * len(pools)
        kinds = [kind.name for kind in cluster.kinds] or [""]
        names = [pool.kind for pool in pools]
        self.pool_of_kind = [names.index(name) for name in kinds]
        self.kind: list[int] = cluster.kind_of_worker.tolist()
        """The kind of each worker, as an index into the kinds of the cluster."""
        self._asked_ns, self._ready_ns = [0] * cluster.workers, [0] * cluster.workers
        self._left_ns = [NEVER_NS] * cluster.workers
        self.up_ns = dict.fromkeys(range(cluster.workers), 0)
        """Since when each worker serves, of those that do."""
        self._starting: set[int] = set()
        self._failed: set[int] = set()

    @property
    def is_starting(self) -> bool:
        """Whether a worker is to come."""
        return bool(self._starting)

    def note(self, now_ns: int, came: Iterable[int], failed: Iterable[int]) -> None:
        """Take note of workers that came, or came back, and of those that failed."""
        for worker in came:
            if self._left_ns[worker] == NEVER_NS:
                self.up_ns[worker] = now_ns
            self._starting.discard(worker)
            self._failed.discard(worker)
        for worker in failed:
            if self.up_ns.pop(worker, None) is not None:
                self._failed.add(worker)

    def change(
        self, now_ns: int, kinds: Sequence[KindView], wanted: Sequence[int], is_running: Callable[[int], bool]
    ) -> tuple[list[NewWorker], list[int]]:
        """Have workers come and go, so that as many of each kind serve or start as are wanted.

        Args:
            now_ns: The instant.
            kinds: The workers as they are, in the order of the cluster.
            wanted: Workers of each kind.
            is_running: Whether a worker had a batch before the instant.

        Returns:
            The new workers; and those that take no further batch.
        """
        came: list[NewWorker] = []
        left: list[int] = []
        for number, (kind, workers) in enumerate(zip(kinds, wanted, strict=True)):
            for _ in range(workers - kind.workers):
                worker = len(self.kind)
                self.kind.append(number)
                self._asked_ns.append(now_ns)
                self._ready_ns.append(now_ns + kind.startup_ns)
                self._left_ns.append(NEVER_NS)
                self._starting.add(worker)
                came.append(NewWorker(worker, self.pool_of_kind[number], kind.startup_ns))
            if workers < kind.workers:
                starting = [worker for worker in self._starting if self.kind[worker] == number]
                # Those that start go first, then idle ones, then the others; of each, the newest.
                goes = sorted(kind.serving, key=lambda worker: (is_running(worker), -worker))
                left += [*sorted(starting, reverse=True), *goes][: kind.workers - workers]
        for worker in left:
            self._left_ns[worker] = now_ns
            self.up_ns.pop(worker, None)
            self._starting.discard(worker)
        return came, left

    def views(
        self, now_ns: int, since_ns: int, busy_ns: Mapping[int, int], queries: Sequence[int]
    ) -> tuple[KindView, ...]:
        """Return the kinds of workers as a planner sees them.

        Args:
            now_ns: The instant of its turn.
            since_ns: That of the last one.
            busy_ns: How long each worker was busy since then.
            queries: Queries in the batches that started since then, by kind.
        """
        return tuple(
            self._view(kind, now_ns, since_ns, busy_ns, queries[kind]) for kind in range(len(self.pool_of_kind))
        )

    def _view(self, kind: int, now_ns: int, since_ns: int, busy_ns: Mapping[int, int], queries: int) -> KindView:
        pool = self._pools[self.pool_of_kind[kind]]
        known = self._cluster.kinds[kind] if self._cluster.kinds else None
        serving = [worker for worker in self.up_ns if self.kind[worker] == kind]
        time_ns = sum(now_ns - max(self.up_ns[worker], since_ns) for worker in serving)
        busy = sum(busy_ns.get(worker, 0) for worker in serving)
        return KindView(
            pool.kind,
            pool.table,
            tuple(sorted(serving)),
            starting=sum(self.kind[worker] == kind for worker in self._starting),
            failed=sum(self.kind[worker] == kind for worker in self._failed),
            queries=queries,
            busy_share=busy / time_ns if time_ns else float("nan"),
            scaling=known.scaling if known else self._cluster.scaling,
            price_per_h=known.price_per_h if known else None,
            load_ns=self._load_ns[self.pool_of_kind[kind]],
        )

    def fleet(self, last_ns: npt.NDArray[np.int64]) -> Fleet:
        """Return the workers of the run, which has ended.

        Args:
            last_ns: When each worker finished its last batch, 0 without any; int64, shape (workers,).
        """
        return fleet_of(self.kind, self._asked_ns, self._ready_ns, self._left_ns, last_ns, self._cluster.faults)
