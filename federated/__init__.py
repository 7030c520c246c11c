"""Federated training: programs for the roles of any topology, algorithms, and training a supernet over many parties."""
