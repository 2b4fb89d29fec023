"""Quantized graphs as ONNX models, needed only with the extra ``onnx``."""
