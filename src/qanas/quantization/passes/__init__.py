"""What is done to a graph between tracing and quantization: `folding.PASSES` is the list."""
