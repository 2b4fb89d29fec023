"""What weights of 8, 6 and 4 bits cost: rounded after training, and with quantization-aware training.

Protocol: FD001, window 30, RUL capped at 125, every third training window, the engine split of seed 0. Each network is
trained once a seed in FP32; the same trained network is then quantized at every width, by rounding alone and after some
epochs of quantization-aware training (QAT), as `FullTraining` does it in a search. The score is the mean absolute error
in cycles on all validation windows, of the FP32 network and of the simulated integer network (which is the deployed
file's, 0 steps apart). *longer* is the FP32 network after the same further epochs of ordinary training at the rate of
QAT: what of QAT's effect is nothing but longer training.

    python benchmarks/few_bits.py $QANAS_DATA/cmapss docs/results/few_bits
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qanas.core.candidate import Candidate, Value
from qanas.core.seeds import derive_seed
from qanas.networks.lstm import LSTMSpace
from qanas.networks.tcn import TCNSpace
from qanas.performance_estimation.bench import RANDOM, Bench, PreparedData
from qanas.performance_estimation.procedure import QAT_RATE, FullTraining, TrainedNetwork
from qanas.search_space.network_space import NetworkSpace
from qanas.search_space.space import space_of
from qanas.search_space.training_group import TrainingSettings
from qanas.tasks.turbofan.task import Turbofan
from qanas.training.choice import make_trainer
from qanas.training.loop import Epochs, fit

NETWORKS: dict[str, NetworkSpace] = {
    "LSTM 1x16": LSTMSpace(seed_layers=1, seed_units=16),
    "LSTM 1x32": LSTMSpace(seed_layers=1, seed_units=32),
    "LSTM 2x16": LSTMSpace(seed_layers=2, seed_units=16),
    "TCN 2x8": TCNSpace(seed_blocks=2, seed_channels=8),
    "TCN 3x8": TCNSpace(seed_blocks=3, seed_channels=8),
    "TCN 3x16": TCNSpace(seed_blocks=3, seed_channels=16),
}
TRAINING: dict[str, Value] = {
    "learning_rate": 0.005,
    "optimizer": "adam",
    "scheduler": "cosine",
    "batch_size": 64,
    "loss": "mae",
}
EPOCHS, QAT_EPOCHS = 30, 4
WIDTHS, FEW = (8, 6, 4), (6, 4)


def candidate_of(bench: Bench, bits: int) -> Candidate:
    """Return the space's reference with the benchmark's training and some width."""
    architecture = space_of(bench.networks.settings(bench.shape), ["architecture"]).reference.architecture
    return Candidate(architecture, TRAINING, {"weight_bits": bits})


def trained_longer(bench: Bench, candidate: Candidate, network: nn.Module, seed: int) -> nn.Module:
    """Return a copy of a network after `QAT_EPOCHS` further epochs of ordinary training."""
    longer = copy.deepcopy(network)
    settings = TrainingSettings.from_group(TRAINING)
    settings = replace(settings, learning_rate=QAT_RATE * settings.learning_rate)
    data = bench.training_set(candidate, 0)
    order = derive_seed(seed, "quantization-aware order")
    trainer = make_trainer(longer, data, bench.task.loss, settings)
    fit(trainer, Epochs(len(data), settings, QAT_EPOCHS, order))
    return longer


def measure(bench: Bench, seed: int) -> dict[str, float]:
    """Return the validation MAE of one training in every form."""
    by_rounding, by_training = FullTraining(EPOCHS), FullTraining(EPOCHS, qat_epochs=QAT_EPOCHS)
    candidate = candidate_of(bench, 8)
    trained = by_rounding.make(bench, candidate, RANDOM, seed)
    task, network, val = bench.task, trained.network, bench.data_of(candidate).val
    scores = trained.evaluate(task, val)
    found = {"fp32": scores["mae_float"]}
    longer = trained_longer(bench, candidate, network, seed)
    found["longer"] = TrainedNetwork(longer, trained.quantized, 0.0).evaluate(task, val)["mae_float"]
    for name, procedure, widths in (("ptq", by_rounding, WIDTHS), ("qat", by_training, FEW)):
        for bits in widths:
            quantized = procedure.quantize(bench, candidate_of(bench, bits), network, seed)
            shipped = TrainedNetwork(network, quantized, 0.0)
            found[f"{name}{bits}"] = shipped.evaluate(task, val)["mae_quantized"]
    return found


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Return the results in Markdown: FP32's MAE, and the mean difference to it of every other form."""
    columns = [name for name in next(iter(rows.values()))[0] if name != "fp32"]
    lines = [f"| network | FP32 | {' | '.join(columns)} |", f"|---|---:|{'---:|' * len(columns)}"]
    everything = [entry for entries in rows.values() for entry in entries]
    for name, entries in [*rows.items(), ("all", everything)]:
        fp32 = [entry["fp32"] for entry in entries]
        cells = [f"{statistics.mean(fp32):.2f} ± {statistics.stdev(fp32):.2f}"]
        for column in columns:
            gaps = [entry[column] - entry["fp32"] for entry in entries]
            cells.append(f"{statistics.mean(gaps):+.2f} ± {statistics.stdev(gaps):.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of the C-MAPSS files")
    parser.add_argument("out", type=Path, help="the result's files, without ending")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = PreparedData(Turbofan(options.data, stride=3))
    rows: dict[str, list[dict[str, float]]] = {}
    for name, space in NETWORKS.items():
        bench = Bench(data, space)
        rows[name] = [measure(bench, seed) for seed in range(options.seeds)]
        print(name, rows[name], flush=True)
    protocol: dict[str, Any] = {"subset": "FD001", "stride": 3, "epochs": EPOCHS, "qat_epochs": QAT_EPOCHS}
    protocol |= {
        "qat_rate": QAT_RATE,
        "training": TRAINING,
        "seeds": options.seeds,
        "split": dict(data.of({}).protocol),
    }
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    content = {"protocol": protocol, "versions": versions, "val_mae": rows}
    options.out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
