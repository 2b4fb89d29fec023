"""What commands answer: for people as text, for scripts and agents with ``--json`` as one JSON object.

That object is alone on standard output, whatever happens: what else is printed, by qanas, by workers or by users' own
classes, goes to standard error. ``answers.schema.json`` beside this file says what it holds; keys are added, and never
taken away.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TextIO

import typer

from qanas.core.json_values import json_value

if TYPE_CHECKING:
    from qanas.core.card import Card
    from qanas.core.run_folder import RunFolder
    from qanas.planning.plan import Plan
    from qanas.workflows.check import Forecast

FLAG = "--json"
VERSION = 1


@dataclass(frozen=True)
class Answer:
    """What a command found out.

    Attributes:
        told: by name, of what JSON has.
        code: that the command ends with.
    """

    told: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0


def json_asked() -> bool:
    """Tell whether the command line asks for JSON."""
    return FLAG in sys.argv[1:]


JsonOption = Annotated[
    bool, typer.Option(FLAG, help="Print one JSON object, errors as well; the rest goes to standard error.")
]


def with_json(command: Callable[..., Answer]) -> Callable[..., Answer]:
    """Return a command that takes ``--json`` besides."""

    @functools.wraps(command)
    def taking(*arguments: Any, as_json: bool = False, **named: Any) -> Answer:  # noqa: ANN401 - the command's
        del as_json  # `json_asked` reads it: errors of the command line itself are told likewise
        return command(*arguments, **named)

    own = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
    taking.__signature__ = own.replace(parameters=[*own.parameters.values(), option])  # type: ignore[attr-defined]
    taking.__annotations__ = {**command.__annotations__, "as_json": JsonOption}
    return taking


class Answering:
    """Where answers go.

    Args:
        as_json: whether one JSON object is to be alone on standard output.
    """

    def __init__(self, *, as_json: bool) -> None:
        """Nothing is redirected yet."""
        self.as_json = as_json
        self._stack = contextlib.ExitStack()
        self._out: TextIO = sys.stdout

    def __enter__(self) -> Self:
        """Send what is printed to standard error, by this process and by those that it starts, if JSON is asked for."""
        if not self.as_json:
            return self
        with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):  # a stream that is no file
            if sys.stdout.fileno() == 1:
                sys.stdout.flush()
                self._out = self._stack.enter_context(os.fdopen(os.dup(1), "w", encoding="utf-8"))
                os.dup2(2, 1)
        self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what was redirected: the process ends."""
        self._stack.close()

    def tell(self, found: object) -> int:
        """Print a command's answer, and return the code that it ends with.

        Args:
            found: what the command returned.
        """
        if isinstance(found, Answer):
            self._print({**found.told, "exit_code": found.code})
            return found.code
        code = found if isinstance(found, int) else 0
        if code:
            self._print({"error": "interrupted" if code > 1 else "see standard error", "exit_code": code})
        return code

    def refuse(self, message: str, code: int) -> int:
        """Say in one line why a command ended, and return the code that it ends with."""
        typer.echo(message, err=True)
        self._print({"error": message.removeprefix("qanas: "), "exit_code": code})
        return code

    def _print(self, told: Mapping[str, Any]) -> None:
        if self.as_json:
            command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
            whole = {"command": command, "version": VERSION, **told}
            self._out.write(json.dumps(json_value(whole), indent=2, allow_nan=False) + "\n")
            self._out.flush()


def usage_message(error: Any) -> str:  # noqa: ANN401 - typer has no public name for its class
    """Return in one line what of a command line can't be understood."""
    known = error.ctx.command_path if error.ctx else "qanas"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"qanas: {message}; {known} --help lists what there is"


def run_told(folder: RunFolder) -> dict[str, Any]:
    """Return what a run's folder tells: the model to take, all models, and what failed."""
    summary = folder.read_summary()
    verdict = summary.get("verdict") or {}
    return {
        "folder": folder.path,
        "report": folder.report,
        "status": summary.get("status"),
        "recommended": verdict.get("recommended"),
        "models": [_model(folder, name, card) for name, card in folder.cards().items()],
        "failures": summary.get("finalists", {}).get("failures", []),
    }


def _model(folder: RunFolder, name: str, card: Card) -> dict[str, Any]:
    metrics = {
        precision: {split: {metric: held.shipped for metric, held in found.items()} for split, found in splits.items()}
        for precision, splits in card.metrics.items()
    }
    return {
        "name": name,
        "kind": card.kind,
        "file": folder.model(name) / "model.tflite",
        "described": card.described,
        "degenerate": None if card.degenerate is None else card.degenerate.model_dump(mode="json"),
        "costs": dict(card.costs()),
        "metrics": metrics,
    }


def check_told(recipe: Path, plan: Plan, expected: Forecast) -> dict[str, Any]:
    """Return what is known before a run."""
    return {
        "recipe": recipe,
        "task": plan.recipe["task"]["name"],
        "data": plan.recipe["task"].get("data"),
        "remarks": [*expected.remarks, *(f"latency: {why}" for why in plan.lacking_latency())],
        "reference_costs": dict(expected.reference_costs),
        "over_limit": list(expected.over_limit),
        "not_built": list(expected.not_built),
        "candidates_within": expected.candidates_within,
        "seconds": 3600 * expected.hours,
        "jobs": plan.jobs,
    }


def check_lines(recipe: Path, plan: Plan, expected: Forecast, probed: int) -> list[str]:
    """Return it for people.

    Args:
        recipe: the file.
        plan: of it.
        expected: what was found.
        probed: candidates that were drawn.
    """
    from qanas.reporting.wording import number, rough_duration

    lines = [f"{recipe} is valid; data: {plan.recipe['task'].get('data', '-')}"]
    lines += [f"data: {remark}" for remark in expected.remarks]
    lines += [f"latency: {why}" for why in plan.lacking_latency()]
    for name, value in expected.reference_costs.items():
        over = "  over its limit: the reference is measured, but marked infeasible"
        lines.append(f"reference {name} {number(value)}{over if name in expected.over_limit else ''}")
    if expected.not_built:
        lines.append(
            f"{len(expected.not_built)} of {probed} randomly drawn candidates give no network and would be rejected, "
            f"the first: {expected.not_built[0]}"
        )
    if plan.limits:
        lines.append(f"{expected.candidates_within:.0%} of randomly drawn candidates are within the limits")
    hours = rough_duration(3600 * expected.hours)
    return [*lines, f"about {hours} with {plan.jobs} jobs (estimated from a few timed training steps)"]


def verify_told(folder: RunFolder, verdicts: Sequence[Any]) -> dict[str, Any]:
    """Return which models are as their cards say."""
    models = [
        {"name": found.identity, "differences": list(found.differences), "runs": found.runs} for found in verdicts
    ]
    return {"folder": folder.path, "models": models}
