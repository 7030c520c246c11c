"""The supernet of the package `ofa` (github.com/mit-han-lab/once-for-all), to be measured and checked against.

Its networks import torchvision for pictures that are not needed here: where it is not installed, it is stood in for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supernet.space import SubnetConfig

_PICTURES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets")


class _Anything(ModuleType):
    """A module that has a class of every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}") or type(name, (), {})


def is_installed() -> bool:
    """Return whether the package is there."""
    return find_spec("ofa") is not None


def ofa_resnet50(classes: int) -> Any:
    """Return its supernet in the space of OFA-ResNet50, with random weights."""
    stood_in = () if find_spec("torchvision") else _PICTURES
    try:
        sys.modules.update({name: _Anything(name) for name in stood_in})
        networks = import_module("ofa.imagenet_classification.elastic_nn.networks")
    finally:
        for name in stood_in:
            del sys.modules[name]
    return networks.OFAResNets(
        n_classes=classes,
        dropout_rate=0,
        depth_list=[0, 1, 2],
        expand_ratio_list=[0.2, 0.25, 0.35],
        width_mult_list=[0.65, 0.8, 1.0],
    )


def activate(peer: Any, subnet: SubnetConfig) -> None:
    """Switch the peer to a subnet, in the way it has."""
    control = subnet.control
    peer.set_active_subnet(d=list(control.depths), e=list(control.expands), w=list(control.widths))
