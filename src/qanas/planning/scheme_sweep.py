"""The choice of a quantization scheme before the search: all of them, tried on the reference."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from qanas.core.errors import InputError
from qanas.core.events import Watch
from qanas.core.measures import Metric
from qanas.core.run_folder import RunFolder, read_table
from qanas.core.seeds import derive_seed
from qanas.execution.executors import Failure, InlineExecutor, Unit
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.procedure import Procedure, TrainedNetwork
from qanas.planning.plan import SWEEP, Plan
from qanas.planning.progress import Progress
from qanas.quantization.numbers.affine import BYTE_BITS
from qanas.quantization.scheme import Scheme, UnsupportedSchemeError, named_schemes

logger = logging.getLogger("qanas")


@dataclass(frozen=True)
class SchemeScore:
    """What a scheme made of the reference.

    Attributes:
        scheme: its name.
        metric: what was scored, on validation data.
        score: of the simulated integer network; None where it can't have the scheme, or isn't finite.
        refused: why there is no score.
        chosen: whether the search goes on with it.
    """

    scheme: str
    metric: str
    score: float | None
    refused: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class SchemeSweepUnit(Unit[Bench, list[SchemeScore]]):
    """One training of the reference, quantized by every named scheme.

    Attributes:
        schemes: by name.
        procedure: trains and quantizes.
        metric: that decides.
    """

    schemes: Mapping[str, Scheme]
    procedure: Procedure
    metric: Metric

    def run(self, bench: Bench, watch: Watch) -> list[SchemeScore]:
        """Train, quantize by each scheme in turn, and score on validation data."""
        seed = derive_seed(bench.seed, "scheme sweep")
        reference, metric = bench.reference, self.metric.column
        trained = self.procedure.make(bench, reference, bench.reference_start, seed, watch)
        scores: list[SchemeScore] = []
        for name, scheme in self.schemes.items():
            try:
                quantized = self.procedure.quantize(replace(bench, scheme=scheme), reference, trained.network, seed)
            except UnsupportedSchemeError as error:
                scores.append(SchemeScore(name, metric, None, str(error)))
                continue
            shipped = TrainedNetwork(trained.network, quantized, 0.0)
            score = shipped.evaluate(bench.task, bench.data_of(reference).val)[metric]
            scores.append(SchemeScore(name, metric, score if np.isfinite(score) else None, ""))
        return _with_best(scores, self.metric)


def swept_schemes() -> list[str]:
    """Return the names of the schemes that are tried: of values of 8 bits, for no score says what 16 bits cost."""
    return [name for name, scheme in named_schemes().items() if scheme.activation_bits == BYTE_BITS]


def _with_best(scores: list[SchemeScore], metric: Metric) -> list[SchemeScore]:
    """Mark the best score as chosen, of equal ones the first."""
    losses = [np.inf if entry.score is None else metric.loss(entry.score) for entry in scores]
    best = int(np.argmin(losses))
    if not np.isfinite(losses[best]):
        raise ArithmeticError("no scheme gives it a finite score")
    return [replace(entry, chosen=i == best) for i, entry in enumerate(scores)]


def with_scheme_chosen(plan: Plan, folder: RunFolder, progress: Progress) -> Plan:
    """Return the plan with the scheme that the search goes on with; an earlier session's choice stays.

    Args:
        plan: with the bench; one that names its scheme comes back as it is.
        folder: of the run.
        progress: who watches.

    Raises:
        InputError: the reference can't be trained or scored.
    """
    if plan.scheme.name != SWEEP:
        return plan
    chosen = _chosen_before(folder)
    if chosen is None:
        progress.message("the reference is trained to choose a quantization scheme")
        schemes = {name: replace(plan.scheme, name=name).scheme for name in swept_schemes()}
        with InlineExecutor[Bench, list[SchemeScore]](plan.bench, lambda *_: True) as executor:
            executor.submit(SchemeSweepUnit(schemes, plan.estimator.procedure, plan.main_metric))
            _, scores = executor.next_finished()
        if isinstance(scores, Failure):
            raise InputError(
                f"quantization.scheme: the sweep over the reference failed: {scores.reason}; name a scheme"
            )
        folder.write_table(folder.scheme_sweep, [asdict(entry) for entry in scores])
        chosen = next(entry.scheme for entry in scores if entry.chosen)
    progress.message(f"quantization scheme: {chosen} (of {folder.scheme_sweep.name})")
    logger.info("quantization scheme %s", chosen)
    return plan.with_scheme(chosen)


def _chosen_before(folder: RunFolder) -> str | None:
    """Return the scheme that an earlier session chose; None where none did."""
    if not folder.scheme_sweep.is_file():
        return None
    rows = read_table(folder.scheme_sweep).iter_rows(named=True)
    chosen = [row.get("scheme") for row in rows if row.get("chosen")]
    if len(chosen) != 1 or chosen[0] not in swept_schemes():
        raise InputError(f"{folder.scheme_sweep}: no row is the chosen one; remove the file to choose anew")
    return str(chosen[0])


def scheme_choice(plan: Plan) -> str:
    """Return how the scheme of a plan was chosen, for cards."""
    if plan.recipe["quantization"]["scheme"] != SWEEP:
        return "by the recipe"
    direction = plan.main_metric.direction.removesuffix("imize")
    return (
        f"before the search: {direction}imal {plan.main_metric.name} (quantized, validation) of the reference, "
        f"trained once, under each of {len(swept_schemes())} schemes (scheme_sweep.csv)"
    )
