"""An oracle for the engines: the usual way to write this simulator, with a SimPy process for each query.

It gets the outcomes of `sim.simulate` by independent means: a heap for the queue, an event for every arrival and every
answer, and a dispatch event of the lowest priority for the rule of the instant. `benchmarks/bench_engines.py` also
measures it.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import simpy

from sim import simulate
from sim.base.streams import stream
from sim.engine.planning import KindView, PlannerView, QueueView
from sim.engine.policy import Dispatch, Drop, Hold, View, Wait
from sim.engine.result import Outcome
from sim.engine.service_queue import ServiceQueue
from sim.tables.floor import accurate_part
from sim.tables.latency import LatencyTable, ProfiledSubnet
from sim.tables.law import LatencyLaw, actual_table, nodes_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from sim import Cluster, Policy, Result, Trace
    from sim.engine.planning import Planner
    from sim.engine.residence import Memory
    from tests.laws.cases import Case

FIRST, LOWEST = 0, 2  # SimPy's URGENT, and after its NORMAL (1)


_nodes_of = lru_cache(nodes_of)


def _row(table: LatencyTable, other: LatencyTable, subnet: int) -> int:
    """Return the subnet of a table that is a subnet of another one."""
    return [known.id for known in table.subnets].index(other.subnets[subnet].id)


def _on_line(nodes: list[int], share: int) -> int:
    place, rest = divmod(share * (len(nodes) - 1), 2**32)
    return nodes[place] + (nodes[place + 1] - nodes[place]) * (rest // 2**16) // 2**16


def table_of(queue: ServiceQueue, kind: str) -> LatencyTable | None:
    """Return a queue's own table on a kind of workers."""
    return queue.table[kind] if isinstance(queue.table, dict) else queue.table


class Room:
    """What a planner may ask of the memory of a kind of workers."""

    def __init__(self, engine: NaiveEngine, kind: int) -> None:
        self.engine, self.kind, self.named = engine, kind, engine._named(kind)

    def fit(self, subnets: tuple[str, ...]) -> bool:
        """Return whether subnets fit into the memory of a worker."""
        models = list({self.named[name]: None for name in subnets})
        return self.engine._used(self.kind, models) <= self.engine._memory(self.kind).size_bytes


class NaiveEngine:
    """One run; also the system that its views look into."""

    def __init__(  # noqa: PLR0915 - the whole state of a run
        self,
        trace: Trace,
        cluster: Cluster,
        table: LatencyTable,
        policy: Policy,
        seed: int = 0,
        planner: Planner | None = None,
        period_ns: int = 0,
    ) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.planner, self.period_ns, self.duration_ns = planner, period_ns, trace.duration_ns
        self.cluster, self.table = cluster, table
        self.groups = cluster.queues or (ServiceQueue("all"),)
        self.policies = [policy] * len(self.groups)
        kind_tables = [kind.table or table for kind in cluster.kinds] or [table]
        names = [kind.name for kind in cluster.kinds] or [""]
        self.tables = [  # by queue and kind
            [
                accurate_part(table_of(group, name) or own, group.floor or 0)
                for name, own in zip(names, kind_tables, strict=True)
            ]
            for group in self.groups
        ]
        self.rows: list[tuple[str, float]] = []  # id and accuracy
        for each in (table, *(found for group in self.groups if (found := table_of(group, names[0])))):
            self.rows += [key for row in each.subnets if (key := (row.id, row.accuracy)) not in self.rows]
        self.names = [kind.name for kind in cluster.kinds] or [""]
        self.kind_of = [i for i, kind in enumerate(cluster.kinds) for _ in range(kind.workers)] or [0] * cluster.workers
        rank = {
            "kind": lambda _: 0,
            "cheapest": lambda i: cluster.kinds[i].price_per_h,
            "fastest": lambda i: sum(
                of_queue[i].latency(subnet, size)
                for of_queue in self.tables
                for subnet in range(len(of_queue[i].subnets))
                for size in range(1, min(each.batch_sizes[-1] for each in of_queue) + 1)
            ),
        }[cluster.offer]
        self.order = sorted(range(len(names)), key=rank)
        self.offered = 0
        self.offered_queue = 0
        self.served = [  # as policies see
            [each.with_query_overhead(cluster.dispatch_per_query_ns) for each in of_queue] for of_queue in self.tables
        ]
        self.arrival = trace.arrival_ns.tolist()
        self.member = [0] * len(trace) if trace.class_codes is None else trace.class_codes.tolist()
        slos = np.broadcast_to(trace.slo_ns, (len(trace),)).tolist()
        self.deadline = [
            at + (self.groups[group].slo_ns or slo)
            for at, group, slo in zip(self.arrival, self.member, slos, strict=True)
        ]
        # By worker if each has its own queues; what waits by queue, and the state of the turns.
        self.is_routed = cluster.routing != "central"
        sites = range(cluster.workers if self.is_routed else 1)
        self.sites: list[list[list[tuple[int, int]]]] = [[[] for _ in self.groups] for _ in sites]
        everything = tuple(range(len(self.groups)))
        self.skills = [everything] * cluster.workers  # the queues that each worker serves
        if cluster.placement is not None:
            names = [group.name for group in self.groups]
            self.skills = [
                tuple(place for place in everything if worker in cluster.placement[names[place]])
                for worker in range(cluster.workers)
            ]
        turns = [(site, skill) for site in sites for skill in {*self.skills}]
        self.credits = {each: ([0.0 for _ in self.groups], len(self.groups) - 1) for each in turns}
        self.site, self.skill = 0, everything
        self.homes = set(range(cluster.workers))  # the workers to which queries are routed
        self.waiting_nowhere: list[int] = []
        self.runs_now: defaultdict[int, int] = defaultdict(int)
        self.last_routed = -1
        self.arrived: list[int] = []
        self.free = set(range(cluster.workers))
        self.resident = [self._first(kind) for kind in self.kind_of]  # last used last
        if cluster.placement is not None:
            self.resident = [self._placed(worker) for worker in range(cluster.workers)]
        self.there: defaultdict[tuple[int, tuple[str, float]], int] = defaultdict(int)  # when each is loaded
        self.lane: defaultdict[int, int] = defaultdict(int)  # until when each worker loads
        self.kept: defaultdict[int, list[tuple[str, float]]] = defaultdict(list)
        self.absent: defaultdict[int, list[tuple[str, float]]] = defaultdict(list)  # of these, not loading yet
        self.in_use: dict[int, tuple[str, float]] = {}
        self.up = dict.fromkeys(range(cluster.workers), 0)  # since when each serves
        self.down: set[int] = set()
        self.starting: dict[int, int] = {}  # when each is ready
        self.left: dict[int, int] = {}  # when each was told to go
        self.asked = [0] * cluster.workers
        self.since = 0
        self.ended: list[tuple[int, int, Outcome]] = []  # when, and the query
        self.began: list[tuple[int, int, int]] = []  # when, the worker, the queries
        self.busy: list[tuple[int, int, int]] = []  # the worker, from, to
        self.members: dict[int, list[int]] = {}  # of each run
        self.until: dict[int, int] = {}  # when each worker that has a batch can take the next one
        self.loaded: dict[int, int | None] = dict.fromkeys(range(cluster.workers))
        self.fresh = set(range(cluster.workers))
        self.under_way: dict[int, dict[int, int]] = {worker: {} for worker in self.free}  # finish by run
        self.runs = 0
        self.changes: list[tuple[int, bool, int]] = []
        self.pending = False
        self.wait_until = -1
        self.answer = [self.env.event() for _ in self.arrival]
        self.outcome = [Outcome.UNFINISHED] * len(self.arrival)
        self.start: list[int] = [-1] * len(self.arrival)
        self.finish: list[int] = [-1] * len(self.arrival)
        self.subnet: list[int] = [-1] * len(self.arrival)
        self.worker: list[int] = [-1] * len(self.arrival)
        self.dispatch_ns = cluster.dispatch_ns
        self.rng = stream(seed, "policy")
        self.keys = {name: np.uint64(stream(seed, name).integers(2**63)) for name in ("latency", "dispatch", "routing")}

    def run(self) -> NaiveEngine:
        """Run to the end."""
        self.env.process(self._source())
        for fault in self.cluster.faults:
            self.env.process(self._change(fault.at_ns, fault.worker, fails=True))
            if fault.recover_ns is not None:
                self.env.process(self._change(fault.recover_ns, fault.worker, fails=False))
        if self.planner is not None:
            self._turn_at(self.period_ns)
        self.env.run()
        return self

    def _turn_at(self, at_ns: int) -> None:
        if at_ns >= self.duration_ns:
            return
        event = self.env.event()
        event._ok, event._value = True, None
        event.callbacks.append(self._turn)
        self.env.schedule(event, FIRST, at_ns - self.env.now)

    def _turn(self, _: simpy.Event) -> None:
        now = self.env.now
        self._turn_at(now + self.period_ns)
        view = PlannerView(
            now,
            self.since,
            self.cluster.dispatch_ns,
            tuple(self._kind_view(kind, now) for kind in range(len(self.names))),
            tuple(self._queue_view(place, now) for place in range(len(self.groups))),
        )
        plan = self.planner.plan(view)
        for place, seen in enumerate(view.queues):
            given = plan.queues.get(seen.name, {})
            if isinstance(given, dict):
                self.policies[place] = replace(self.policies[place], **plan.parameters | given)
            else:
                self.policies[place] = given
        for worker, names in plan.resident.items():
            kind = self.kind_of[worker]
            if self._memory(kind) is not None:
                models = [self._named(kind)[name] for name in names]
                self.kept[worker], self.absent[worker] = models, models
                self._load_ahead(worker)
        for kind, seen in enumerate(view.kinds):
            wanted = plan.workers.get(seen.name)
            if wanted is None:
                continue
            if seen.scaling is None:
                wanted = seen.workers
            else:
                wanted = max(seen.scaling.min_workers, min(wanted, seen.scaling.max_workers))
            for _ in range(wanted - seen.workers):
                self._hire(kind, now, seen.scaling.startup_ns)
            for _ in range(seen.workers - wanted):
                self._let_go(kind, now)
        self.since = now

    def _hire(self, kind: int, now: int, startup_ns: int) -> None:
        worker = len(self.kind_of)
        self.kind_of.append(kind)
        self.asked.append(now)
        self.resident.append(self._first(kind))
        if self.is_routed:
            self.sites.append([[] for _ in self.groups])
            self.credits[worker, self.skill] = [0.0 for _ in self.groups], len(self.groups) - 1
        self.loaded[worker], self.under_way[worker] = None, {}
        self.fresh.add(worker)
        startup_ns += self._first_load(kind)
        self.starting[worker] = now + startup_ns
        self.env.process(self._start_up(worker, startup_ns))

    def _start_up(self, worker: int, startup_ns: int) -> Generator[simpy.Event, None, None]:
        yield self.env.timeout(startup_ns)
        if self.starting.pop(worker, None) is not None:
            self.free.add(worker)
            self.up[worker] = self.env.now
            self._request_dispatch()

    def _let_go(self, kind: int, now: int) -> None:
        mine = [worker for worker in (*self.starting, *self.up) if self.kind_of[worker] == kind]
        worker = next(
            max(some)
            for some in (
                [worker for worker in mine if worker in self.starting],
                [worker for worker in mine if worker not in self.until],
                mine,
            )
            if some
        )
        self.left[worker] = now
        self.starting.pop(worker, None)
        self.up.pop(worker, None)
        self._request_dispatch()

    def _queue_view(self, place: int, now: int) -> QueueView:
        mine = [query for query, group in enumerate(self.member) if group == place]
        counts = Counter(outcome for at, query, outcome in self.ended if self.since <= at < now and query in mine)
        slos = [self.deadline[query] - self.arrival[query] - self.cluster.network_ns for query in mine]
        return QueueView(
            self.groups[place].name if self.cluster.queues else "",
            {name: self.served[place][kind] for kind, name in enumerate(self.names)},
            sum(self.since <= self.arrival[query] < now for query in mine),
            counts[Outcome.MET],
            counts[Outcome.LATE],
            counts[Outcome.DROPPED],
            counts[Outcome.REJECTED],
            self._waiting(place),
            min(slos, default=0),
            self.groups[place].weight,
        )

    def _kind_view(self, kind: int, now: int) -> KindView:
        mine = sorted(worker for worker in self.up if self.kind_of[worker] == kind)
        first = {worker: max(self.since, self.up[worker]) for worker in mine}
        busy = [(worker, start, end) for worker, start, end in self.busy if worker in first]
        spent = sum(max(0, min(end, now) - max(start, first[worker])) for worker, start, end in busy)
        time = sum(now - first[worker] for worker in mine)
        known = self.cluster.kinds[kind] if self.cluster.kinds else None
        return KindView(
            self.names[kind],
            self.served[0][kind],
            tuple(mine),
            sum(self.kind_of[worker] == kind for worker in self.starting),
            sum(self.kind_of[worker] == kind for worker in self.down if worker not in self.left),
            sum(size for at, worker, size in self.began if self.since <= at < now and self.kind_of[worker] == kind),
            spent / time if time else math.nan,
            known.scaling if known else self.cluster.scaling,
            known.price_per_h if known else None,
            self._first_load(kind),
            None if self._memory(kind) is None else Room(self, kind),
            {worker: self._held(worker) for worker in mine},
        )

    @property
    def lines(self) -> list[list[tuple[int, int]]]:
        """The queues of the workers that are offered."""
        return self.sites[self.site]

    @property
    def queue(self) -> list[tuple[int, int]]:
        """The queue that is offered."""
        return self.lines[self.offered_queue]

    @property
    def slo_ns(self) -> int:
        """The smallest SLO in the queue that is offered."""
        mine = [query for query, group in enumerate(self.member) if group == self.offered_queue]
        return min(self.deadline[query] - self.arrival[query] for query in mine) - self.cluster.network_ns

    @property
    def workers_alive(self) -> int:
        """Workers that have not failed, of those that serve the queue."""
        return sum(self._serves(worker, self.offered_queue) for worker in self.up)

    def _serves(self, worker: int, queue: int) -> bool:
        return self.cluster.placement is None or queue in self.skills[worker]

    def free_workers(self) -> tuple[int, ...]:
        """Return the free workers of the kind that is offered."""
        mine = sorted(worker for worker in self.free if self.kind_of[worker] == self.offered)
        if self.cluster.placement is not None:
            return tuple(worker for worker in mine if self.skills[worker] == self.skill)
        return tuple(worker for worker in mine if not self.is_routed or worker == self.site)

    def subnet_on(self, worker: int) -> int | None:
        """Return the subnet on a worker."""
        subnets = self.tables[self.offered_queue][self.kind_of[worker]].subnets
        rows = [self.rows.index((subnet.id, subnet.accuracy)) for subnet in subnets]
        return rows.index(self.loaded[worker]) if self.loaded[worker] in rows else None

    def _model(self, queue: int, kind: int, subnet: int) -> tuple[str, float]:
        """Return what a subnet of a queue is loaded with: id and accuracy of itself, or of the best of its supernet."""
        subnets = self.tables[queue][kind].subnets
        one = subnets[-1 if self.cluster.weights == "shared" else subnet]
        return one.id, one.accuracy

    def _facts(self, kind: int, model: tuple[str, float]) -> tuple[int, int]:
        """Return bytes and loading time of a model on workers of a kind."""
        mine = [
            one
            for queue, tables in enumerate(self.tables)
            for subnet, one in enumerate(tables[kind].subnets)
            if self._model(queue, kind, subnet) == model
        ]
        size = max(math.ceil(one.params * self.cluster.bytes_per_weight) for one in mine)
        rate = self._memory(kind).load_bytes_per_s
        return size, max(one.loading_ns for one in mine) if rate is None else math.ceil(size / rate * 10**9)

    def _memory(self, kind: int) -> Memory | None:
        return self.cluster.kinds[kind].memory if self.cluster.kinds else self.cluster.memory

    def _used(self, kind: int, models: list[tuple[str, float]]) -> int:
        return sum(self._facts(kind, model)[0] for model in models)

    def _first(self, kind: int) -> list[tuple[str, float]]:
        """Return what a new worker holds."""
        if self._memory(kind) is None:
            return []
        places = [(queue, i) for queue, of in enumerate(self.tables) for i in range(len(of[kind].subnets))]
        found: list[tuple[str, float]] = []
        for model in sorted({self._model(queue, kind, i) for queue, i in places}, key=self.rows.index):
            if self._used(kind, [*found, model]) <= self._memory(kind).size_bytes:
                found.append(model)
        return found[::-1]

    def _placed(self, worker: int) -> list[tuple[str, float]]:
        """Return the models of the queues that a worker serves."""
        kind = self.kind_of[worker]
        if self._memory(kind) is None:
            return []
        pairs = [(queue, i) for queue in self.skills[worker] for i in range(len(self.tables[queue][kind].subnets))]
        return sorted({self._model(queue, kind, i) for queue, i in pairs}, key=self.rows.index)[::-1]

    def _first_load(self, kind: int) -> int:
        return sum(self._facts(kind, model)[1] for model in self._first(kind))

    def loading_ns(self, subnet: int, worker: int) -> int:
        """Return how long the weights of a subnet take to load on a worker."""
        kind = self.kind_of[worker]
        model = self._model(self.offered_queue, kind, subnet)
        if self._memory(kind) is None:
            return 0
        if model in self.resident[worker]:
            return max(0, self.there[worker, model] - self.env.now)
        return max(0, self.lane[worker] - self.env.now) + self._facts(kind, model)[1]

    def _load(self, subnet: int, worker: int) -> int:
        """Have a worker hold the weights of a subnet; return how long that takes."""
        kind, held = self.kind_of[worker], self.resident[worker]
        if self._memory(kind) is None:
            return 0
        took, model = self.loading_ns(subnet, worker), self._model(self.offered_queue, kind, subnet)
        if model in held:
            held.remove(model)
        else:
            self.lane[worker] = self.there[worker, model] = self.env.now + took
        while held and self._used(kind, [*held, model]) > self._memory(kind).size_bytes:
            held.pop(0)
        held.append(model)
        self.in_use[worker] = model
        return took

    def _load_ahead(self, worker: int) -> None:
        """Begin all planned loads for which there is room beside what is planned and what is in use."""
        kind, held = self.kind_of[worker], self.resident[worker]
        while self.absent[worker]:
            model = self.absent[worker][0]
            if model not in held:
                staying = [one for one in held if one in self.kept[worker] or one == self.in_use.get(worker)]
                size = self._memory(kind).size_bytes
                if self._used(kind, [*staying, model]) > size:
                    return
                for other in [one for one in held if one not in staying]:
                    if self._used(kind, [*held, model]) > size:
                        held.remove(other)
                held.append(model)
                begins = max(self.env.now, self.lane[worker])
                self.lane[worker] = self.there[worker, model] = begins + self._facts(kind, model)[1]
            self.absent[worker] = self.absent[worker][1:]

    def _named(self, kind: int) -> dict[str, tuple[str, float]]:
        """Return what each subnet is loaded with, by its id in results."""
        found: dict[str, tuple[str, float]] = {}
        for queue, tables in enumerate(self.tables):
            for subnet, one in enumerate(tables[kind].subnets):
                same = [other for of in self.tables for other in of[kind].subnets if other.id == one.id]
                name = one.id if same[0].accuracy == one.accuracy else f"{self.groups[queue].name}/{one.id}"
                found.setdefault(name, self._model(queue, kind, subnet))
        return found

    def _held(self, worker: int) -> tuple[str, ...]:
        kind = self.kind_of[worker]
        if self._memory(kind) is None:
            return ()
        return tuple(name for name, model in self._named(kind).items() if model in self.resident[worker])

    def deadlines_ns(self, count: int) -> list[int]:
        """Return the earliest deadlines in the queue."""
        return [deadline - self.cluster.network_ns for deadline, _ in sorted(self.queue)[:count]]

    def arrivals_within(self, window_ns: int) -> int:
        """Return how many queries arrived lately."""
        return sum(
            self.env.now - window_ns < at <= self.env.now
            for at, group in zip(self.arrival, self.member, strict=True)
            if group == self.offered_queue
        )

    def _source(self) -> Generator[simpy.Event, None, None]:
        for query, at in enumerate(self.arrival):
            yield self.env.timeout(at - self.env.now)
            self.env.process(self._query(query))

    def _query(self, query: int) -> Generator[simpy.Event, None, None]:
        self.arrived.append(query)
        self._request_dispatch()
        self.outcome[query] = yield self.answer[query]

    def _change(self, at_ns: int, worker: int, *, fails: bool) -> Generator[simpy.Event, None, None]:
        yield self.env.timeout(at_ns)
        self.changes.append((at_ns, fails, worker))
        if worker not in self.left or worker in self.until:
            self._request_dispatch()

    def _request_dispatch(self) -> None:
        if not self.pending:
            self.pending = True
            event = self.env.event()
            event._ok, event._value = True, None
            event.callbacks.append(self._settle)
            self.env.schedule(event, priority=LOWEST)

    def _settle(self, _: simpy.Event) -> None:
        self.pending = False
        now = self.env.now
        self.wait_until = -1
        for query in sorted(self.arrived):
            group, bound = self.member[query], self.groups[self.member[query]].bound
            is_placed = any(group in skill for skill in self.skills)
            if not is_placed or (bound is not None and self._waiting(group) == bound):
                self.answer[query].succeed(Outcome.REJECTED)
                self.ended.append((now, query, Outcome.REJECTED))
            else:
                self._route(query)
        self.arrived.clear()
        for _at, fails, worker in sorted(self.changes):
            if fails:
                self.down.add(worker)
                self.up.pop(worker, None)
                self.until.pop(worker, None)
                self.free.discard(worker)
                self.fresh.discard(worker)
                self.loaded[worker] = None
                self.resident[worker] = []
                self.absent[worker], self.lane[worker] = [], 0
                self.in_use.pop(worker, None)
                lost = [query for run in self.under_way[worker] for query in self.members[run]]
                self.ended += [(now, query, Outcome.DROPPED) for query in lost]
                self.under_way[worker].clear()
                self.runs_now[worker] = 0
                self.busy = [(*one[:2], min(one[2], now)) if one[0] == worker else one for one in self.busy]
            elif worker not in self.left:
                self.down.discard(worker)
                self.up[worker] = now
                self.free.add(worker)
        self.changes.clear()
        self.free -= self.left.keys()
        for worker in self.homes - self.up.keys() if self.is_routed else ():
            for line in self.sites[worker]:
                self.waiting_nowhere += [query for _, query in line]
                line.clear()
        self.homes = set(self.up)
        again, self.waiting_nowhere = sorted(self.waiting_nowhere), []
        for query in again:
            self._route(query)
        while self._offer(now):
            pass

    def _waiting(self, group: int) -> int:
        """Return how many queries of a queue wait, wherever they do."""
        return sum(len(lines[group]) for lines in self.sites) + sum(
            self.member[query] == group for query in self.waiting_nowhere
        )

    def _route(self, query: int) -> None:
        alive = sorted(self.homes)
        match self.cluster.routing:
            case "central":
                site = 0
            case _ if not alive:
                self.waiting_nowhere.append(query)
                return
            case "round_robin":
                later = [worker for worker in alive if worker > self.last_routed]
                site = self.last_routed = (later or alive)[0]
            case "random":
                site = alive[self._share("routing", query) * len(alive) // 2**32]
            case "shortest":
                site = min(alive, key=lambda one: self.runs_now[one] + sum(map(len, self.sites[one])))
        heapq.heappush(self.sites[site][self.member[query]], (self.deadline[query], query))

    def _offer(self, now: int) -> bool:
        """Offer what is free until something is decided that changes the queue; return whether there may be more."""
        self.wait_until = -1
        for kind in self.order:
            self.offered = kind
            mine = [self.skills[worker] for worker in range(self.cluster.workers) if self.kind_of[worker] == kind]
            skills = sorted({*mine}, key=lambda skill: (len(skill), skill)) or [self.skill]
            for site, skill in product(range(len(self.sites)), skills):
                self.site, self.skill = site, skill
                if self.free_workers() and self._offer_site(now):
                    return True
        return False

    def _offer_site(self, now: int) -> bool:
        for place in self.skill:
            self.offered_queue = place
            self._apply_drop_rule(now)
        held: set[int] = set()
        while any(self.lines[place] and place not in held for place in self.skill):
            self.offered_queue = self._next_queue(held)
            if self._ask(now):
                return True
            held.add(self.offered_queue)
        return False

    def _next_queue(self, held: set[int]) -> int:
        """Return the queue that is offered next, of those that have not held."""
        places = [place for place in self.skill if self.lines[place] and place not in held]
        head = {place: self.lines[place][0][0] for place in places}
        match self.cluster.order:
            case "edf":
                return min(places, key=lambda place: head[place])
            case "slack":
                return min(places, key=lambda place: head[place] - min(self.served[place][self.offered].dense_ns[:, 1]))
            case "priority":
                return min(places, key=lambda place: (self.groups[place].priority, head[place]))
        if not held:
            self.tried = list(self.credits[self.site, self.skill][0]), self.credits[self.site, self.skill][1]
        credit, turn = self.tried
        for place in range(len(self.lines)):
            if place not in places and credit[place] > 0:
                credit[place] = 0
        while turn not in places or credit[turn] <= 0:
            turn = (turn + 1) % len(self.lines)
            if turn in places:
                credit[turn] += self._quantum(turn)
        self.tried = credit, turn
        return turn

    def _quantum(self, place: int) -> float:
        longest = max(int(table.dense_ns.max()) for of_queue in self.served for table in of_queue)
        share = self.groups[place].weight / max(group.weight for group in self.groups)
        return (self.cluster.dispatch_ns + longest) * share

    def _ask(self, now: int) -> bool:
        place, kind = self.offered_queue, self.offered
        slack = self.queue[0][0] - now - self.cluster.dispatch_ns - self.cluster.network_ns
        name = self.groups[place].name if self.cluster.queues else ""
        view = View(now, slack, len(self.queue), self.served[place][kind], self, self.names[kind], name)
        match self.policies[place].decide(view):
            case Dispatch() as decision:
                self._begin(decision)
                return True
            case Drop(count=count):
                self._drop(count)
                return True
            case Hold(until_slack_ns=left):
                self._wait(now + slack - left)
            case Wait(until_ns=until):
                self._wait(until)
        return False

    def _wait(self, until_ns: int) -> None:
        self.wait_until = until_ns if self.wait_until < 0 else min(self.wait_until, until_ns)
        self.env.process(self._wake(until_ns))

    def _wake(self, until_ns: int) -> Generator[simpy.Event, None, None]:
        yield self.env.timeout(until_ns - self.env.now)
        if until_ns == self.wait_until:  # the latest answer counts
            self._request_dispatch()

    def _apply_drop_rule(self, now: int) -> None:
        mine = [worker for worker in self.up if self._serves(worker, self.offered_queue)]
        alive = {self.kind_of[worker] for worker in mine if not self.is_routed or worker == self.site}
        cells = [
            (table, *cell)
            for table in (self.tables[self.offered_queue][kind] for kind in alive)
            for cell in np.ndindex(table.dense_ns.shape)
            if cell[1]
        ]
        limit = {
            "never": None,
            "expired": now,
            "hopeless": now + min(table.latency(*cell) + self._overhead(cell[1]) for table, *cell in cells),
        }[self.cluster.drop]
        while limit is not None and self.queue and self.queue[0][0] < limit + self.cluster.network_ns:
            self._drop(1)

    def _drop(self, count: int) -> None:
        for _ in range(count):
            query = heapq.heappop(self.queue)[1]
            self.answer[query].succeed(Outcome.DROPPED)
            self.ended.append((self.env.now, query, Outcome.DROPPED))

    def _begin(self, decision: Dispatch) -> None:
        worker = decision.worker
        if worker is None:
            worker = min(self.free_workers(), key=lambda one: (self.loading_ns(decision.subnet, one), one))
        self.free.remove(worker)
        batch = [heapq.heappop(self.queue)[1] for _ in range(min(decision.batch_size, len(self.queue)))]
        self.runs += 1
        self.runs_now[worker] = len(batch)
        if self.cluster.order == "fair":
            self.credits[self.site, self.skill] = self.tried
            served = self.served[self.offered_queue][self.offered]
            self.tried[0][self.offered_queue] -= self.cluster.dispatch_ns + served.latency(decision.subnet, len(batch))
        table = self.tables[self.offered_queue][self.kind_of[worker]]
        loading = self._load(decision.subnet, worker)
        self.env.process(self._batch(self.runs, worker, table, decision.subnet, batch, loading))

    def _latency(self, planned: LatencyTable, subnet: int, size: int, head: int) -> int:
        """Return the batch's latency at the quantile of its head."""
        table, law = actual_table(planned), self.cluster.latency
        row = _row(table, planned, subnet)
        if not law.is_drawn:
            return table.latency(row, size)
        share = self._share("latency", head)
        cells = _nodes_of(table, law)[row]
        above = next(i for i, measured in enumerate(table.batch_sizes) if measured >= size)
        nodes = cells[above].tolist()
        if table.between == "interpolate" and above and table.batch_sizes[above] != size:
            low, high = table.batch_sizes[above - 1], table.batch_sizes[above]
            count = max(len(cells[above - 1]), len(nodes))
            ends = [[cell[i * len(cell) // count] for i in range(count)] for cell in cells[above - 1 : above + 1]]
            share_of_high = (size - low) / (high - low)
            nodes = [round(float(a + (b - a) * share_of_high)) for a, b in zip(*ends, strict=True)]
        if law.law == "samples":
            return nodes[share * len(nodes) // 2**32]
        return _on_line(nodes, share)

    def _share(self, name: str, head: int) -> int:
        with np.errstate(over="ignore"):
            mixed = self.keys[name] + np.uint64(head + 1) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return int(mixed ^ (mixed >> np.uint64(31))) >> 32

    def _overhead(self, size: int, head: int | None = None) -> int:
        spread, batch = self.cluster.dispatch_p99_over_median, self.cluster.dispatch_ns
        if spread is not None and head is not None:
            table = LatencyTable("overhead", (ProfiledSubnet("s", 70.0),), (1,), np.array([[batch]]))
            nodes = _nodes_of(table, LatencyLaw("lognormal", spread))[0][0].tolist()
            batch = _on_line(nodes, self._share("dispatch", head))
        return batch + size * self.cluster.dispatch_per_query_ns

    def _batch(
        self, run: int, worker: int, table: LatencyTable, subnet: int, batch: list[int], loading: int
    ) -> Generator[simpy.Event, None, None]:
        row = self.rows.index((table.subnets[subnet].id, table.subnets[subnet].accuracy))
        latency, overhead = self._latency(table, subnet, len(batch), batch[0]), self._overhead(len(batch), batch[0])
        if self.loaded[worker] != row and worker not in self.fresh:
            delay = self.cluster.actuation_ns
            overhead += (table.subnets[subnet].loading_ns or 0) if delay == "table" else delay
        overhead += loading
        self.fresh.discard(worker)
        self.loaded[worker] = row
        for query in batch:
            self.start[query], self.worker[query] = self.env.now, worker
            self.subnet[query] = row
        occupied = overhead + max(1, math.floor(latency * self.cluster.occupancy))
        self.began.append((self.env.now, worker, len(batch)))
        self.busy.append((worker, self.env.now, self.env.now + occupied))
        self.until[worker] = self.env.now + occupied
        self.members[run] = batch
        mine = self.under_way[worker]
        mine[run] = max([self.env.now + overhead + latency, *mine.values()])
        rest = mine[run] - self.env.now - occupied
        yield self.env.timeout(occupied)
        if run in mine:
            self.until.pop(worker)
        if run in mine and rest:  # the worker can take its next batch
            self.runs_now[worker] = 0
            self.free.add(worker)
            self._request_dispatch()
        yield self.env.timeout(rest)
        lost = run not in mine
        for query in batch:
            late = self.env.now + self.cluster.network_ns > self.deadline[query]
            self.finish[query] = -1 if lost else self.env.now
            outcome = Outcome.DROPPED if lost else Outcome.LATE if late else Outcome.MET
            self.answer[query].succeed(outcome)
            if not lost:
                self.ended.append((self.env.now, query, outcome))
        if not lost:
            del mine[run]
            if not rest:
                self.runs_now[worker] = 0
                self.free.add(worker)
                self.in_use.pop(worker, None)
                self._load_ahead(worker)
                self._request_dispatch()


def run(case: Case) -> Result:
    """Return what the engine makes of a case."""
    return simulate(case.trace, case.cluster, case.table, case.policy, planner=case.planner, period_ns=case.period_ns)


def naive_engine_agrees(case: Case) -> None:
    """Check that both engines agree on each query of a case, and on each worker of one with a planner."""
    result = run(case)
    plans = {"planner": case.planner, "period_ns": case.period_ns}
    naive = NaiveEngine(case.trace, case.cluster, case.table, case.policy, **plans).run()
    finish = np.where(result.answered, result.per_query(result.batches.finish_ns), -1)
    assert result.per_query(result.batches.start_ns).tolist() == naive.start
    assert finish.tolist() == naive.finish
    assert result.per_query(result.batches.worker).tolist() == naive.worker
    assert result.per_query(result.batches.subnet).tolist() == naive.subnet
    assert result.outcome.tolist() == [int(outcome) for outcome in naive.outcome]
    if case.planner is not None:
        assert result.fleet.kind.tolist() == naive.kind_of
        assert result.fleet.asked_ns.tolist() == naive.asked
