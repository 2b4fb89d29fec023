"""What each row of a block's table costs the teacher: one block replaced, the rest as it is (Bercovich et al. 2024)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.even_spread import evenly_spread
from qanas.core.events import Event, Watch
from qanas.core.run_folder import write_parquet
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.base import StageUnit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.block_table.files import BlockFiles, FeatureFolders, blocks_of
from qanas.performance_estimation.block_table.layers import Row
from qanas.performance_estimation.block_table.table import BlockTable
from qanas.performance_estimation.procedure import Procedure, TrainedNetwork
from qanas.performance_estimation.scoring import sample_of
from qanas.search_space.training_group import TrainingSettings
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.teacher_features import BlockFeatures
from qanas.tasks.samples import Split
from qanas.training.trainer import TrainingSet, refresh_batch_norms


@dataclass(frozen=True)
class ReplacedUnit(StageUnit):
    """Measures, for every exact row of a block's table, the teacher's loss with the row's layers in the block's place.

    Puzzle (Bercovich et al. 2024, "replace-1-block") scores blocks so; here as quantized: the whole network is, with
    the row's bits in the block. The loss is the task's own, on training samples: the front is of validation data, which
    no score may have seen.

    Attributes:
        procedure: quantizes.
        block: its position.
        files: of the block.
        features: the teacher's.
        teacher: its weights.
        samples: training samples, spread evenly: what losses, ranges and statistics are over.
    """

    procedure: Procedure
    block: int
    files: BlockFiles
    features: FeatureFolders
    teacher: Path
    samples: int

    @property
    def label(self) -> str:
        """The block."""
        return f"block {self.block + 1}"

    def write(self, bench: Bench, watch: Watch) -> dict[str, Any]:
        """Measure."""
        table = BlockTable.read(self.files.table.path)
        rows = [table.rows[position] for position in table.exact_rows()]
        losses = self.losses(bench, rows, watch)
        write_parquet(self.file.path, pl.DataFrame({"row": table.exact_rows(), "loss": losses}))
        return {"rows": len(rows)}

    def losses(self, bench: Bench, rows: Sequence[Row], watch: Watch) -> NDArray[np.float64]:
        """Return by how much each row raises the quantized teacher's loss, shape (rows,); less than 0 where it helps.

        Args:
            bench: what candidates are measured on.
            rows: bits and paths.
            watch: told of each.
        """
        block = blocks_of(bench)[self.block]
        teacher = bench.build(bench.reference, 0).eval()
        teacher.load_state_dict(load_file(self.teacher))
        supernet = BlockSupernet(block)
        supernet.load_state_dict(load_file(self.files.supernets[0].path))
        train = BlockFeatures.mapped(self.features.train, self.block)
        given = train.inputs[torch.from_numpy(evenly_spread(len(train), self.samples))].clone()
        samples = sample_of(bench.data_of(bench.reference).train, self.samples)
        base = self._loss(bench, bench.reference, teacher, samples)
        found = []
        for number, (bits, path) in enumerate(rows, 1):
            layers = nn.Sequential(
                *(copy.deepcopy(options[place]) for options, place in zip(supernet.options, path, strict=True))
            )
            # Statistics of a supernet are those of all paths mixed.
            refresh_batch_norms(layers, TrainingSet(given, given), most=self.samples)
            network = copy.deepcopy(teacher)
            network.set_submodule(block.module, layers.eval())
            quantization = {**bench.reference.quantization, **block.quantization(bits)}
            candidate = replace(bench.reference, quantization=quantization)
            found.append(self._loss(bench, candidate, network, samples) - base)
            watch(Event(number, len(rows), found[-1]))
        return np.array(found)

    def _loss(self, bench: Bench, candidate: Candidate, network: nn.Module, samples: Split) -> float:
        """Return the task's loss of a network, quantized with the candidate's bits."""
        procedure = self.procedure.with_settings(qat_epochs=0, calibration_samples=self.samples)
        seed = derive_seed(bench.seed, "replaced")
        made = TrainedNetwork(network, procedure.quantize(bench, candidate, network, seed), 0.0)
        outputs = made.quantized.outputs
        codes = made.codes_by_name(samples, "fast")
        values: list[Tensor] = [outputs[name].dequantize(part) for name, part in codes.items()]
        targets = torch.from_numpy(samples.targets)
        kind = TrainingSettings.from_group(bench.reference.training).loss
        whole = targets if targets.is_floating_point() else targets.long()
        return float(bench.task.loss(kind, values[0], whole))


def read_losses(path: Path, rows: int) -> NDArray[np.float64]:
    """Return the losses of a table's rows, shape (rows,); NaN where a row has none.

    Args:
        path: that a unit left.
        rows: of the table.
    """
    kept = pl.read_parquet(path.read_bytes())
    losses = np.full(rows, np.nan)
    losses[kept["row"].to_numpy()] = kept["loss"].to_numpy()
    return losses
