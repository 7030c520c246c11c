"""Roles, channels and what runs them: topologies as data, role programs, and engines behind one protocol."""
