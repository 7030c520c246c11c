"""One file, one figure: a table of runs in, a matplotlib `Figure` out; nothing is read, saved or simulated here."""

FIGURES = {
    "capacity": "figures.capacity:draw",
    "dynamics": "figures.dynamics:draw",
    "gap": "figures.gap:draw",
    "tradeoff": "figures.tradeoff:draw",
}
"""What a figure is called, and the function that draws it."""
