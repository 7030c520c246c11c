"""The page of the league states what its table holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import yaml

from benchmarks.league import KINDS, SPREAD, WHY, main, page, read
from ssim.jobs.reading import read_job

if TYPE_CHECKING:
    from ssim.jobs.experiment.spec import ExperimentSpec

FILE = Path(__file__).parents[1] / "experiments" / "field.yaml"


@pytest.fixture(scope="module")
def spec() -> ExperimentSpec:
    found: ExperimentSpec = read_job(FILE).spec
    return found


@pytest.fixture(scope="module")
def points() -> list[tuple[dict[str, object], float]]:
    sweep = yaml.safe_load(FILE.read_text(encoding="utf-8"))["sweep"]
    return [(trace, spread) for trace in sweep["trace"] for spread in sweep[SPREAD]]


def gaps(spec: ExperimentSpec, points: list[tuple[dict[str, object], float]], folder: Path) -> None:
    """Store that the first policy reaches 0.9 of the bound, and the others less, the second but for one point."""
    rows = [
        {
            "policy": policy.label, "seed": seed, "trace": trace, SPREAD: spread, "slo_attainment": 0.5,
            "weighted_attainment": 0.4,
            "weighted_share": 0.95 if (number, at) == (1, 0) else 0.9 - 0.1 * bool(number) + 0.01 * (seed - 7),
        }
        for number, policy in enumerate(spec.policies)
        for seed in (7, 8)
        for at, (trace, spread) in enumerate(points)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "gap.csv", index=False)


def test_places_and_means_are_those_of_the_table(
    spec: ExperimentSpec, points: list[tuple[dict[str, object], float]], tmp_path: Path
) -> None:
    gaps(spec, points, tmp_path)
    text = page(read(tmp_path), spec.policies, "league.svg")
    first, second = (policy.label for policy in spec.policies[:2])
    assert f"| `{first}` | 90.50 | 90.50 | 26 | 90.50 |" in text
    standing = next(line for line in text.splitlines() if line.startswith(f"| `{first}` | ") and "points, " in line)
    assert standing.split(" | ")[1].count("(") == 26
    assert f"| `{second}` | Azure low (1) | " in text
    assert "50.00 ±0.00 | 80.00 ±0.00 | 90.50 ±6.35 |" in text
    assert text.count("\n### ") == 9 + len({policy.use for policy in spec.policies})


@pytest.mark.slow
def test_every_policy_of_the_file_has_its_paragraph_and_its_surface(
    spec: ExperimentSpec, points: list[tuple[dict[str, object], float]], tmp_path: Path
) -> None:
    assert {policy.use for policy in spec.policies} == set(WHY)
    assert {trace["kind"] for trace, _ in points} == set(KINDS)
    gaps(spec, points, tmp_path)
    main(tmp_path, tmp_path / "league.md", FILE)
    drawn = (tmp_path / "league.svg").read_text(encoding="utf-8")
    assert drawn.count('id="axes_') >= len(spec.policies)
