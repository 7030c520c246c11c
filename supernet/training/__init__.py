"""Training of supernets: `loop` trains, `sampling` draws the subnets of a step, `checkpoint` stores the progress."""

SAMPLING_RULES = {
    "sandwich": "supernet.training.sampling:SandwichRule",
    "shrinking": "supernet.training.sampling:ProgressiveShrinking",
}
"""The sampling rules that short names in YAML refer to."""

OPTIMIZERS = {
    "adamw": "supernet.training.optimizers:AdamW",
    "sgd": "supernet.training.optimizers:Sgd",
}
"""The optimizers that short names in YAML refer to."""
