"""Everything that needs a GPU, in one command of at most eight minutes: tests, tables, and what they say.

    make gpu
    python -m benchmarks.gpu_check [--gpu 0] [--out results/gpu-check] [--wheels FOLDER]

The six subnets of OFA-ResNet50 that SuperServe's authors published are profiled at 224 x 224 at batch sizes 1 to 32.
Their weights are random, which does not influence the latency. Steps run in the order of their worth; each writes its
files when it is done, and none begins that can't end in time. A step that fails does not stop the next.

It needs PyTorch and the packages of `NEEDED`, and neither a network nor an installation of ssim. What is missing is
named, with the command that fetches it on another machine; `--wheels` installs it from a folder, for this run only.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

NEEDED = {
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "pyarrow": "pyarrow",
    "simpy": "simpy",
    "annotated_types": "annotated-types",
    "platformdirs": "platformdirs",
    "safetensors": "safetensors",
}
"""What is imported, by the names of modules and of packages."""

WANTED = {"pytest": "pytest", "pynvml": "nvidia-ml-py"}
"""Without these there are no tests, or neither clocks nor energy."""

LIMIT_MINUTES = 8.0

RESERVE_S = 20
"""Steps end so long before the limit: what is running then may take a moment longer."""


def missing(names: dict[str, str]) -> list[str]:
    """Return the packages that are not installed."""
    return [package for module, package in names.items() if importlib.util.find_spec(module) is None]


def install(wheels: Path) -> None:
    """Install all wheels of a folder for this process and its children."""
    files = [str(path) for path in sorted(wheels.glob("*.whl"))]
    if not files:
        sys.exit(f"--wheels: no .whl file in this folder ({wheels})")
    target = tempfile.mkdtemp(prefix="gpu_check")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target, *files]
    subprocess.run(command, check=True)
    sys.path.insert(0, target)
    importlib.invalidate_caches()


def stop_at(end_s: float) -> None:
    """End the process at a time, whatever it does then: what is written stays."""

    def stop() -> None:
        print("stopped: the time is over; finished steps are written", flush=True)
        os._exit(3)

    timer = threading.Timer(max(0.0, end_s - time.monotonic()), stop)
    timer.daemon = True
    timer.start()


def main(arguments: list[str] | None = None) -> None:
    """Run the check."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gpu", type=int, default=0, help="number of the GPU")
    parser.add_argument("--out", type=Path, default=Path("results/gpu-check"), help="folder of the files")
    parser.add_argument("--minutes", type=float, default=LIMIT_MINUTES, help="the most time")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of packages that are not installed")
    parser.add_argument("--rehearse", action="store_true", help="a small supernet on the CPU, in seconds")
    options = parser.parse_args(arguments)
    if options.wheels is not None:
        install(options.wheels)
    lacking, useful = missing(NEEDED), missing(WANTED)
    if lacking or useful:
        names = " ".join([*lacking, *useful])
        print(f"not installed: {names}", file=sys.stderr)
        print(f"where there is a network: pip download --no-deps -d wheels {names}", file=sys.stderr)
        print("then here: --wheels wheels", file=sys.stderr, flush=True)
    if lacking:
        sys.exit(2)
    from benchmarks import gpu_steps  # noqa: PLC0415 - it imports what may have to be installed first

    options.out.mkdir(parents=True, exist_ok=True)
    end_s = begin + 60 * options.minutes
    stop_at(end_s)
    try:
        check = gpu_steps.prepared(None if options.rehearse else options.gpu, options.out, end_s - RESERVE_S)
    except gpu_steps.SsimError as error:
        sys.exit(f"{error.location}: {error.problem} ({error.value}); --rehearse runs it small on the CPU")
    gpu_steps.check_all(check)
    print((options.out / "summary.md").read_text(encoding="utf-8"))
    failed = [name for name, outcome, _ in check.steps if outcome.startswith("FAILED")]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
