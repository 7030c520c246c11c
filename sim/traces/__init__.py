"""Trace sources: one class, one source. `SHORT_NAMES` are their names in experiment files."""

from sim.traces.checks import check_trace_source

__all__ = ["SHORT_NAMES", "check_trace_source"]

SHORT_NAMES = {
    "azure": "sim.traces.azure:Azure",
    "azure2019": "sim.traces.azure_files:Azure2019",
    "azure2021": "sim.traces.azure_files:Azure2021",
    "bursty": "sim.traces.synthetic:Bursty",
    "constant": "sim.traces.synthetic:Constant",
    "file": "sim.traces.files:File",
    "gamma": "sim.traces.synthetic:Gamma",
    "llm": "sim.traces.files:Llm",
    "poisson": "sim.traces.synthetic:Poisson",
    "time_varying": "sim.traces.synthetic:TimeVarying",
}
"""Names of the shipped trace sources in experiment files."""
