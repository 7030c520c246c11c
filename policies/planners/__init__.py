"""Planners, which change the number of workers in a run: one file, one planner."""

from policies.planners.checks import check_planner

__all__ = ["SHORT_NAMES", "check_planner"]

SHORT_NAMES = {
    "nexus": "policies.planners.nexus:NexusPacking",
    "predictive": "policies.planners.predictive:Predictive",
    "proteus": "policies.planners.proteus:ProteusAllocation",
    "threshold": "policies.planners.threshold:Threshold",
}
"""Names of the shipped planners in experiment files."""
