"""SubNetAct: one copy of the weights runs any subnet in place (SuperServe, NSDI 2025, section 3)."""

from supernet.checkpoint import find_family, import_weights, load, save
from supernet.checks import check_family
from supernet.costs import Costs
from supernet.extraction import extract
from supernet.families import FAMILIES
from supernet.family import Family, build
from supernet.insertion import insert
from supernet.network import Supernet
from supernet.network_family import InsertionOptions, NetworkFamily
from supernet.space import SubnetConfig, SubnetSpace
from supernet.statistics import calibrate

__all__ = [
    "FAMILIES",
    "Costs",
    "Family",
    "InsertionOptions",
    "NetworkFamily",
    "SubnetConfig",
    "SubnetSpace",
    "Supernet",
    "build",
    "calibrate",
    "check_family",
    "extract",
    "find_family",
    "import_weights",
    "insert",
    "load",
    "save",
]
