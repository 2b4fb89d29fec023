"""The teacher of a block-wise search: the seed network's first training."""

from __future__ import annotations

from safetensors.torch import load_file
from torch import nn

from qanas.core.run_folder import SEED_ID, RunFolder
from qanas.workflows.finalists import Finalist, FinalistUnit, training_files
from qanas.workflows.plan import Setup

TRAINING = 0
"""The training of the seed network whose weights the teacher has."""


def teacher_unit(setup: Setup, folder: RunFolder) -> FinalistUnit:
    """Return the training of the teacher, and where it is kept."""
    finalist = Finalist(SEED_ID, setup.space.reference)
    return FinalistUnit(finalist, TRAINING, training_files(folder, finalist, TRAINING))


def load_teacher(setup: Setup, folder: RunFolder) -> nn.Module:
    """Return the trained teacher, in evaluation mode."""
    teacher = setup.problem.build(setup.space.reference, 0).eval()
    teacher.load_state_dict(load_file(teacher_unit(setup, folder).files.weights))
    return teacher
