"""Experiments: a file becomes runs of the simulator."""
