"""A class that lacks something of a plug-in's protocol is refused where it is named, with all that it lacks."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
from typing_extensions import get_protocol_members, is_protocol

pytest.importorskip("torch", reason="two of the kinds of jobs need the extra [torch]")

from sim.base.errors import SpecError
from ssim.files.own_modules import forget_modules
from ssim.files.plugins import Slot, find_class
from ssim.jobs.experiment.kind import KIND as EXPERIMENTS
from ssim.jobs.federated.kind import KIND as FEDERATED
from ssim.jobs.training.kind import KIND as TRAININGS

if TYPE_CHECKING:
    from pathlib import Path

SLOTS = [slot for kind in (EXPERIMENTS, TRAININGS, FEDERATED) for slot in kind.slots if slot.protocol is not None]
"""Each place of a file where a plug-in is named, with what it must have."""


@pytest.mark.parametrize("slot", SLOTS, ids=lambda slot: slot.noun)
def test_a_class_that_is_not_of_the_protocol_is_told_all_that_it_lacks(tmp_path: Path, slot: Slot) -> None:
    for name in slot.names:
        find_class(name, slot.names, slot.noun, protocol=slot.protocol)
    needed = []
    if is_protocol(slot.protocol):
        needed = sorted(name for name in get_protocol_members(slot.protocol) if not name.startswith("__"))
    for absent in [*([name] for name in needed), needed]:
        has = "\n".join(f"    {name}: int" for name in needed if name not in absent) or "    pass"
        (tmp_path / "mine.py").write_text(f"from dataclasses import dataclass\n@dataclass\nclass Mine:\n{has}\n")
        forget_modules()
        with pytest.raises(SpecError) as raised:
            find_class("mine:Mine", slot.names, slot.noun, tmp_path, slot.protocol)
        told = str(raised.value)
        assert "mine.py:2" in told or "mine.py:3" in told
        assert set(re.findall(r"no (?:method|attribute) (\w+)", told)) == set(absent)
    sys.modules.pop("mine", None)
