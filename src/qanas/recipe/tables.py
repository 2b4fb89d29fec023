"""The tables of a recipe and their own keys; those of components are checked against their constructors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qanas.core.candidate import SEARCHED_BY_DEFAULT, Group
from qanas.core.measurement import Direction
from qanas.quantization.affine import ActivationBits, Container, ScaleKind, WeightBits
from qanas.quantization.named_schemes import DEFAULT_SCHEME
from qanas.quantization.ranges import RangeMethod
from qanas.quantization.scheme import ActivationCodes, WeightScales
from qanas.supernet.paths import Sampling

STRICT = ConfigDict(extra="forbid", strict=True)

Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NamedTable(BaseModel):
    """A table that names a component; the component's own keys are checked against its constructor."""

    model_config = ConfigDict(extra="allow", strict=True)
    name: str


class SpaceTable(NamedTable):
    """What is searched; further keys are the family's."""

    search: list[Group] = Field(default=list(SEARCHED_BY_DEFAULT), min_length=1)


class StrategyTable(NamedTable):
    """How candidates are proposed; further keys are the strategy's."""

    trials: int = Field(default=100, ge=1)
    hours: float | None = Field(default=None, gt=0)
    max_rejected: int | None = Field(default=None, ge=1)


class EstimationTable(NamedTable):
    """How candidates are trained and measured; further keys are the estimator's."""

    name: str = "training"
    jobs: int = Field(default=1, ge=1, le=256)


class LayerTable(BaseModel):
    """What differs from the scheme in a layer; fields of `Scheme`."""

    model_config = STRICT
    weight_bits: WeightBits | None = None
    activation_bits: ActivationBits | None = None
    activations: ActivationCodes | None = None
    weight_scales: WeightScales | None = None
    scales: ScaleKind | None = None
    ranges: RangeMethod | None = None
    container: Container | None = None


class QuantizationTable(BaseModel):
    """How networks are quantized; layers by the path of a module."""

    model_config = STRICT
    scheme: str = DEFAULT_SCHEME
    container: Container | None = None
    layers: dict[str, LayerTable] = Field(default_factory=dict)

    def fields_by_layer(self) -> dict[str, dict[str, str | int]]:
        """Return what is given for each layer."""
        return {path: table.model_dump(exclude_none=True) for path, table in self.layers.items()}

    def resolved(self) -> dict[str, Any]:
        """Return the table as a run writes it down: without what is left to the scheme."""
        content = self.model_dump(exclude_none=True)
        return content if self.layers else {name: value for name, value in content.items() if name != "layers"}


class DeviceTable(BaseModel):
    """Where latency is measured."""

    model_config = STRICT
    name: str = "host"


class FinalistsTable(BaseModel):
    """What is trained to ship."""

    model_config = STRICT
    count: int = Field(default=8, ge=1)
    seeds: int = Field(default=3, ge=1)


class RunTable(BaseModel):
    """What holds for the whole run."""

    model_config = STRICT
    seed: int = Field(default=0, ge=0)


class SeedTable(BaseModel):
    """The seed network's weights."""

    model_config = STRICT
    weights: str | None = None
    sha256: str | None = None  # of a resolved recipe


class Recipe(BaseModel):
    """What every recipe has."""

    model_config = STRICT
    task: NamedTable
    estimation: EstimationTable = EstimationTable()
    quantization: QuantizationTable = QuantizationTable()
    objectives: dict[str, Direction] = Field(min_length=1)
    limits: dict[str, Bound] = Field(default_factory=dict)
    device: DeviceTable = DeviceTable()
    finalists: FinalistsTable = FinalistsTable()
    run: RunTable = RunTable()


class SampledRecipe(Recipe):
    """A search that trains what a sampler proposes."""

    space: SpaceTable
    seed: SeedTable = SeedTable()
    strategy: StrategyTable


class TeacherTable(BaseModel):
    """The seed network of a block-wise search; further keys are its family's."""

    model_config = ConfigDict(extra="allow", strict=True)
    network: str = "deeplabv3"
    epochs: int = Field(default=100, ge=1)
    weights: str | None = None
    sha256: str | None = None  # of a resolved recipe


class BlocksTable(BaseModel):
    """What can stand in the blocks; the keys are the family's."""

    model_config = ConfigDict(extra="allow", strict=True)


class DistillationTable(BaseModel):
    """How each block's supernet is trained."""

    model_config = STRICT
    steps: int = Field(default=3000, ge=1)
    sampling: Sampling = "fair"
    seeds: int = Field(default=1, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1.0, gt=0)
    views: int = Field(default=2, ge=1)


class BlockTableTable(BaseModel):
    """What each block's table holds."""

    model_config = STRICT
    bits: list[WeightBits] = Field(default=[8], min_length=1)
    per: Literal["block"] = "block"
    full: bool = False
    samples: int | None = Field(default=None, ge=2)
    calibration_samples: int = Field(default=32, ge=2)


class ScoreTable(BaseModel):
    """What stands for the metric among the objectives."""

    model_config = STRICT
    name: Literal["nsr_sum"] = "nsr_sum"


class SolverTable(NamedTable):
    """What finds the front of the tables."""

    name: str = "exact"


class BlockwiseFinalistsTable(FinalistsTable):
    """What is trained to ship, and from which weights."""

    start: Literal["scratch", "distilled"] = "scratch"


class BlockwiseRecipe(Recipe):
    """A search over tables of distilled blocks."""

    finalists: BlockwiseFinalistsTable = BlockwiseFinalistsTable()

    teacher: TeacherTable = TeacherTable()
    blocks: BlocksTable = BlocksTable()
    distillation: DistillationTable = DistillationTable()
    table: BlockTableTable = BlockTableTable()
    score: ScoreTable = ScoreTable()
    strategy: SolverTable = SolverTable()


BLOCKWISE_TABLES = ("teacher", "blocks", "distillation", "table")
"""A recipe with any of them is one of a block-wise search."""
