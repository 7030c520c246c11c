"""Scheduling policies: one file, one policy. `check_policy` is the check that any policy must pass."""

from policies.checks import check_policy

__all__ = ["SHORT_NAMES", "check_policy"]

SHORT_NAMES = {
    "clipper": "policies.clipper:Clipper",
    "coarse": "policies.coarse:Coarse",
    "infaas": "policies.infaas:Infaas",
    "maxacc": "policies.maxacc:MaxAcc",
    "maxbatch": "policies.maxbatch:MaxBatch",
    "queuefit": "policies.queuefit:QueueFit",
    "slackfit": "policies.slackfit:SlackFit",
}
"""Names of the shipped policies in experiment files."""
