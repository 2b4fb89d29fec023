"""Compiled loops of the fast arithmetic. Nothing is imported here, so that the quantized graph doesn't load Numba."""
