"""What can stand for the metric in a block-wise search, beside the sum of ratios."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from qanas.core.candidate import Candidate
from qanas.core.even_spread import evenly_spread
from qanas.core.measures import Cost, Metric, measure_of
from qanas.hardware.costs import cost_models
from qanas.hardware.device import Device
from qanas.performance_estimation.block_tables import BlockTables, DistillationOptions, TableOptions
from qanas.performance_estimation.procedure import FullTraining
from qanas.performance_estimation.scored_blocks import ScoreOptions
from qanas.search_space.additive import AdditiveScores
from qanas.supernet.block_supernet import BlockSupernet
from qanas.testing.small import PlainStages, SmallSpace, small_bench

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.performance_estimation.bench import Bench
    from qanas.performance_estimation.scored_blocks import ScoredBlocks
    from qanas.search_space.quantization_group import BitsPer

SAMPLES = 12
QUICK = FullTraining(epochs=1, calibration_samples=16)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return small_bench(networks=SmallSpace(weight_bits=(4, 8)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks")


def prepared(bench: Bench, home: Path, per: BitsPer = "block", **score: Any) -> ScoredBlocks:  # noqa: ANN401
    tables = TableOptions(bits=[4, 8], per=per, calibration_samples=8, full=True)
    estimator = BlockTables(QUICK, DistillationOptions(steps=8), tables, ScoreOptions(**score))
    measures = (Metric("accuracy", better="maximize"), Cost("weight_bytes"))
    return estimator.prepare(bench, PlainStages(bench, QUICK, home), measures)


def test_logarithms_are_of_the_ratios(bench: Bench, home: Path) -> None:
    ratios, logs = prepared(bench, home), prepared(bench, home, name="nsr_log_sum")
    offered = logs.offer(AdditiveScores)
    assert offered.axis.column == "nsr_log_sum"
    for table, scores, exact in zip(ratios.block_tables, logs.scores, offered.tables, strict=True):
        assert scores == pytest.approx([np.log(value) for value in table.scores])
        assert exact.scores == pytest.approx(scores)
    assert offered.scores([0, 0]) == pytest.approx(
        {"nsr_log_sum": logs.scores[0][0] + logs.scores[1][0], "nsr_log_1": logs.scores[0][0],
         "nsr_log_2": logs.scores[1][0]}
    )  # fmt: skip


def by_hand(bench: Bench, scored: ScoredBlocks, place: int, row: int | None) -> float:
    """Return the loss of the quantized teacher, one of whose blocks is a row's path, as a candidate of its own."""
    blocks = SmallSpace().blocks(bench.shape)
    weights = load_file(scored.teacher)
    train = bench.data.of({}).train
    chosen = evenly_spread(len(train), SAMPLES)
    candidate = bench.reference
    if row is not None:
        bits, path = scored.block_tables[place].rows[row]
        architecture = {**candidate.architecture, **blocks[place].architecture(path)}
        quantization = {**candidate.quantization, **blocks[place].quantization(bits)}
        candidate = Candidate(architecture, candidate.training, quantization)
    network = SmallSpace().build(candidate, bench.shape)
    own = f"{blocks[place].module}."
    network.load_state_dict({n: v for n, v in weights.items() if row is None or not n.startswith(own)}, strict=False)
    if row is not None:
        supernet = BlockSupernet(blocks[place])
        supernet.load_state_dict(load_file(scored.files[place].supernets[0].path))
        block = network.get_submodule(blocks[place].module)
        block.load_state_dict(dict(supernet.path_state(scored.block_tables[place].rows[row][1])))
        borders = scored.files[place].supernets[0].path.parents[1] / "features" / "2" / "train"
        given = torch.from_numpy(np.load(borders / f"{place}.npy"))
        spread = evenly_spread(len(given), SAMPLES)
        for module in block.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        with torch.no_grad():
            block.train()(given[spread])
    network.eval()
    procedure = replace(QUICK, calibration_samples=SAMPLES)
    quantized = procedure.quantize(bench, candidate, network, 0)
    codes = quantized.codes(torch.from_numpy(train.inputs[chosen]), "fast")
    outputs = next(iter(quantized.outputs.values())).dequantize(codes)
    return float(cross_entropy(outputs, torch.from_numpy(train.targets[chosen]).long()))


def test_a_replaced_block_is_scored_by_what_it_costs_the_quantized_teacher(bench: Bench, home: Path) -> None:
    scored = prepared(bench, home, name="replace_one", samples=SAMPLES)
    base = by_hand(bench, scored, 0, None)
    for place, row in ((0, 0), (0, 5), (1, 1)):
        assert scored.scores[place][row] == pytest.approx(by_hand(bench, scored, place, row) - base, abs=1e-5)


def test_bits_and_latency_of_layers_add_up_to_those_of_the_network(tmp_path: Path) -> None:
    latency = Cost("latency_ms", device="imxrt1170")
    costs = cost_models([latency], Device.named("host"))
    bench = small_bench(networks=SmallSpace((4, 8), "layer"), costs=costs)
    offered = prepared(bench, tmp_path, "layer").offer(AdditiveScores)
    assert [len(table.scores) for table in offered.tables] == [16, 4]
    kept = offered.tables[0].costs["packed_weight_bytes"], offered.tables[0].costs[latency.column]
    assert [len(np.unique(values)) for values in kept] == [16, 4], "bits change bytes, not latency"
    for rows in ((0, 3), (7, 1), (14, 2)):
        candidate, found = offered.candidate(rows), offered.costs(rows)
        assert found == pytest.approx({name: bench.costs_of(candidate)[name] for name in found})
        layers = bench.networks.module_weight_bits(candidate)
        wanted = [(4, 4), (4, 8), (8, 4), (8, 8)][rows[0] // 4]
        assert (layers["blocks.0.0"], layers["blocks.0.1"]) == wanted


def test_their_columns_are_scores() -> None:
    for column in ("nsr_log_sum", "nsr_log_2", "replace_one", "replace_1"):
        measure = measure_of(column)
        assert measure is not None
        assert (measure.column, measure.direction) == (column, "minimize")
