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
from safetensors.torch import load_file
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.events import Event
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.recipe import load_plan
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import Start
from qanas.shipping.finalists import Finalist, FinalistUnit, reference_finalist

NAME = "teacher_trained_on"


@dataclass(frozen=True)
class TeachersOwnStart(Start):
    """The teacher's weights for all of the network.

    Attributes:
        teacher: where they are.
    """

    teacher: Path

    @property
    def digest(self) -> str:
        """Name what is made from them: there is one teacher in a run's folder."""
        return NAME

    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        """Load them."""
        del candidate, shape
        network.load_state_dict(load_file(self.teacher))


def trained_on_path(folder: RunFolder) -> Path:
    """Return where the result of a run lies."""
    return folder.path / f"{NAME}.json"


def told(event: Event) -> bool:
    """Print how far the training has come."""
    print(f"epoch {event.done}, loss {event.loss:.4f}", flush=True)
    return True


def control(folder: RunFolder) -> dict[str, object]:
    """Return costs and metrics of the teacher trained on."""
    plan = load_plan(folder.recipe)
    plan.check()
    bench, procedure = plan.bench, plan.estimator.procedure
    teacher = FinalistUnit.of(folder, reference_finalist(plan, procedure), 0).files.weights
    reference = bench.reference
    # Its bits spelled out make it another candidate than the teacher, with seeds of its own.
    candidate = replace(reference, quantization={**reference.quantization, "weight_bits": 8})
    if candidate == reference:
        raise SystemExit("the reference's bits are spelled out in this recipe")
    finalist = Finalist(NAME, candidate, TeachersOwnStart(teacher), procedure)
    unit = FinalistUnit.of(folder, finalist, 0)
    training = unit.files.read()
    if training is None:
        training = unit.run(bench, told)
    costs = bench.costs_of(candidate)
    return {
        "run": folder.path.name,
        "epochs": procedure.epochs,
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
