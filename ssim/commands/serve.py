"""`ssim serve FILE`: clients ask over the network, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import click

from ssim.commands.group import example
from ssim.commands.options import file_options

_PEM = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog=example("ssim serve azure_ideal --set 'policies=[slackfit]' --dashboard"))
@file_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Name or address of this machine to listen on.")
@click.option(
    "--http-port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port for HTTP; 0: any."
)
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="Port for gRPC; 0: any."
)
@click.option("--cert", type=_PEM, help="Certificate chain for TLS, a PEM file.")
@click.option("--key", type=_PEM, help="Private key of the certificate, a PEM file.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without TLS.")
@click.option("--dashboard", is_flag=True, help="Show the last five minutes on a page at the same address.")
def serve(
    file: Path,
    out: Path,
    overrides: tuple[str, ...],
    host: str,
    http_port: int,
    grpc_port: int,
    cert: Path | None,
    key: Path | None,
    *,
    insecure: bool,
    dashboard: bool,
) -> None:
    """Serve requests for the model of FILE by its policy, in real time.

    Clients speak the Open Inference Protocol (KServe v2); the parameter `timeout` is the deadline in microseconds. The
    trace of FILE is not sent (`ssim load` does that); its SLO is that of requests without a timeout. Each queue of FILE
    is a model of its name. Ctrl-C or SIGTERM ends: what was received is answered, stored and reported.
    """
    from ssim.extras import require

    require("aiohttp", "prometheus_client", "grpc")

    from serving.front.listening import Listen
    from ssim.commands.present.served import serve_until_interrupted
    from ssim.jobs.reading import read_job

    job = read_job(file, overrides, "experiment/1")
    serve_until_interrupted(job, out, Listen(host, http_port, grpc_port, cert, key, insecure, dashboard))
