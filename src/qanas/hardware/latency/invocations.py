"""Times files in LiteRT, in a process that does nothing else: `qanas.hardware.latency.measured` runs it as a script.

It reads a JSON object with ``files``, ``kernels``, ``rounds`` and ``invocations`` and prints one with ``ms``, the
least of all invocations of each file, or ``refused``: which file LiteRT doesn't take, and why. Nothing of qanas is
imported: the process is there within a moment, and holds no other thread.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

RESOLVERS = {
    "reference": OpResolverType.BUILTIN_REF,
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "xnnpack": OpResolverType.AUTO,
}


def loaded(path: Path, kernels: str) -> Interpreter:
    """Return a file's interpreter with zeros as inputs."""
    interpreter = Interpreter(
        model_content=path.read_bytes(), num_threads=1, experimental_op_resolver_type=RESOLVERS[kernels]
    )
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    return interpreter


def least_ms(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the answer: in each round every file has its turn, in another order; one invocation a turn isn't counted.

    A core's speed switches with what its neighbours do: means and medians follow that, the minimum over many turns
    doesn't.
    """
    models = []
    for number, name in enumerate(asked["files"]):
        try:
            models.append(loaded(Path(name), asked["kernels"]))
        except (RuntimeError, ValueError) as error:
            return {"refused": number, "reason": " ".join(str(error).split())}
    least = [float("inf")] * len(models)
    shuffled = random.Random(0)  # noqa: S311 - an order, no secret
    for _ in range(asked["rounds"]):
        for number in shuffled.sample(range(len(models)), len(models)):
            models[number].invoke()
            for _ in range(asked["invocations"]):
                started = time.perf_counter()
                models[number].invoke()
                least[number] = min(least[number], time.perf_counter() - started)
    return {"ms": [seconds * 1e3 for seconds in least]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(least_ms(json.load(sys.stdin))))
