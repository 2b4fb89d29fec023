"""Fast arithmetic of the integer kernels. Nothing is imported here, so that the quantized graph doesn't load Numba."""
