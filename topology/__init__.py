"""Topologies of roles and channels as data, role programs, and engines that run them.

The engines are imported when they are first used: `SimEngine` needs SimPy, `RayEngine` needs Ray.
"""

import importlib
from typing import TYPE_CHECKING, Any

from topology.checkpoints import Checkpoints
from topology.deployment import Dataset, InjectedFault, Machine
from topology.engine import Engine
from topology.expansion import expand
from topology.flaws import TagError
from topology.io import IO
from topology.message import Message
from topology.plan import Plan, Worker
from topology.port import Port
from topology.program import Break, Continue, Program, check_program
from topology.report import RunReport
from topology.steps import Loop, Par, Steps
from topology.tag import Channel, Link, Role, Select, Tag

if TYPE_CHECKING:
    from topology.engines.local import LocalEngine
    from topology.engines.ray import RayEngine
    from topology.engines.sim import SimEngine

__all__ = [
    "IO",
    "Break",
    "Channel",
    "Checkpoints",
    "Continue",
    "Dataset",
    "Engine",
    "InjectedFault",
    "Link",
    "LocalEngine",
    "Loop",
    "Machine",
    "Message",
    "Par",
    "Plan",
    "Port",
    "Program",
    "RayEngine",
    "Role",
    "RunReport",
    "Select",
    "SimEngine",
    "Steps",
    "Tag",
    "TagError",
    "Worker",
    "check_program",
    "expand",
]

_ENGINES = {"LocalEngine": "local", "RayEngine": "ray", "SimEngine": "sim"}


def __getattr__(name: str) -> Any:
    if name not in _ENGINES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"topology.engines.{_ENGINES[name]}"), name)
