"""From torch modules to the graph: what each call means in operators, and which numbers are moved for it."""

from __future__ import annotations

from qanas.quantization.tracing.calling import Arguments, called
from qanas.quantization.tracing.difference import traced_difference
from qanas.quantization.tracing.trace import trace, trace_shapes, trace_unfolded, unwrapped

__all__ = ["Arguments", "called", "trace", "trace_shapes", "trace_unfolded", "traced_difference", "unwrapped"]
