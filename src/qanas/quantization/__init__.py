"""The quantized graph: integer weights, scales, zero points and operators. What is searched is what ships."""
