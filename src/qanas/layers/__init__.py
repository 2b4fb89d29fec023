"""Custom torch layers: what the quantized graph knows and torch lacks."""
