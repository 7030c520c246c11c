"""Foundations of all packages: errors, units, parameters, random streams, atomic file writes."""
