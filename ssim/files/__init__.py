"""Files that people write: YAML with positions, plug-ins, topologies, JSON Schemas."""
