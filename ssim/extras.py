"""What is installed only with an extra, and the one sentence that says so."""

from __future__ import annotations

from importlib.util import find_spec

from sim.base.errors import SpecError

EXTRAS = {
    "numba": "fast",
    "torch": "torch",
    "safetensors": "torch",
    "sklearn": "torch",
    "pynvml": "torch",
    "ray": "ray",
    "distributed": "dask",
    "dask": "dask",
    "dp_accounting": "privacy",
    "plotly": "report",
    "aiohttp": "serve",
    "prometheus_client": "serve",
    "grpc": "serve",
}
"""The extra that installs a module."""


def install(extra: str) -> str:
    """Return the command that installs an extra; it holds for a wheel, and for a clone that is installed."""
    return f"pip install 'superserve-sim[{extra}]'"


def missing(module: str) -> SpecError | None:
    """Return the error that tells that a module is not installed, or None where no extra has it."""
    name = module.partition(".")[0]
    return SpecError(name, "is not installed", "", install(EXTRAS[name])) if name in EXTRAS else None


def require(*modules: str) -> None:
    """Check that modules can be imported, without importing them.

    Raises:
        SpecError: One is not installed; names the extra that has it.
    """
    for module in modules:
        error = missing(module)
        if error is not None and find_spec(module) is None:
            raise error
