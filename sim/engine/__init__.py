"""The engine: the rule of an instant, the clock that drives it, and what comes out of a run."""
