"""Outputs of networks in TFLite Micro with CMSIS-NN, on an emulated Cortex-M55, against the simulation.

    export QANAS_CMSIS_NN=.../mlek_inference_runner.axf
    PYTHONPATH=. python benchmarks/conformance.py docs/results/conformance.json --models runs/*/models/*/model.tflite

Arm's own build of both runs in QEMU (src/qanas/deployment/boards/cmsis_nn.py says where it is from). Networks are
those of the tests, and LSTMs of more sizes, with random weights; two inputs of random codes each, the second of ends
alone. Beside the outputs that differ: by how many steps at most, and the arena that was used against the one that
firmware declares.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from tests.deployment.conformance import cases, held

from qanas.deployment.boards.board import BoardError
from qanas.deployment.boards.cmsis_nn import Runner
from qanas.deployment.litert import LiteRTModel
from qanas.hardware.latency.base import random_inputs


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="*", type=Path, default=[], help="shipped .tflite files, held against LiteRT")
    arguments = parser.parse_args()
    out = arguments.out
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as place:
        runner = Runner.made(Path(place))
        for name, network in cases().items():
            try:
                found[name] = held(network, runner)
            except BoardError as error:
                found[name] = {"failed": str(error)}
            print(name, found[name], flush=True)
        for path in arguments.models:
            found[path.parent.name] = held_shipped(path.read_bytes(), runner)
            print(path.parent.name, found[path.parent.name], flush=True)
    out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def held_shipped(content: bytes, runner: Runner) -> dict[str, object]:
    """Return how the outputs of a shipped file differ from LiteRT's reference kernels', on random codes."""
    given = random_inputs(content)
    found = runner.run(content, b"".join(array.tobytes() for array in given.values()))
    wanted = LiteRTModel(content).invoke(given)
    steps = np.concatenate([
        np.abs(np.frombuffer(raw, each.dtype).astype(int) - each.ravel().astype(int))
        for raw, each in zip(found.outputs, wanted.values(), strict=True)
    ])  # fmt: skip
    return {"outputs": steps.size, "differing": int(np.count_nonzero(steps)), "most_steps": int(steps.max()),
            "arena_used": found.arena_bytes, "instructions": found.instructions}  # fmt: skip


if __name__ == "__main__":
    main()
