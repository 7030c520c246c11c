"""The engine that numba compiles: decision tables, step functions, and streaming metrics."""
