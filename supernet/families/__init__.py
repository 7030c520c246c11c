"""The shipped families; one of your own is a class that implements `supernet.family.Family`."""

from supernet.families.cnn import CnnSmall
from supernet.families.dynabert import DynaBert, DynaBertSmall
from supernet.families.ofa import OfaResNet50, OfaResNetSmall
from supernet.family import Family

FAMILIES: dict[str, type[Family]] = {
    "cnn_small": CnnSmall,
    "ofa_resnet50": OfaResNet50,
    "ofa_resnet_small": OfaResNetSmall,
    "dynabert": DynaBert,
    "dynabert_small": DynaBertSmall,
}
"""The class of each shipped family, by name."""

__all__ = ["FAMILIES", "CnnSmall", "DynaBert", "DynaBertSmall", "OfaResNet50", "OfaResNetSmall"]
