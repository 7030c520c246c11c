"""What the tests of trace sources share: one source of each kind of generator, and the folder of recorded traces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sim.traces.azure import Azure
from sim.traces.synthetic import Bursty, Constant, Gamma, Poisson, TimeVarying

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.traces.source import TraceSource

_RAMP = {"start_qps": 2500, "end_qps": 7400, "acceleration_qps2": 250, "ramp_start_s": 10}

GENERATORS = [
    Poisson(slo_ms=36, mean_qps=6400, duration_s=60),
    Gamma(slo_ms=36, mean_qps=6400, cv2=4, duration_s=60),
    Gamma(slo_ms=36, mean_qps=6400, cv2=0, duration_s=60),
    Constant(slo_ms=36, mean_qps=6400, duration_s=60),
    Bursty(slo_ms=36, base_qps=1500, variant_qps=4900, cv2=8, duration_s=60),
    TimeVarying(slo_ms=36, cv2=8, duration_s=60, **_RAMP),
    Azure(slo_ms=36),
]

_REPOSITORY = Path(__file__).resolve().parents[3]


def recorded(name: str) -> str:
    """Return the path of a recorded trace, or skip the test without it."""
    path = Path(os.environ.get("SSIM_TRACES", _REPOSITORY.parent / "shared" / "traces")) / name
    if not path.exists():
        pytest.skip(f"no recorded trace {name}: SSIM_TRACES names no folder that has it")
    return str(path)


def joined(source: TraceSource, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.concatenate(list(source.chunks(seed)))


def identity(value: object) -> str:
    return getattr(value, "kind", str(value))
