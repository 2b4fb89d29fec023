"""What the fused trainers share: a vector type for compiled code, the compiled optimizer, the step around a kernel.

Nothing is imported here, so that `support` doesn't load Numba.
"""
