"""A block's table: the tree against the plain walk and against torch's fake quantization, racing, costs, the file."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.workflows.tiny_blocks import SIZE, Blobs, TinySpace, seeded_network

from qanas.core.pareto import non_dominated
from qanas.hardware.costs import ADDITIVE_COLUMNS
from qanas.performance_estimation.bench import Bench, PreparedData
from qanas.performance_estimation.block_table.layers import BlockLayers, Row, ScoredSamples
from qanas.performance_estimation.block_table.predicting import rows_to_fit
from qanas.performance_estimation.block_table.racing import Heat, RacingSettings, race, surviving
from qanas.performance_estimation.block_table.table import BlockTable, TableBuilder, TableSettings
from qanas.performance_estimation.block_table.walk import (
    PrefixStatistics,
    RecentStatistics,
    RememberedStatistics,
    score_paths,
)
from qanas.quantization.numbers.affine import WeightBits
from qanas.quantization.scheme import Scheme
from qanas.search_space.network_space import TaskShape
from qanas.search_space.quantization_group import BitsPer
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.distillation import DistillationSettings, distil
from qanas.supernet.teacher_features import BlockFeatures, features_of
from qanas.testing.block_scores import score_fake_quantized, score_one_by_one
from qanas.testing.small import CLASSES

SHAPE = TaskShape((3, SIZE, SIZE), CLASSES, 1.0, ("cross_entropy",))
BLOCKS = TinySpace().blocks(SHAPE)
BITS: tuple[WeightBits, ...] = (4, 6, 8)
BLOCK = 1


@pytest.fixture(scope="module")
def features() -> tuple[BlockFeatures, BlockFeatures]:
    """The teacher's, on training and on held-out samples."""
    generator = torch.Generator().manual_seed(3)
    teacher = seeded_network()
    train, held_out = (
        features_of(teacher, BLOCKS, torch.randn(count, 3, SIZE, SIZE, generator=generator)) for count in (32, 40)
    )
    return train[BLOCK], held_out[BLOCK]


@pytest.fixture(scope="module")
def supernet(features: tuple[BlockFeatures, BlockFeatures]) -> BlockSupernet:
    net = BlockSupernet.seeded(BLOCKS[BLOCK], 0)
    distil(net, features[0], DistillationSettings(200, "fair", 8, 0.5), 0)
    return net


@pytest.fixture(scope="module")
def layers(supernet: BlockSupernet) -> BlockLayers:
    return BlockLayers.of(supernet, (6, SIZE, SIZE), Scheme())


def builder(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures], settings: TableSettings, seed: int = 0
) -> TableBuilder:
    return TableBuilder([layers], *features, settings, seed)


def test_the_tree_is_bit_identical_to_the_plain_walk(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures]
) -> None:
    made = builder(layers, features, TableSettings(bits=BITS))
    statistics = PrefixStatistics(layers, made.calibration)
    samples = ScoredSamples.of(features[1], made.noise)
    rows = made.rows()
    assert len(rows) == 3 * 4 * 4
    tree, plain = score_paths(statistics, samples, rows), score_one_by_one(statistics, samples, rows)
    assert tree.keys() == plain.keys() == set(rows)
    for row in rows:
        assert np.array_equal(tree[row], plain[row])
    mixed = [Row((8, 4), (0, 1)), Row((8, 6), (0, 1)), Row((4, 8), (0, 1)), Row((6, 4), (2, 3))]
    tree, plain = score_paths(statistics, samples, mixed), {**plain, **score_one_by_one(statistics, samples, mixed)}
    assert all(np.array_equal(tree[row], plain[row]) for row in mixed)
    # Part of the rows give the same numbers as all of them.
    some = score_paths(statistics, samples, rows[5:30:7])
    assert all(np.array_equal(some[row], plain[row]) for row in rows[5:30:7])


def test_scores_are_those_of_torchs_fake_quantization(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures]
) -> None:
    made = builder(layers, features, TableSettings(bits=BITS))
    samples = ScoredSamples.of(features[1], made.noise)
    statistics = PrefixStatistics(layers, made.calibration)
    rows = made.rows()
    found = score_paths(statistics, samples, rows)
    errors = []
    for row in rows:
        expected = score_fake_quantized(statistics, samples, row).mean()
        errors.append(abs(found[row].mean() / expected - 1.0))
    # The kernels round sums twice, and biases: test_roundings.py has the same in float64 with their roundings.
    assert np.median(errors) < 2e-4
    assert max(errors) < 5e-3


def test_costs_of_paths_add_up_to_those_of_networks(layers: BlockLayers) -> None:
    bench = Bench(PreparedData(Blobs()), TinySpace(BITS))
    other = BlockLayers.of(BlockSupernet(BLOCKS[0]), (4, SIZE, SIZE), Scheme())
    space = TinySpace(BITS)
    outside = set()
    for paths, bits in ((((0, 0), (1, 2)), (8, 8)), (((3, 1), (2, 2)), (4, 6)), (((2, 3), (0, 3)), (6, 4))):
        whole = bench.costs_of(space.candidate(bench.shape, bench.reference, paths, bits))
        parts = [block.costs([Row.alike(b, path)]) for block, path, b in zip((other, layers), paths, bits, strict=True)]  # type: ignore[arg-type]
        outside.add(tuple(whole[name] - sum(part[name][0] for part in parts) for name in ADDITIVE_COLUMNS))
    assert len(outside) == 1  # stem and head, whatever is between them


def front_rows(table: BlockTable) -> set[Row]:
    rows = table.exact_rows()
    return {table.rows[rows[position]] for position in non_dominated(table.losses(rows, ["packed_weight_bytes"]))}


@pytest.mark.parametrize(("per", "orders"), [("block", 10), ("layer", 6)])
def test_a_race_keeps_the_front(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures], per: BitsPer, orders: int
) -> None:
    racing = RacingSettings(quick_rounds=(8,), rounds=(20,))
    full = builder(layers, features, TableSettings(BITS, per, full=True)).build(["packed_weight_bytes"])
    assert full.exact.all()
    assert len(full.rows) == 16 * (3 if per == "block" else 9)
    assert len(front_rows(full)) > 3
    same = 0
    for seed in range(orders):
        settings = TableSettings(BITS, per, racing=racing)
        raced = builder(layers, features, settings, seed).build(["packed_weight_bytes"])
        assert raced.exact.sum() < 0.8 * len(raced.rows)
        same += front_rows(raced) == front_rows(full)
        both = raced.exact_rows()
        assert np.array_equal(raced.scores[both], full.scores[both])
    assert same >= orders - 1


def test_a_race_keeps_the_front_where_predictions_are_poor(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures]
) -> None:
    """Four layers of four options, three of them not trained in their place: 7 to 10 % off, and allowed for."""
    first, second = layers.graphs
    deep = BlockLayers((first, second, second, second), Scheme())
    assert len(rows_to_fit(deep.options, (8,), "block", 0)) < 0.3 * 256
    full = builder(deep, features, TableSettings(full=True)).build(["packed_weight_bytes"])
    settings = TableSettings(racing=RacingSettings(quick_rounds=(8,), rounds=(20,)))
    for seed in range(2):
        raced = builder(deep, features, settings, seed).build(["packed_weight_bytes"])
        assert raced.exact.sum() < 200
        assert front_rows(raced) == front_rows(full)


def test_an_order_of_the_samples_changes_no_exact_score(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures]
) -> None:
    rows: list[Row] = [Row.alike(8, (0, 1)), Row.alike(4, (3, 3))]
    first, second = (builder(layers, features, TableSettings(bits=BITS), seed).exact_scores(rows) for seed in (0, 7))
    assert np.array_equal(first, second)


def test_two_supernets_are_averaged(layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures]) -> None:
    other = BlockLayers.of(BlockSupernet.seeded(BLOCKS[BLOCK], 5), (6, SIZE, SIZE), Scheme())
    rows: list[Row] = [Row.alike(8, (0, 1)), Row.alike(8, (2, 2))]
    alone = [builder(entry, features, TableSettings()).exact_scores(rows) for entry in (layers, other)]
    both = TableBuilder([layers, other], *features, TableSettings(), 0).exact_scores(rows)
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, rtol=1e-12)


def test_recent_statistics_are_close_to_a_paths_own(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures]
) -> None:
    made = builder(layers, features, TableSettings(full=True))
    samples = ScoredSamples.of(features[1], made.noise)
    rows = made.rows()
    own = score_paths(PrefixStatistics(layers, made.calibration), samples, rows)
    # With a layer of memory, both layers of the block know all that is before them.
    same = score_paths(RecentStatistics(layers, made.calibration, 1, 0), samples, rows)
    assert all(np.array_equal(same[row], own[row]) for row in rows)
    recent = score_paths(RecentStatistics(layers, made.calibration, 0, 0), samples, rows)
    ratios = [recent[row].mean() / own[row].mean() for row in rows]
    assert not np.allclose(ratios, 1.0, rtol=1e-6)
    assert 0.8 < np.median(ratios) < 1.25


def test_recent_statistics_depend_on_the_last_layers_alone(supernet: BlockSupernet) -> None:
    """Three layers of four options that keep the shape: with a layer of memory, four predecessors make four layers."""
    one = BlockLayers.of(supernet, (6, SIZE, SIZE), Scheme()).graphs[1]
    layers = BlockLayers((one, one, one), Scheme())
    samples = torch.randn(8, *one[0].graph.network_input_shape, generator=torch.Generator().manual_seed(0))
    statistics = RecentStatistics(layers, samples, 1, 0)
    third = {path: statistics.enter(path, None)[0] for path in itertools.product(range(4), repeat=3)}
    for path, layer in third.items():
        assert layer is third[0, *path[1:]]
    ranges = {path[1]: layer.ranges["input"].output for path, layer in third.items() if path[2] == 0}
    assert len(set(ranges.values())) == 4


def test_remembered_statistics_are_those_that_are_taken(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures]
) -> None:
    made = builder(layers, features, TableSettings())
    samples = ScoredSamples.of(features[1], made.noise)
    rows: list[Row] = [Row.alike(8, (0, 1)), Row.alike(8, (0, 2)), Row.alike(8, (3, 1))]
    own = score_paths(PrefixStatistics(layers, made.calibration), samples, rows)
    remembered = RememberedStatistics(PrefixStatistics(layers, made.calibration))
    # The first layers of the last two rows are known then, one behind the first one is not.
    for asked in (rows[:1], rows[:1], rows):
        found = score_paths(remembered, samples, asked)
        assert all(np.array_equal(found[row], own[row]) for row in asked)


def test_a_table_survives_its_file(
    layers: BlockLayers, features: tuple[BlockFeatures, BlockFeatures], tmp_path: Path
) -> None:
    table = builder(layers, features, TableSettings(bits=(8, 4))).build(["weight_bytes"])
    table.write(tmp_path / "table.parquet", [["a", "b", "c", "d"]] * 2)
    read = BlockTable.read(tmp_path / "table.parquet")
    assert read.rows == table.rows
    for name in ("scores", "samples", "exact", "by_sample"):
        assert np.array_equal(getattr(read, name), getattr(table, name))
    assert read.costs.keys() == table.costs.keys()
    assert all(np.array_equal(read.costs[name], table.costs[name]) for name in table.costs)


def test_a_race_by_hand() -> None:
    """Row 1 is worse than row 0 on every sample and no cheaper; row 2 is worse but cheaper; row 3 is a tie."""
    scores = np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.1], [5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0]])
    costs = np.array([[10.0], [10.0], [5.0], [10.0]])
    assert surviving(scores, costs, 100, 4.0).tolist() == [True, False, True, True]
    # A score of 2.5 that is off by a tenth of itself may be one of 3.5.
    assert surviving(scores, costs, 100, 4.0, error=0.1).tolist() == [True, True, True, True]
    rows: list[Row] = [Row.alike(8, (row,)) for row in range(4)]
    seen: list[int] = []

    def score(positions: Sequence[int], asked: Sequence[Row]) -> NDArray[np.float64]:
        seen.extend(positions)
        return scores[np.ix_([path[0] for _, path in asked], positions)]

    result = race([Heat(score, (2, 4))], rows, costs, [3, 1, 0, 2], 4.0)
    assert seen == [3, 1, 0, 2]
    assert result.alive.tolist() == [0, 2, 3]
    assert result.samples.tolist() == [4, 2, 4, 4]
    assert result.means.tolist() == [2.5, 4.05, 6.5, 2.5]
    assert result.scores.tolist() == [[4.0, 2.0, 1.0, 3.0], [8.0, 6.0, 5.0, 7.0], [4.0, 2.0, 1.0, 3.0]]
    # A second heat begins at the first sample again, with the rows that the first one left.
    seen.clear()
    result = race([Heat(score, (2,)), Heat(score, (3,))], rows, costs, [3, 1, 0, 2], 4.0)
    assert seen == [3, 1, 3, 1, 0]
    assert result.samples.tolist() == [3, 2, 3, 3]
