"""Workers that join over the network: the laws of live runs hold, whoever comes and goes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("grpc", reason="workers of other machines need the extra [serve]")

import grpc

from policies.clipper import Clipper
from policies.slackfit import SlackFit
from serving import workers
from serving.facts import facts
from serving.frames import VERSION, FrameError, FrameKind, frame, json_frame
from serving.remote.address import KEEPALIVE_S, METHOD, METHOD_SERVICE, Address, Tls
from serving.remote.places import Place
from serving.session import serve_trace
from serving.workers import by_our_clock
from sim.base.errors import ServingError, SpecError
from sim.engine.cluster import Cluster
from sim.engine.result import NONE
from sim.engine.run_metrics import Outcome
from sim.traces.trace import Trace
from tests.serving.laws import SECOND, TABLE, check_laws, trace
from tests.serving.remote.joiners import REQUIRED, Joiners
from tests.serving.test_session import CASES, Counting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from serving.session import LiveRun
    from serving.workers import LiveWorker

OPENSSL = shutil.which("openssl")


@pytest.fixture
def joiners() -> Iterator[Joiners]:
    with Joiners() as found:
        yield found


@pytest.mark.parametrize(
    "name", ["slackfit, several SLOs, actuation", pytest.param("waits by chance", marks=pytest.mark.slow)]
)
def test_the_laws_of_live_runs_hold(name: str, joiners: Joiners) -> None:
    policy, cluster, slos = CASES[name]
    sent = trace(0.3, 600, slos)
    run = serve_trace(sent, cluster, TABLE, policy(), seed=3, program=joiners.source())
    check_laws(run, sent, cluster, policy(), 3)
    assert run.log.faults == []
    assert not np.any(run.result.outcome == Outcome.UNFINISHED)
    assert sum("joined" in sentence for sentence in joiners.told) == cluster.workers


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(20))
def test_the_replay_law_holds_in_run_after_run(turn: int, joiners: Joiners) -> None:
    policy, cluster, slos = list(CASES.values())[turn % len(CASES)]
    sent = trace(2, 300 + 50 * turn, slos)
    run = serve_trace(sent, cluster, TABLE, policy(), seed=turn, program=joiners.source())
    check_laws(run, sent, cluster, policy(), turn)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_another_worker_takes_the_place_of_one_that_is_lost(
    number: int, joiners: Joiners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "HANG_NS", SECOND // 4)
    joiners.spare = 1
    sent, cluster, policy = trace(30, 400), Cluster(1), Counting(SlackFit())
    there: list[LiveWorker] = []
    since = 0

    def on_start(found: list[LiveWorker]) -> None:
        there.extend(found)
        pid = found[0].pid or 0
        asyncio.get_running_loop().call_later(0.2, lambda: os.kill(pid, number))

    def is_served_again() -> bool:
        nonlocal since
        if not since and sum("joined" in sentence for sentence in joiners.told) == 2 and there[0].is_up:
            since = policy.decisions
        return bool(since) and policy.decisions > since + 10

    source = joiners.source()
    run = serve_trace(sent, cluster, TABLE, policy, program=source, on_start=on_start, is_interrupted=is_served_again)
    check_laws(run, received_part(run, sent), cluster, SlackFit())
    failed = [one.at_ns for one in run.log.instants if one.failed]
    recovered = [one.at_ns for one in run.log.instants if one.recovered]
    assert len(failed) == len(recovered) == 1
    assert run.log.batches[-1].start_ns >= recovered[-1]
    assert not np.any(run.result.outcome == Outcome.UNFINISHED)


def test_a_worker_that_stays_away_is_not_waited_for(joiners: Joiners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "patience_ns", SECOND // 10)
    sent, cluster = trace(0.3, 400), Cluster(1)

    def on_start(_found: list[LiveWorker]) -> None:
        asyncio.get_running_loop().call_later(0.1, joiners.processes[0].kill)

    run = serve_trace(sent, cluster, TABLE, SlackFit(), program=joiners.source(), on_start=on_start)
    check_laws(run, sent, cluster, SlackFit())
    assert facts(run)["unfinished"] > 0
    assert run.log.faults[-1] == "worker 0 did not come back within 0.1 s"


@pytest.mark.slow
def test_a_worker_that_has_nothing_to_do_stays(joiners: Joiners) -> None:
    """Both sides try a silent connection now and then, and neither takes that for abuse."""
    joiners.spare = -1
    second = Timer(12 * KEEPALIVE_S, joiners.start)
    second.start()
    sent = trace(0.1, 100)
    run = serve_trace(sent, Cluster(2), TABLE, SlackFit(), program=joiners.source())
    check_laws(run, sent, Cluster(2), SlackFit())
    assert run.log.faults == []
    assert sum("joined" in sentence for sentence in joiners.told) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [("answers twice", "nobody asked for"), ("short answer", "a body of"), ("other size", "not to")],
)
def test_a_worker_with_a_fault_is_sent_away_and_its_batch_is_accounted_for(
    fault: str, reason: str, joiners: Joiners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MAX_FAILED_STARTS", 2)
    monkeypatch.setattr(Place, "patience_ns", SECOND // 2)
    joiners.module, joiners.settings = "tests.serving.bad_worker", {"fault": fault}
    sent = trace(0.05, 400)
    run = serve_trace(sent, Cluster(1), TABLE, Clipper(73.82), program=joiners.source())
    assert reason in run.log.faults[0]
    answered = np.count_nonzero(run.answered_ns != NONE)
    assert answered + facts(run)["lost"] + facts(run)["unfinished"] == len(sent)


def served_meanwhile(joiners: Joiners, work: Callable[[], None], **more: Any) -> LiveRun:
    """Serve with one worker until some work is done in a thread, and check the laws."""
    sent, cluster, thread = trace(60, 100), Cluster(1), Thread(target=work)
    run = serve_trace(
        sent,
        cluster,
        TABLE,
        SlackFit(),
        program=joiners.source(**more),
        on_start=lambda _workers: thread.start(),
        is_interrupted=lambda: thread.ident is not None and not thread.is_alive(),
    )
    check_laws(run, received_part(run, sent), cluster, SlackFit())
    assert run.log.faults == []
    return run


def received_part(run: LiveRun, sent: Trace) -> Trace:
    """Return the part of a trace that an interrupted run received."""
    return Trace(sent.arrival_ns[: len(run.log.arrival_ns)], sent.slo_ns, sent.duration_ns)


def call_with(joiners: Joiners, *messages: bytes) -> grpc.StatusCode:
    """Make the call of a worker with some messages; return its status."""
    with grpc.insecure_channel(str(joiners.address)) as channel:
        call = channel.stream_stream(f"/{METHOD_SERVICE}/{METHOD}")(iter(messages))
        with suppress(grpc.RpcError):
            for _ in call:
                pass
        code: grpc.StatusCode = call.code()
        return code


def test_strangers_are_sent_away_and_told_why_on_both_sides(joiners: Joiners) -> None:
    hello = json_frame(FrameKind.HELLO, {"protocol": VERSION, **REQUIRED})
    strange = (b"", b"GET / HTTP/1.1\r\n\r\n", hello[:-1], hello + hello, hello + bytes(2**16), frame(FrameKind.DONE))
    codes, said = list[grpc.StatusCode](), list[str]()

    def come() -> None:
        other = joiners.start(required={"latency_table": "another"})
        codes.extend(call_with(joiners, message) for message in strange)
        codes.append(call_with(joiners))
        said.append(other.communicate(timeout=60)[1])

    served_meanwhile(joiners, come)
    assert codes == [grpc.StatusCode.INVALID_ARGUMENT] * (len(strange) + 1)
    reason = "latency_table is another there and that of the test here"
    assert any("refused" in sentence and reason in sentence for sentence in joiners.told)
    assert "refuses this worker" in said[0]
    assert reason in said[0]


def test_a_taken_port_is_refused(joiners: Joiners) -> None:
    def on_start(_found: list[LiveWorker]) -> None:
        assert joiners.address is not None
        second = joiners.source()
        second._address = joiners.address

        async def listen() -> None:
            with pytest.raises(ServingError, match="can't be listened on for workers"):
                async with second.links(1):
                    pass

        joiners.taken = asyncio.ensure_future(listen())  # type: ignore[attr-defined]

    serve_trace(trace(0.1, 100), Cluster(1), TABLE, SlackFit(), program=joiners.source(), on_start=on_start)
    joiners.taken.result()  # type: ignore[attr-defined]


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1, and its key."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = [
        "-days",
        "2",
        "-subj",
        f"/CN={name}",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run([*words, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_by_tls_only_those_with_the_certificate_join(joiners: Joiners, tmp_path: Path) -> None:
    ours, others = certificate(tmp_path, "ours"), certificate(tmp_path, "others")
    joiners.tls = (*ours, ours[0])
    strange = [(), (*others, ours[0]), (*ours, others[0])]  # plain, unknown, distrusting
    said = list[str]()

    def come() -> None:
        found = [joiners.start(tls=list(map(str, files)), patience_s=0) for files in strange]
        said.extend(process.communicate(timeout=60)[1] for process in found)

    served_meanwhile(joiners, come, tls=Tls.read(*ours, ours[0], "tls"))
    assert sum("joined" in sentence for sentence in joiners.told) == 1
    assert len(said) == len(strange)
    assert all("did not let this worker in" in text for text in said)


def test_certificates_that_can_t_be_used_are_refused(tmp_path: Path) -> None:
    (cert, key), (_, other) = certificate(tmp_path, "ours"), certificate(tmp_path, "others")
    with pytest.raises(SpecError, match=r"live.remote.cert: can't be used with its key"):
        Tls.read(cert, other, cert, "live.remote")
    with pytest.raises(SpecError, match=r"live.remote.ca: can't be used"):
        Tls.read(cert, key, key, "live.remote")


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":8002", "host:-1", "host:65536", "::1:8002", "[::1:8002", "a:b:1"]
)
def test_an_address_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(SpecError, match=r"live.remote.listen: must be HOST:PORT"):
        Address.read(text, "live.remote.listen")


def test_an_address_comes_back_as_written() -> None:
    for text in ("127.0.0.1:8002", "[::1]:0", "localhost:65535"):
        assert str(Address.read(text, "--to")) == text


def test_beyond_this_machine_there_is_tls_or_consent() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):  # noqa: S104 - they are refused
        with pytest.raises(SpecError, match=r"--to: is beyond this machine"):
            Address(host, 1).check("--to", has_tls=False, insecure=False)
        assert Address(host, 1).check("--to", has_tls=True, insecure=False)
        assert Address(host, 1).check("--to", has_tls=False, insecure=True)
    assert not Address("127.0.0.1", 1).check("--to", has_tls=False, insecure=False)


def test_instants_of_another_clock_keep_their_distances_and_lie_in_between() -> None:
    rng = np.random.default_rng(7)
    for _ in range(100):
        sent, there, begun, ended, back = np.cumsum(rng.integers(0, 1000, 5)).tolist()
        shift = int(rng.integers(-(10**12), 10**12))
        found = by_our_clock(sent, [at + shift for at in (there, begun, ended)], back)
        assert np.diff(found).tolist() == np.diff([there, begun, ended]).tolist()
        assert sent <= found[0]
        assert found[-1] <= back
        assert abs((found[0] - sent) - (back - found[-1])) <= 1


@pytest.mark.parametrize("times", [[5, 4, 6], [5, 7, 6], [0, 1, 12]])
def test_instants_that_can_t_be_are_nonsense(times: list[int]) -> None:
    with pytest.raises(FrameError, match="instants"):
        by_our_clock(100, times, 110)
