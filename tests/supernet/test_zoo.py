"""Networks of torchvision, timm and transformers become supernets, and their subnets compute what they should."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from benchmarks.zoo import attempt, differences
from benchmarks.zoo_networks import FOUND, NOT_RUN, PICKED, QUICK, ZOO

MOST_KEPT = 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ZOO])
def test_no_subnet_computes_something_else(name: str) -> None:
    library = ZOO[name].library
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install 'superserve-sim[zoo]'")
    outcome = attempt(ZOO[name])
    assert not list(differences(outcome))
    assert outcome.supernet is not None or outcome.refusal
    if name in QUICK:
        assert outcome.supernet is not None
        assert len(outcome.keep) <= MOST_KEPT


def test_names_are_unique() -> None:
    assert len(ZOO) == len(FOUND) + len(NOT_RUN) + len(PICKED)
    assert set(QUICK) <= set(ZOO)
    assert len(PICKED) == 10
