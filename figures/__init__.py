"""One file, one figure: stored results in, a matplotlib figure out."""
