"""Ray places the workers of a live run on a cluster, starts them, and starts them again when they are lost.

It does not carry batches: each worker joins the router as one that is started by hand.
"""

from __future__ import annotations

import ipaddress
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import ray

from serving.remote.joining import join
from sim.base.errors import ServingError, SpecError, SsimError
from topology.engines.ray_cluster import address_of, connect, nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from concurrent.futures import Future

    from serving.processes import WorkerProgram
    from serving.remote.address import Address, Tls

_PLACE = "live.remote"

_END_S = 2.0
"""How long workers may take to end."""


class _Worker:
    """An actor that is a worker; Ray calls `serve` again where it has started the actor again."""

    def serve(self, address: Address, tls: Tls | None, program: WorkerProgram, required: Mapping[str, Any]) -> None:
        """Join the router, and serve until it is gone."""
        join(address, tls, program, required, print, waits=False)


@contextmanager
def placed(
    cluster: str | None,
    needs: Mapping[str, float],
    tls: Tls | None,
    program: WorkerProgram,
    required: Mapping[str, Any],
    at: Address,
    workers: int,
    fail: Callable[[SsimError], None],
) -> Generator[None]:
    """Provide workers on a Ray cluster, which is started here and ends with the context if there is none.

    Args:
        cluster: `host:port`, `ray://host:port` or `auto`; None for one that is started here.
        needs: What a worker needs, `num_cpus` and `num_gpus`.
        tls: What workers are shown and must show.
        program: What they run.
        required: What they must have in common with the router, by name.
        at: Where the router waits for them.
        workers: How many there are.
        fail: Called, in any thread, with the error of a worker that Ray does not start again.

    Raises:
        SpecError: The machines of the cluster can't reach the router, or have not enough cores or GPUs.
        SsimError: There is no cluster.
    """
    untyped: Any = ray  # its decorator has no types for options
    options = {**needs, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
    with _connected(cluster, max(1, round(workers * needs["num_cpus"]))):
        _check(needs, at, workers)
        actors = [untyped.remote(**options)(_Worker).remote() for _ in range(workers)]
        calls = [actor.serve.remote(at, tls, program, dict(required)) for actor in actors]
        for call in calls:
            call.future().add_done_callback(partial(_ended, fail))
        try:
            yield
            untyped.wait(calls, num_returns=workers, timeout=_END_S)  # they were told to end
        finally:
            for actor in actors:
                untyped.kill(actor)


@contextmanager
def _connected(cluster: str | None, cores: int) -> Generator[None]:
    """Connect to a cluster, unless this process is connected to one."""
    if ray.is_initialized():
        yield
        return
    cluster = address_of(cluster)
    try:
        connect(cluster, cores)
    except (OSError, RuntimeError, ValueError) as error:
        what = "no Ray cluster answers" if cluster else "no Ray cluster can be started here"
        hint = "host:port, ray://host:port or auto; see `ray status` there"
        raise SsimError(f"{_PLACE}.address", what, f"{cluster or ''} {error}".strip(), hint) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check(needs: Mapping[str, float], at: Address, workers: int) -> None:
    there, place = nodes(), f"{_PLACE}.listen"
    is_here = _is_loopback(at.host)
    if is_here and len({node.names[-1] for node in there}) > 1:
        names = ", ".join(sorted({node.names[-1] for node in there}))
        hint = f"an address of this machine that they reach: {names}"
        raise SpecError(place, "can't be reached by the machines of the Ray cluster", str(at), hint)
    for name, short in (("num_cpus", "cpu"), ("num_gpus", "gpu")):
        has, needed = sum(node.resources.get(short, 0.0) for node in there), workers * needs[name]
        if needed > has:
            problem = f"the Ray cluster has {has:g} {short}, and {workers} workers need {needed:g}"
            raise SpecError("cluster.workers", problem, "", "fewer workers, or more machines")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ended(fail: Callable[[SsimError], None], call: Future[Any]) -> None:
    """Hand on the error of a worker: its own, or what Ray says."""
    error = call.exception()
    if error is None:
        return
    cause = getattr(error, "cause", error)
    own = cause if isinstance(cause, SsimError) else ServingError("worker on Ray", "ended", "", str(cause))
    fail(own)
