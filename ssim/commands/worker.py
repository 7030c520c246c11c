"""`ssim worker FILE --to ADDRESS`: a worker of another machine joins the router of a live run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ssim.commands.group import example
from ssim.commands.options import ShippedFile, set_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=example("ssim worker azure_ideal --set live.remote={} --to 127.0.0.1:8002"))
@click.argument("file", metavar="FILE", type=ShippedFile("experiments"))
@set_option
@click.option("--to", "address", required=True, metavar="HOST:PORT", help="Where the router waits for workers.")
def worker(file: Path, overrides: tuple[str, ...], address: str) -> None:
    """Serve batches of the router that runs FILE on another machine, until it ends.

    FILE and its latency table are the same there and here; what `live` names (supernet, device, certificates) is of
    this machine. It joins each run of the router, and ends when none is there for 15 s.
    """
    from ssim.extras import require

    require("grpc")

    from ssim.commands.present.worker import join_and_tell
    from ssim.jobs.reading import read_job

    join_and_tell(read_job(file, overrides, "experiment/1"), address)
