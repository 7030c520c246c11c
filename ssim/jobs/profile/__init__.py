"""Profiles: the latencies of the subnets of a supernet, measured on a device."""
