"""Runs under way: on threads, processes and clusters, and the search for a capacity."""
