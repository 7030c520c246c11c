"""Scheduling policies: one file, one policy. `check_policy` is the check that any policy must pass."""

from policies.checks import check_policy

__all__ = ["SHORT_NAMES", "check_policy"]

SHORT_NAMES = {
    "aimd": "policies.aimd:Aimd",
    "allocated": "policies.allocated:Allocated",
    "alpaserve": "policies.alpaserve:AlpaServe",
    "clipper": "policies.clipper:Clipper",
    "clockwork": "policies.clockwork:Clockwork",
    "coarse": "policies.coarse:Coarse",
    "infaas": "policies.infaas:Infaas",
    "jellyfish": "policies.jellyfish:Jellyfish",
    "maxacc": "policies.maxacc:MaxAcc",
    "maxbatch": "policies.maxbatch:MaxBatch",
    "modelswitching": "policies.modelswitching:ModelSwitching",
    "nexus": "policies.nexus:Nexus",
    "packed": "policies.packed:Packed",
    "proteus": "policies.proteus:Proteus",
    "queuefit": "policies.queuefit:QueueFit",
    "queuefit_reserve": "policies.queuefit_reserve:QueueFitReserve",
    "ramsis": "policies.ramsis:Ramsis",
    "residentfit": "policies.residentfit:ResidentFit",
    "slackfit": "policies.slackfit:SlackFit",
    "symphony": "policies.symphony:Symphony",
    "triton": "policies.triton:Triton",
}
"""Names of the shipped policies in experiment files."""
