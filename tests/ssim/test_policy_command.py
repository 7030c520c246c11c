from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from sim.base.errors import PolicyError, SpecError
from ssim.commands.policy import policy

if TYPE_CHECKING:
    from pathlib import Path


def ssim_policy(*words: str) -> Result:
    ended = CliRunner().invoke(policy, words, catch_exceptions=True)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended


def test_list_names_every_policy_and_its_parameters() -> None:
    said = ssim_policy("list").output
    assert "slackfit: The highest latency bucket that fits the slack" in said
    assert "buckets=3, queue_aware=False" in said
    assert "    no parameters" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["slackfit"], "runs in the compiled engine as a decision table of 4 slack intervals x 1 queue length"),
        (["slackfit", "--set", "queue_aware=true"], "x 16 queue lengths"),
        (["slackfit"], "slackfit: needs SimPy with: workers with limited memory"),
        (
            ["aimd", "--set", "accuracy=78.25"],
            "aimd: needs SimPy with: several queues; a queue for each worker",
        ),
        (["clipper", "--set", "accuracy=78.25"], "as a decision table of 6 slack intervals"),
        (["coarse"], "runs in the SimPy engine only (Coarse(window_ms=1000.0, headroom=1.0): depends on the clock)"),
        (["slackfit", "--table", "ofa-resnet50-a40"], "runs in the compiled engine"),
    ],
)
def test_check_says_which_engine_runs_a_policy_and_why(words: list[str], says: str) -> None:
    said = ssim_policy("check", *words).output
    assert f"{words[0]}: obeys the policy interface" in said
    assert says in said


def test_a_policy_in_a_file_is_checked_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "checked_lab.py").write_text(
        "from dataclasses import dataclass\n"
        "from sim import Dispatch\n\n"
        "@dataclass(frozen=True)\n"
        "class Good:\n"
        "    def decide(self, view):\n"
        "        return Dispatch(0, 1)\n\n"
        "@dataclass(frozen=True)\n"
        "class Bad:\n"
        "    def decide(self, view):\n"
        "        return Dispatch(0, view.queue_length)\n\n"
        "@dataclass(frozen=True)\n"
        "class Raises:\n"
        "    def decide(self, view):\n"
        "        return 1 / 0\n"
    )
    assert "1 slack interval x 1 queue length" in ssim_policy("check", f"{tmp_path / 'checked_lab.py'}:Good").output
    with pytest.raises(PolicyError, match=r"invalid batch size \(17; checked_lab.py:11, in decide; slack"):
        ssim_policy("check", f"{tmp_path / 'checked_lab.py'}:Bad")
    place = r"raised ZeroDivisionError: division by zero \(checked_lab.py:17, in decide; slack -340 ms, queue 1\)"
    for words in (("check",), ("plot", "-o", str(tmp_path / "drawn.svg"))):
        with pytest.raises(PolicyError, match=place.replace("-340", "-?[0-9.]+")):
            ssim_policy(words[0], f"{tmp_path / 'checked_lab.py'}:Raises", *words[1:])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check", "slakfit"], "did you mean 'slackfit'"),
        (["check", "clipper"], "accuracy: is missing; accuracy in percent, or subnet"),
        (["check", "slackfit", "--set", "bucket=3"], "did you mean 'buckets'"),
        (["check", "slackfit", "--set", "buckets"], "must be NAME=VALUE"),
        (["check", "slackfit", "--table", "nope"], "unknown table"),
        (["plot", "slackfit", "-o", "x.gif"], "unknown image format"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        ssim_policy(*words)
    assert says in str(caught.value)


def test_the_surface_is_drawn(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ssim_policy("plot", "maxacc", "-o", str(tmp_path / f"{name}.svg"))
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "batch size" in (tmp_path / "a.svg").read_text()
