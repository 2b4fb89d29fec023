"""How good the teacher of a block-wise run gets when it trains as long again: the control of its finalists.

    python benchmarks/teacher_trained_on.py runs/camvid_bwnas_distilled

Finalists that start from distilled blocks have seen the images twice as often as the teacher. Here it starts from its
own weights and is trained, quantized and measured as they are, with a seed of its own. The training stays in the run's
folder with the others, and the result beside the run's other files; asked again, it isn't trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from qanas.workflows.blockwise.teacher import teacher_unit
from qanas.workflows.blockwise.units import blockwise_space
from safetensors.torch import load_file
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.recipe import load_plan
from qanas.search_space.network_space import TaskShape
from qanas.supernet.block_supernet import DistilledStart
from qanas.workflows.finalists import Finalist, FinalistUnit, training_files
from qanas.workflows.plan import Setup

NAME = "teacher_trained_on"


@dataclass(frozen=True)
class TeachersOwnStart(DistilledStart):
    """The teacher's weights for all of the network."""

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Load them."""
        del candidate, shape
        network.load_state_dict(load_file(self.teacher))


def trained_on_path(folder: RunFolder) -> Path:
    """Return where the result of a run lies."""
    return folder.path / f"{NAME}.json"


def control(folder: RunFolder) -> dict[str, object]:
    """Return costs and metrics of the teacher trained on."""
    setup = Setup.load(load_plan(folder.recipe))
    teacher = teacher_unit(setup, folder).files.weights
    setup = setup.with_start(TeachersOwnStart(blockwise_space(setup), teacher, ()))
    seed = setup.space.reference
    # The reference's candidate itself never starts from anything; its bits spelled out make it another one.
    finalist = Finalist(NAME, replace(seed, quantization={**seed.quantization, "weight_bits": 8}), NAME)
    if finalist.candidate == seed:
        raise SystemExit("the reference's bits are spelled out in this recipe")
    unit = FinalistUnit(finalist, 0, training_files(folder, finalist, 0))
    training = unit.files.read()
    if training is None:
        training = unit.run(setup, lambda _, epoch, loss: print(f"epoch {epoch}, loss {loss:.4f}", flush=True))
    costs = setup.problem.costs(finalist.candidate)
    return {
        "run": folder.path.name,
        "epochs": setup.plan.estimator.epochs,
        "weight_bytes": costs["weight_bytes"],
        "packed_weight_bytes": costs["packed_weight_bytes"],
        "parity_steps": training.parity.max,
        "failure": training.failure,
        "miou": {name: {s: m["miou"] for s, m in splits.items()} for name, splits in training.metrics.items()},
    }


def main() -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = RunFolder(arguments.run)
    text = json.dumps(control(folder), indent=1)
    write_atomically(trained_on_path(folder), f"{text}\n".encode())
    print(text)


if __name__ == "__main__":
    main()
