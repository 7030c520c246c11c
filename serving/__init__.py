"""Serving in real time: the router, its workers and a load generator, with the scheduler of the simulator."""

import os

# Else gRPC's core writes a line for each handshake that fails, and for each process that Ray starts from here. It looks
# when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
