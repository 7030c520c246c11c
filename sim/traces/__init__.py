"""Where arrivals come from: one class, one source; `SHORT_NAMES` says what an experiment file may call them."""

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
"""What an experiment file may call the trace sources that come with the toolkit."""
