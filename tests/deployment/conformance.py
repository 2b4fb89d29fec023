"""Networks that are held against TFLite Micro with CMSIS-NN, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from qanas.deployment.arena import arena_bytes
from qanas.deployment.boards.cmsis_nn import Runner
from qanas.deployment.tflite import write_tflite
from qanas.hardware.memory import peak_ram_bytes
from qanas.networks.fastestdet import FastestDet
from qanas.networks.fastestdet_space import NXP_HEAD
from qanas.networks.lstm import LSTMNetwork
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from tests.deployment.standalone_models import random_codes, simulated
from tests.deployment.test_standalone import architectures, networks, quantized
from tests.networks.image_networks import NETWORKS, with_statistics

VECTORS = 2

FURTHER: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lstm_20": (lambda: LSTMNetwork(14, [20], 1, 125.0), (30, 14)),
    "lstm_64": (lambda: LSTMNetwork(14, [64], 1, 125.0), (30, 14)),
    "lstm_100_100": (lambda: LSTMNetwork(14, [100, 100], 1, 125.0), (30, 14)),
    "lstm_33_7_50": (lambda: LSTMNetwork(9, [33, 7, 50], 3, 125.0), (12, 9)),
}


GROUPED = "FastestDet, in groups"
"""Its grouped convolutions are what this build of CMSIS-NN computes wrong; devices with it `avoid` them."""


def cases() -> dict[str, QuantizedGraph]:
    """The networks, by name; the runner has no REDUCE_MIN, so that what has every kernel isn't among them."""
    torch.manual_seed(0)
    found = networks() | architectures()
    named = dict(zip((f"images_{number}" for number in range(len(NETWORKS))), NETWORKS, strict=True))
    found = {named.get(name, name): each for name, each in found.items() if name != "everything"}
    found |= {name: quantized(build(), *shape) for name, (build, shape) in FURTHER.items()}
    build_groups, size = NETWORKS[GROUPED]
    avoiding = Scheme(avoid="grouped_convolution")
    nxp = with_statistics(FastestDet((220, 220), 1, NXP_HEAD))
    return found | {
        f"{GROUPED}, avoided": quantized(with_statistics(build_groups()), 3, *size, scheme=avoiding),
        "FastestDet, NXP's head, avoided": quantized(nxp, 3, 220, 220, scheme=avoiding),
    }


def held(network: QuantizedGraph, runner: Runner) -> dict[str, Any]:
    """Return how a network's outputs differ, and its arena."""
    program = network.program()
    content = write_tflite(program)
    codes = random_codes(network, VECTORS)
    wanted = simulated(network, codes)
    differing = outputs = furthest = arena = instructions = 0
    for at in range(VECTORS):
        given = b"".join(each[at].tobytes() for each in codes.values())
        found = runner.run(content, given)
        arena, instructions = found.arena_bytes, found.instructions
        for raw, each in zip(found.outputs, wanted.values(), strict=True):
            steps = np.abs(np.frombuffer(raw, np.int8).astype(int) - each[at].reshape(-1).astype(int))
            differing += int(np.count_nonzero(steps))
            outputs += steps.size
            furthest = max(furthest, int(steps.max()))
    declared = arena_bytes(content, peak_ram_bytes(program))
    kinds = sorted({operator.kind for operator in program.operators})
    return {"outputs": outputs, "differing": differing, "most_steps": furthest, "arena_used": arena,
            "arena_declared": declared, "instructions": instructions, "operators": kinds}  # fmt: skip
