"""One file, one figure: results in, a matplotlib `Figure` out."""
