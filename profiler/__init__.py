"""Measures the subnets of a supernet on a device and writes the latency table that the simulator replays."""
