"""Serving in real time: the router, its workers and a load generator, with the scheduler of the simulator."""
