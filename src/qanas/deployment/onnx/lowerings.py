"""What turns a quantized operator into nodes."""

from __future__ import annotations

from collections.abc import Callable

from qanas.deployment.onnx.builder import Real

Lowering = Callable[..., Real]
"""Called with the builder, the quantized operator and the values that it takes; returns the real result."""
