"""Training of supernets. `loop` trains, `rules` says what is trained in a step, `checkpoints` keeps what is done."""

RULES = {
    "sandwich": "supernet.training.rules:Sandwich",
    "shrinking": "supernet.training.rules:Shrinking",
}
"""What short names in YAML stand for: which subnets are trained in a step, and on what."""

OPTIMIZERS = {
    "adamw": "supernet.training.optimizers:AdamW",
    "sgd": "supernet.training.optimizers:Sgd",
}
"""The same for optimizers."""
