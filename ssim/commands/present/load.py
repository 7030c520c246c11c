"""What came of a trace that was sent to a server: a table, the course of time, and a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from sim.base.errors import SpecError
from sim.base.whole_file import whole_file
from sim.engine.service_queue import in_queues
from ssim.commands.printing import console

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa
    from rich.table import Table

    from serving.front.client import SentTrace
    from ssim.jobs.job import Job

_SCHEMES = ("http", "https", "grpc", "grpcs")

_MOST_ROWS = 20
"""Windows of time that are shown."""


def send_and_report(job: Job, address: str, ca: Path | None, out: Path | None) -> None:
    """Send the trace of an experiment to a server, print what came of it, and write it to a file.

    Args:
        job: The experiment.
        address: Of the server.
        ca: The certificate that is trusted.
        out: A .parquet file for a row for each query, or None.

    Raises:
        SpecError: An option or the file is wrong.
        ServingError: The server can't be reached.
        StoreError: The file can't be written.
    """
    import pyarrow.parquet as pq
    from rich.console import Console

    from serving.front.client import send_trace
    from serving.interruption import Interruption

    url = _url(address, ca)
    if out is not None and out.suffix != ".parquet":
        raise SpecError("--out", "must be a .parquet file", str(out))
    if job.swept:
        raise SpecError("sweep", "one trace is sent", ", ".join(job.swept), "leave it out, and give a value by --set")
    run = job.runs[0]
    queues = run.parts.cluster.queues
    trace, models = in_queues(run.trace(), queues), [queue.name for queue in queues] or [job.name]
    text = f"Sending {len(trace):,} queries in {trace.duration_ns / 1e9:g} s to {url}. Ctrl-C ends."
    Console(stderr=True).print(text, soft_wrap=True, highlight=False)
    with Interruption(is_end=True) as interruption:
        sent = send_trace(trace, url, models, ca, lambda: interruption.is_asked)
        if out is not None:
            with whole_file(out) as unfinished:
                pq.write_table(_table(sent), unfinished)
    _print(sent)
    if out is not None:
        console().print(f"Queries: {out}", soft_wrap=True)


def _url(address: str, ca: Path | None) -> str:
    """Return the URL of a server.

    Raises:
        SpecError: The address is not one.
    """
    url = address if "://" in address else f"http://{address}"
    parts = None
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in _SCHEMES and parts.hostname and parts.path in {"", "/"} and parts.port != 0
        is_url = is_url and (parts.port is not None or parts.scheme.startswith("http"))
    except ValueError:
        is_url = False
    if parts is None or not is_url:
        hint = "such as http://127.0.0.1:8000 or grpc://127.0.0.1:8001"
        raise SpecError("--to", "must be the address of a server", repr(address), hint)
    if ca is not None and parts.scheme not in {"https", "grpcs"}:
        raise SpecError(
            "--ca", "has no effect without TLS", "", "give an address that begins with https:// or grpcs://"
        )
    return url


def _print(sent: SentTrace) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from serving.facts import void_reasons

    screen, served, met = console(), sent.served, sent.met
    title = "At the client; send lag and time outside the router: median / 99th percentile"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    columns = ("queries", "SLO attainment", "accuracy %", "p50 ms", "p99 ms", "late", "not served")
    for name in (*columns, "send lag ms", "outside ms"):
        table.add_column(name, justify="right")
    table.add_row(
        f"{len(met):,}",
        f"{met.mean():.6f}",
        _mean(sent.accuracy[met]),
        *(_quantile_ms(sent.latency_ns, share) for share in (0.5, 0.99)),
        f"{int((served & ~met).sum()):,}",
        f"{int((~served).sum()):,}",
        "/".join(_quantile_ms(sent.send_lag_ns, share) for share in (0.5, 0.99)),
        "/".join(_quantile_ms(sent.outside_ns, share) for share in (0.5, 0.99)),
    )
    screen.print(table)
    screen.print(_course(sent))
    for problem, count in sorted(sent.problems.items(), key=lambda item: -item[1])[:5]:
        screen.print(f"{count:,} x {problem}", soft_wrap=True, markup=False, highlight=False)
    if sent.unsent:
        screen.print(f"Interrupted: {len(met):,} queries were sent, {sent.unsent:,} were not.", soft_wrap=True)
    for reason in void_reasons({"send_lag": sent.send_lag_ns}):
        screen.print(f"Void: {reason}. The machine was too busy to send in time.", soft_wrap=True)


def _course(sent: SentTrace) -> Table:
    """Return a table of windows of time."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    seconds = max(1, -(-(int(sent.intended_ns[-1]) + 1) // (_MOST_ROWS * 10**9)))
    window = sent.intended_ns // (seconds * 10**9)
    table = Table(box=SIMPLE_HEAD, padding=0)
    for name in ("from s", "queries", "SLO attainment", "accuracy %", "subnets"):
        table.add_column(name, justify="left" if name == "subnets" else "right")
    for number in range(int(window[-1]) + 1):
        here = window == number
        if not here.any():
            table.add_row(str(number * seconds), "0", "-", "-", "")
            continue
        codes, counts = np.unique(sent.subnet[here & sent.served], return_counts=True)
        pairs = sorted(zip(codes.tolist(), counts.tolist(), strict=True), key=lambda pair: -pair[1])
        shares = [f"{sent.subnets[code]} {count / int(here.sum()):.0%}" for code, count in pairs[:3]]
        met = sent.met[here]
        accuracy = _mean(sent.accuracy[here & sent.met])
        table.add_row(str(number * seconds), f"{len(met):,}", f"{met.mean():.4f}", accuracy, ", ".join(shares))
    return table


def _mean(values: npt.NDArray[Any]) -> str:
    return f"{values.mean():.2f}" if len(values) else "-"


def _quantile_ms(values: npt.NDArray[Any], share: float) -> str:
    return f"{np.quantile(values, share) / 1e6:.2f}" if len(values) else "-"


def _table(sent: SentTrace) -> pa.Table:
    import pyarrow as pa

    from sim.engine.arrow import arrow_table

    def known(values: npt.NDArray[Any]) -> pa.Array:
        return pa.array(values, mask=values < 0)

    names = pa.DictionaryArray.from_arrays(known(sent.subnet).cast(pa.int32()), pa.array(sent.subnets, pa.string()))
    return arrow_table(
        "load/1",
        request=(pa.array([str(number) for number in range(len(sent.status))]), "id of the request"),
        intended_ns=(sent.intended_ns, "arrival in the trace, ns from its start"),
        slo_ns=(sent.slo_ns, "its SLO, sent as timeout, ns"),
        sent_ns=(known(sent.sent_ns), "request written, ns; null: never"),
        answered_ns=(known(sent.answered_ns), "answer received, ns; null: never"),
        status=(pa.array(sent.status, mask=sent.status == 0), "HTTP status of the answer; null: none"),
        router_ns=(known(sent.router_ns), "from receipt to answer at the router, ns; null: not served"),
        subnet=(names, "id of the subnet; null: not served"),
    )
