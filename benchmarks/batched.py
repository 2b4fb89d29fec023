"""Many LSTMs in one batched graph against the same one after the other with the compiled kernel.

    python benchmarks/batched.py --device cuda --candidates 8 32 128

Protocol: networks of one to three layers, units log-uniform over the search space (1 to 100), optimizers and losses
mixed, one batch size; synthetic data (30 steps, 14 features), from the same weights with the same orders of samples.
Both sides in one run, one thread of the CPU, alternating; counted is from the end of the first epoch, in which kernels
are loaded and graphs captured, to the end of the last. With ``--device cpu`` seconds are of the processor, with
``cuda`` of the clock on the wall, for both sides. Reported are medians over the rounds and their ratio, one by one /
batched.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qanas.networks.lstm import LSTMNetwork
from qanas.search_space.training_group import TrainingSettings
from qanas.training.batched.fit_many import fit_many
from qanas.training.batched.request import FitRequest
from qanas.training.fit import TrainingSet, fit
from training import SCALE, ScaledLoss, training_set

FEATURES = 14
MAX_LAYERS, MAX_UNITS = 3, 100


def requests_of(count: int, batch_size: int) -> list[FitRequest]:
    """Draw networks and how they are trained."""
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    requests = []
    for seed in range(count):
        units = [int(MAX_UNITS ** generator.uniform()) for _ in range(generator.integers(1, MAX_LAYERS + 1))]
        optimizer, loss = generator.choice(["adam", "rmsprop"]), generator.choice(["mae", "mse"])
        settings = TrainingSettings(5e-3, optimizer, "cosine", batch_size, loss)
        requests.append(FitRequest(LSTMNetwork(FEATURES, units, 1, SCALE), settings, seed))
    return requests


def seconds_after_first_epoch(
    requests: list[FitRequest], data: TrainingSet, epochs: int, device: str, clock: Callable[[], float]
) -> dict[str, float]:
    """Train all requests on both sides; return the seconds of each."""
    ends: list[float] = []

    def note(epoch: int, loss: float) -> None:
        del epoch, loss
        ends.append(clock())

    loss, single = ScaledLoss(), 0.0
    for request in requests:
        ends.clear()
        network = copy.deepcopy(request.network)
        fit(network, data, loss, request.settings, epochs=epochs, seed=request.seed, on_epoch=note)
        single += ends[-1] - ends[0]
    ends.clear()
    told = [note] + [None] * (len(requests) - 1)
    copies = [
        FitRequest(copy.deepcopy(request.network), request.settings, request.seed, on_epoch=on_epoch)
        for request, on_epoch in zip(requests, told, strict=True)
    ]
    assert fit_many(copies, data, loss, epochs=epochs, device=device) == [None] * len(requests)
    return {"one_by_one": single, "batched": ends[-1] - ends[0]}


def compare(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return medians and ratio for a number of candidates."""
    clock = time.perf_counter if options.device == "cuda" else time.process_time
    data = training_set(options.samples, FEATURES)
    measure = partial(seconds_after_first_epoch, epochs=options.epochs, device=options.device, clock=clock)
    rounds = [measure(requests_of(count, options.batch_size), data) for _ in range(options.rounds)]
    medians = {side: statistics.median(found[side] for found in rounds) for side in rounds[0]}
    ratio = medians["one_by_one"] / medians["batched"]
    return {"candidates": count, "batch_size": options.batch_size, "seconds": medians, "ratio": ratio}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--candidates", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for count in options.candidates:
        rows.append(compare(count, options))
        print(json.dumps(rows[-1]), flush=True)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    if options.out is not None:
        result = {"torch": torch.__version__, "device": name, "rows": rows}
        options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
