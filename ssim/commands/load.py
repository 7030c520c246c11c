"""`ssim load FILE --to ADDRESS`: the queries of a trace are sent to a server, open-loop."""

from __future__ import annotations

from pathlib import Path

import click

from ssim.commands.group import example
from ssim.commands.options import ShippedFile, set_option


@click.command(epilog=example("ssim load azure_ideal --to http://127.0.0.1:8000"))
@click.argument("file", metavar="FILE", type=ShippedFile("experiments"))
@set_option
@click.option(
    "--to",
    "address",
    required=True,
    metavar="ADDRESS",
    help="The server, such as http://127.0.0.1:8000 or grpc://127.0.0.1:8001; https and grpcs for TLS.",
)
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificate to trust, a PEM file; those of the system if left out.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what became of each query to this .parquet file.",
)
def load(file: Path, overrides: tuple[str, ...], address: str, ca: Path | None, out: Path | None) -> None:
    """Send the queries of the trace of FILE to a server at their instants, whether or not it keeps up.

    Latencies count from the intended instant to the answer here. The SLO of a query is sent as its timeout. If this
    machine was late to send, the figures are void. Of FILE, only trace, name and seed count.
    """
    from ssim.extras import require

    require("aiohttp", "prometheus_client", "grpc")

    from ssim.commands.present.load import send_and_report
    from ssim.jobs.reading import read_job

    send_and_report(read_job(file, overrides, "experiment/1"), address, ca, out)
