"""Federated training: role programs for any topology, algorithms, and training of a supernet over many clients."""

from federated.aggregation import AggregationRule, ClippedMean, GeometricMedian, Krum, Median, QFedAvg, TrimmedMean
from federated.algorithms import Algorithm, FedAvg, FedDyn, FedNova, FedOpt, FedProx, Scaffold
from federated.assignment import (
    LargestAssignment,
    MaxNet,
    RandomAssignment,
    SandwichAssignment,
    StaticAssignment,
    SubnetAssignment,
    TrackingSandwichAssignment,
)
from federated.asynchronous import AsyncAggregator
from federated.attacks import Attacker
from federated.averaging import Update
from federated.compression import Compression, EightBit, TopK
from federated.context import TrainingContext
from federated.coordinated import (
    CoordinatedAggregator,
    CoordinatedIntermediateAggregator,
    CoordinatedTrainer,
    Coordinator,
)
from federated.costs import CostModel
from federated.cyclic import CyclicTrainer, SwarmTrainer
from federated.decentralised import PeerTrainer
from federated.gossip import GossipTrainer
from federated.job import FederatedJob
from federated.partition import Clients, Dirichlet, DirichletEqual, Iid, LabelSkew, Natural, Partition, Quantity
from federated.privacy import Privacy
from federated.programs import (
    Aggregator,
    EagerAggregator,
    EagerIntermediateAggregator,
    IntermediateAggregator,
    Trainer,
)
from federated.ring import HybridAggregator, HybridTrainer, RingTrainer
from federated.selection import Oort, PowerOfChoice
from federated.state import Memory, State, add_delta, prefix_slice

__all__ = [
    "AggregationRule",
    "Aggregator",
    "Algorithm",
    "AsyncAggregator",
    "Attacker",
    "Clients",
    "ClippedMean",
    "Compression",
    "CoordinatedAggregator",
    "CoordinatedIntermediateAggregator",
    "CoordinatedTrainer",
    "Coordinator",
    "CostModel",
    "CyclicTrainer",
    "Dirichlet",
    "DirichletEqual",
    "EagerAggregator",
    "EagerIntermediateAggregator",
    "EightBit",
    "FedAvg",
    "FedDyn",
    "FedNova",
    "FedOpt",
    "FedProx",
    "FederatedJob",
    "GeometricMedian",
    "GossipTrainer",
    "HybridAggregator",
    "HybridTrainer",
    "Iid",
    "IntermediateAggregator",
    "Krum",
    "LabelSkew",
    "LargestAssignment",
    "MaxNet",
    "Median",
    "Memory",
    "Natural",
    "Oort",
    "Partition",
    "PeerTrainer",
    "PowerOfChoice",
    "Privacy",
    "QFedAvg",
    "Quantity",
    "RandomAssignment",
    "RingTrainer",
    "SandwichAssignment",
    "Scaffold",
    "State",
    "StaticAssignment",
    "SubnetAssignment",
    "SwarmTrainer",
    "TopK",
    "TrackingSandwichAssignment",
    "Trainer",
    "TrainingContext",
    "TrimmedMean",
    "Update",
    "add_delta",
    "prefix_slice",
]
