"""One file, one figure: from a table of runs to a matplotlib `Figure`, without reading, saving or simulating."""

FIGURES = {
    "capacity": "figures.capacity:draw",
    "classes": "figures.classes:draw",
    "costs": "figures.costs:draw",
    "dynamics": "figures.dynamics:draw",
    "gap": "figures.gap:draw",
    "mixes": "figures.mixes:draw",
    "queues": "figures.queues:draw",
    "residence": "figures.residence:draw",
    "placement": "figures.placement:draw",
    "scaling": "figures.scaling:draw",
    "shares": "figures.shares:draw",
    "sweep": "figures.sweep:draw",
    "tradeoff": "figures.tradeoff:draw",
    "workers": "figures.workers:draw",
}
"""The drawing function of each figure, by its name."""
