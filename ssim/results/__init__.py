"""Stored results: manifests, tables of runs, and how they are read."""
