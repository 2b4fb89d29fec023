"""Arithmetic on codes: affine quantization, roundings, requantization, functions in fixed point."""
