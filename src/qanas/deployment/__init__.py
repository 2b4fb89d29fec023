"""From the quantized graph to files, and the runtimes that score them."""
