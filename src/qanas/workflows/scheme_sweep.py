"""The choice of a quantization scheme before the search: all of them, tried on the seed network."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import polars as pl

from qanas.core.errors import InputError
from qanas.core.measurement import Objective
from qanas.core.run_folder import RunFolder
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.base import TrainedNetwork
from qanas.quantization.affine import BYTE_BITS
from qanas.quantization.named_schemes import named_schemes
from qanas.quantization.scheme import UnsupportedSchemeError
from qanas.workflows.plan import SWEEP, Plan, Setup
from qanas.workflows.progress import Progress
from qanas.workflows.units import Failure, OnPartEpoch, Unit
from qanas.workflows.workers import InlineExecutor

logger = logging.getLogger("qanas")


@dataclass(frozen=True)
class SchemeScore:
    """What a scheme made of the seed network.

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
class SchemeSweepUnit(Unit[list[SchemeScore]]):
    """One training of the seed network, quantized by every named scheme."""

    def run(self, setup: Setup, on_epoch: OnPartEpoch) -> list[SchemeScore]:
        """Train, quantize by each scheme in turn, and score on validation data."""
        plan, seed_network = setup.plan, setup.space.reference
        seed = derive_seed(plan.seed, "scheme sweep")
        trained = plan.estimator.train(setup.problem, seed_network, seed, partial(on_epoch, 0))
        metric = f"{plan.main_metric}_quantized"
        scores: list[SchemeScore] = []
        for name in swept_schemes():
            problem = setup.with_scheme(name).problem
            try:
                quantized = plan.estimator.quantize(problem, seed_network, trained.network, seed)
            except UnsupportedSchemeError as error:
                scores.append(SchemeScore(name, metric, None, str(error)))
                continue
            shipped = TrainedNetwork(trained.network, quantized, 0.0)
            score = shipped.evaluate(problem, problem.data.val)[metric]
            scores.append(SchemeScore(name, metric, score if np.isfinite(score) else None, ""))
        return _with_best(scores, plan)


def swept_schemes() -> list[str]:
    """Return the names of the schemes that are tried: of values of 8 bits, for no score says what 16 bits cost."""
    return [name for name, scheme in named_schemes().items() if scheme.activation_bits == BYTE_BITS]


def _with_best(scores: list[SchemeScore], plan: Plan) -> list[SchemeScore]:
    """Mark the best score as chosen, of equal ones the first."""
    objective = Objective(plan.main_metric, plan.task.metrics[plan.main_metric])
    losses = [np.inf if entry.score is None else objective.loss(entry.score) for entry in scores]
    best = int(np.argmin(losses))
    if not np.isfinite(losses[best]):
        raise ArithmeticError("no scheme gives it a finite score")
    return [replace(entry, chosen=i == best) for i, entry in enumerate(scores)]


def with_scheme_chosen(setup: Setup, folder: RunFolder, progress: Progress) -> Setup:
    """Return the setup with the scheme that the search goes on with; an earlier session's choice stays.

    Args:
        setup: plan and data; one that names its scheme comes back as it is.
        folder: of the run.
        progress: who watches.

    Raises:
        InputError: the seed network can't be trained or scored.
    """
    if setup.plan.scheme != SWEEP:
        return setup
    chosen = _chosen_before(folder)
    if chosen is None:
        progress.message("the seed network is trained to choose a quantization scheme")
        with InlineExecutor[list[SchemeScore]](setup, lambda *_: None) as executor:
            executor.submit(SchemeSweepUnit())
            _, scores = executor.next_finished()
        if isinstance(scores, Failure):
            raise InputError(
                f"quantization.scheme: the sweep over the seed network failed: {scores.reason}; name a scheme"
            )
        folder.write_table(folder.scheme_sweep, [asdict(entry) for entry in scores])
        chosen = next(entry.scheme for entry in scores if entry.chosen)
    progress.message(f"quantization scheme: {chosen} (of {folder.scheme_sweep.name})")
    logger.info("quantization scheme %s", chosen)
    return setup.with_scheme(chosen)


def _chosen_before(folder: RunFolder) -> str | None:
    """Return the scheme that an earlier session chose; None where none did."""
    if not folder.scheme_sweep.is_file():
        return None
    chosen = [row["scheme"] for row in pl.read_csv(folder.scheme_sweep).iter_rows(named=True) if row["chosen"]]
    if len(chosen) != 1 or chosen[0] not in swept_schemes():
        raise InputError(f"{folder.scheme_sweep}: no row is the chosen one; remove the file to choose anew")
    return str(chosen[0])


def scheme_choice(plan: Plan) -> str:
    """Return how the scheme of a plan was chosen, for cards."""
    if plan.recipe["quantization"]["scheme"] != SWEEP:
        return "by the recipe"
    direction = plan.task.metrics[plan.main_metric].removesuffix("imize")
    return (
        f"before the search: {direction}imal {plan.main_metric} (quantized, validation) of the seed network, trained "
        f"once, under each of {len(swept_schemes())} schemes (scheme_sweep.csv)"
    )
