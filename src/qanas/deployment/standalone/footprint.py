"""Flash and RAM of a model as C without an interpreter, before it is compiled: code is estimated, all else is counted.

Constants and memory are what the C file defines, to the byte. Code is the sum of the kernels that are called, each
compiled by itself, and of the calls; what a compiler makes of both together differs (docs/results/standalone.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from qanas.deployment.standalone.fusing import fused
from qanas.deployment.standalone.memory import WORD
from qanas.deployment.standalone.model import emitted
from qanas.quantization.program import Program

Optimized = Literal["-Os", "-O2"]
"""What the compiler is told."""

KERNEL_BYTES: Mapping[str, tuple[int, int]] = {
    "add": (158, 168),
    "batch_matmul": (188, 216),
    "clamp": (18, 18),
    "conv_2d": (526, 618),
    "dense": (120, 134),
    "depthwise": (800, 954),
    "differences": (132, 152),
    "divide_by_power": (28, 26),
    "dot": (116, 166),
    "dot_four": (348, 412),
    "dsp": (34, 34),
    "exp_words": (224, 242),
    "extreme_of_two": (90, 94),
    "fill": (4, 4),
    "gate_functions": (352, 368),
    "log_softmax": (498, 546),
    "look_up": (28, 26),
    "lstm": (454, 524),
    "move": (96, 104),
    "multiply": (122, 128),
    "pairs": (124, 140),
    "pointwise": (32, 36),
    "pool": (230, 282),
    "prelu": (128, 148),
    "products": (678, 836),
    "reduce": (230, 282),
    "requantize": (84, 84),
    "rescale": (56, 54),
    "rescale_codes": (82, 88),
    "resize_bilinear": (480, 520),
    "resize_nearest": (92, 106),
    "scale_once": (94, 96),
    "softmax": (152, 180),
    "total": (22, 26),
    "transpose_conv": (286, 352),
}
"""Code of each kernel's file compiled by itself for a Cortex-M4 with -Os and -O2 (gcc 12.2, -fno-inline)."""

LAYER_BYTES: Mapping[str, int] = {
    "add_layer": 76,
    "batch_matmul_layer": 28,
    "conv_2d_layer": 56,
    "dense_layer": 36,
    "depthwise_layer": 56,
    "extreme_of_two_layer": 52,
    "log_softmax_layer": 24,
    "lstm_layer": 72,
    "multiply_layer": 64,
    "pointwise_layer": 32,
    "pool_layer": 28,
    "prelu_layer": 64,
    "reduce_layer": 64,
    "rescale_codes_layer": 24,
    "resize_bilinear_layer": 28,
    "resize_nearest_layer": 16,
    "softmax_layer": 16,
    "transpose_conv_layer": 56,
}
"""Of each structure, on any 32-bit Arm."""

ENTRY_BYTES: Mapping[str, int] = {"int8_t": 1, "int16_t": 2, "int32_t": 4}

CODE: Mapping[Optimized, tuple[float, float, float]] = {"-Os": (0.843, 19.8, -42.0), "-O2": (0.911, 36.1, 4.0)}
"""Of a program: the share of its kernels' code that is left, bytes a call, bytes of the rest; least squares."""

STACK_BYTES = 640
"""That a run takes at most: on the emulated boards a program of all kernels took 516."""


@dataclass(frozen=True)
class Footprint:
    """What a model takes of a device.

    Attributes:
        flash_bytes: of code and constants, what the C library lends included.
        ram_bytes: of the model's memory and of the stack.
    """

    flash_bytes: int
    ram_bytes: int


def estimated(program: Program, optimized: Optimized) -> Footprint:
    """Return what a program that does nothing but run the model takes.

    Args:
        program: with codes of 8 bits.
        optimized: what the compiler is told.

    Raises:
        NotCoveredError: an operator that no kernel is there for, in one line.
    """
    emitter = emitted(fused(program))
    constants = 0
    # Before training, constants are alike by chance: each is counted, as if no two were equal.
    for one in emitter.asked:
        size = LAYER_BYTES[one.kind] if one.values is None else one.values.size * ENTRY_BYTES[one.kind]
        constants += -(-size // WORD) * WORD
    column = 0 if optimized == "-Os" else 1
    kernels = sum(KERNEL_BYTES.get(name, (0, 0))[column] for name in emitter.needed_kernels())
    share, of_call, rest = CODE[optimized]
    code = max(0, round(share * kernels + of_call * len(emitter.calls) + rest))
    return Footprint(constants + code, emitter.layout.size + STACK_BYTES)
