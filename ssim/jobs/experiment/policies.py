"""The policies of an experiment file: from names and parameters to objects, and whether they draw random numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import policies
from sim.compiled.step_policy import StepPolicy
from sim.engine.policy import Policy
from ssim.files.plugins import Slot
from ssim.jobs.identity import own_code
from ssim.packages import PACKAGES

if TYPE_CHECKING:
    from pathlib import Path

    from sim.engine.planning import Planner
    from ssim.jobs.experiment.spec import PolicySpec


POLICY = Slot(("policies", "*"), "policy", policies.SHORT_NAMES, Policy, "use")
"""Where an experiment file names policies."""


def build_policy(asked: PolicySpec, folder: Path) -> Policy:
    """Return the policy that a name and parameters describe.

    Args:
        asked: The name and the parameters.
        folder: Where modules are looked for.

    Raises:
        SpecError: There is no such policy, or something is wrong with its parameters; tells all of it.
    """
    built: Policy = POLICY.built(asked.model_dump(), folder)
    return built


def may_draw(policy: Policy | Planner, folder: Path) -> bool:
    """Return whether a policy or planner may draw random numbers: no policy of the toolkit and no step function does.

    A policy of one's own may if a file of its code names `rng`, which is its random stream, or anything random.

    Args:
        policy: The policy.
        folder: The folder of the experiment file, where modules are looked for.
    """
    owner = type(policy)
    is_step = isinstance(policy, StepPolicy) and type(policy).decide is StepPolicy.decide
    if is_step or owner.__module__.partition(".")[0] in PACKAGES:
        return False
    files = own_code((policy,), folder)
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files)
    return not files or any(_DRAWS.search(text) for text in texts)  # an installed package is not looked into


_DRAWS = re.compile(r"\brng\b|random", re.IGNORECASE)
