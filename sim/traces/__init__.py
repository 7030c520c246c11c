"""Trace sources: one class, one source. `SHORT_NAMES` are their names in experiment files."""

from sim.traces.checks import check_trace_source

__all__ = ["SHORT_NAMES", "check_trace_source"]

SHORT_NAMES = {
    "azure": "sim.traces.azure:Azure",
    "azure2019": "sim.traces.azure_files:Azure2019",
    "azure2021": "sim.traces.azure_files:Azure2021",
    "burstgpt": "sim.traces.formats:BurstGpt",
    "bursty": "sim.traces.synthetic:Bursty",
    "constant": "sim.traces.synthetic:Constant",
    "counts": "sim.traces.counts:Counts",
    "file": "sim.traces.files:File",
    "gamma": "sim.traces.synthetic:Gamma",
    "k6": "sim.traces.formats:K6",
    "llm": "sim.traces.formats:Llm",
    "llmservingsim": "sim.traces.formats:LlmServingSim",
    "mooncake": "sim.traces.formats:Mooncake",
    "poisson": "sim.traces.synthetic:Poisson",
    "servegen": "sim.traces.counts:ServeGen",
    "splitwise": "sim.traces.formats:Splitwise",
    "time_varying": "sim.traces.synthetic:TimeVarying",
    "vidur": "sim.traces.formats:Vidur",
}
"""Names of the shipped trace sources in experiment files."""
