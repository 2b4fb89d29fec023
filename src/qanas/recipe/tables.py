"""The tables of a recipe and their own keys; those of components are checked against their constructors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qanas.core.candidate import SEARCHED_BY_DEFAULT, Group
from qanas.core.measures import Direction
from qanas.execution.executors import LOCAL, Engine
from qanas.planning.plan import BASELINES, BaselineName
from qanas.planning.sharing import LEASE
from qanas.quantization.numbers.affine import ActivationBits, Container, ScaleKind, WeightBits
from qanas.quantization.scheme import DEFAULT_SCHEME, ActivationCodes, RangeMethod, WeightScales

STRICT = ConfigDict(extra="forbid", strict=True)


class NamedTable(BaseModel):
    """A table that names a component; the component's own keys are checked against its constructor."""

    model_config = ConfigDict(extra="allow", strict=True)
    name: str


class SpaceTable(NamedTable):
    """What is searched; further keys are the family's."""

    search: list[Group] = Field(default=list(SEARCHED_BY_DEFAULT), min_length=1)


class StrategyTable(NamedTable):
    """How the space is explored; further keys are the strategy's."""

    trials: int | None = Field(default=None, ge=1)
    hours: float | None = Field(default=None, gt=0)
    max_rejected: int | None = Field(default=None, ge=1)


class EstimationTable(NamedTable):
    """How good candidates are, and how they are trained; further keys are the estimator's and the procedure's."""

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
    """What networks are for, and on which further devices the latency of what ships is told."""

    model_config = STRICT
    name: str = "host"
    also: tuple[str, ...] = Field(default=(), strict=False)


class FinalistsTable(BaseModel):
    """What is trained to ship, how, and from which weights; what is left out is the estimation's."""

    model_config = STRICT
    count: int = Field(default=8, ge=1)
    seeds: int = Field(default=3, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    qat_epochs: int | None = Field(default=None, ge=0)
    start: str = "scratch"
    confirm: float = Field(default=0.0, ge=0, le=10)


class ReferenceTable(BaseModel):
    """What everything is held against; None: as the estimator has it."""

    model_config = STRICT
    tune: int | None = Field(default=None, ge=0, le=100)


class BaselinesTable(BaseModel):
    """What is trained and scored beside finalists."""

    model_config = STRICT
    enabled: bool = True
    names: list[BaselineName] = Field(default=list(BASELINES))

    @property
    def wanted(self) -> tuple[BaselineName, ...]:
        """In the order in which a run has them."""
        return tuple(name for name in BASELINES if name in self.names) if self.enabled else ()


class ExecutionTable(BaseModel):
    """Who runs units of work; what isn't about processes is Ray's."""

    model_config = STRICT
    engine: Literal["processes", "ray"] = "processes"
    address: str = "auto"
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    resources: dict[str, float] = Field(default_factory=dict)

    def chosen(self) -> Engine:
        """Return what it describes."""
        if self.engine == "processes":
            return LOCAL
        from qanas.execution.ray_engine import RayEngine

        return RayEngine(self.address, self.cpus, self.gpus, self.resources)


class StoreTable(BaseModel):
    """A study that several machines work on."""

    model_config = STRICT
    url: str
    name: str | None = Field(default=None, min_length=1, max_length=200)
    lease: float = Field(default=LEASE, gt=0, le=86400)
    folder: str | None = None


class RunTable(BaseModel):
    """What holds for the whole run."""

    model_config = STRICT
    seed: int = Field(default=0, ge=0)


class SeedTable(BaseModel):
    """The reference's weights."""

    model_config = STRICT
    weights: str | None = None
    sha256: str | None = None  # of a resolved recipe


class PretrainingTable(BaseModel):
    """What networks learn first; further keys are the task's, those that differ."""

    model_config = ConfigDict(extra="allow", strict=True)
    epochs: int = Field(ge=1)
    fingerprint: str | None = None  # of a resolved recipe


class Recipe(BaseModel):
    """What every recipe has; an estimator may have further tables of its own."""

    model_config = STRICT
    task: NamedTable
    space: SpaceTable
    seed: SeedTable = SeedTable()
    pretraining: PretrainingTable | None = None
    strategy: StrategyTable
    estimation: EstimationTable
    quantization: QuantizationTable = QuantizationTable()
    objectives: dict[str, Direction] = Field(min_length=1)
    limits: dict[str, float | str] = Field(default_factory=dict)
    goals: dict[str, float] = Field(default_factory=dict)
    device: DeviceTable = DeviceTable()
    finalists: FinalistsTable = FinalistsTable()
    reference: ReferenceTable = ReferenceTable()
    baselines: BaselinesTable = BaselinesTable()
    run: RunTable = RunTable()
    execution: ExecutionTable | None = None
    store: StoreTable | None = None


class TeacherTable(BaseModel):
    """The reference as block-wise recipes write it; further keys are its family's."""

    model_config = ConfigDict(extra="allow", strict=True)
    network: str = "deeplabv3"
    epochs: int = Field(default=100, ge=1)
    weights: str | None = None
    sha256: str | None = None  # of a resolved recipe


class BlocksTable(BaseModel):
    """What can stand in the blocks; the keys are the family's."""

    model_config = ConfigDict(extra="allow", strict=True)
