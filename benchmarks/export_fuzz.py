"""Random networks with the habits of real code: each exported right, or refused in one line.

    python benchmarks/export_fuzz.py                          2,000 networks, about 20 minutes
    python benchmarks/export_fuzz.py --count 20               a short form, some seconds
    python benchmarks/export_fuzz.py --first 137 --count 1    one of them again, with what it says

Protocol: a network of a seed (`fuzzed_modules.fuzzed`: two to six habits of `fuzzed_images`, `fuzzed_sequences` and
`fuzzed_code`, random weights, sometimes two inputs, outputs in any structure) goes through what `qanas export` does, as
int8, with 24 samples to calibrate and 16 others to check. If a file is written, a fresh copy of the network in torch,
the traced graph and LiteRT's reference kernels get 12 more samples:

- right: every output of the graph is at 60 dB or more of torch's, the one of a float32 file, too, where its kernels are
  there, and every code of the int8 file equals the simulation's;
- refused: one line, and no file;
- wrong: a file is written and one of both does not hold; or a file beside a failure;
- traceback: anything else than a refusal comes out.

Exit code 1 where anything is wrong or ends in a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fuzzed_code
import fuzzed_images
import fuzzed_sequences
from fuzzed_modules import fuzzed
from pages import write_page
from qanas.core.errors import InputError
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.exporting.export import Deployed, exporter, ship
from qanas.exporting.scheme import ExportScheme
from qanas.exporting.source import Source
from qanas.quantization.border import named_parts
from qanas.quantization.tracing.difference import MIN_DB

HABITS = (fuzzed_code, fuzzed_images, fuzzed_sequences)
"""Modules that register habits when they are imported."""

CALIBRATING, CHECKED, HELD_BACK = 24, 16, 12

current: nn.Module | None = None
"""The network that `qanas export` finds by the name of this module."""


@dataclass(frozen=True)
class Outcome:
    """What became of a network.

    Attributes:
        seed: of the network.
        kind: ``right``, ``refused``, ``wrong`` or ``traceback``.
        told: why, in a line.
        habits: that it is made of.
    """

    seed: int
    kind: str
    told: str
    habits: tuple[str, ...]


def samples_of(shapes: dict[str, tuple[int, ...]], count: int, seed: int) -> dict[str, Tensor]:
    """Return normal samples, each of shape (count, *shape), by the inputs' names."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, *shape, generator=generator) for name, shape in shapes.items()}


def outcome(seed: int, folder: Path) -> Outcome:
    """Export a network, and hold what is written against torch and the runtime."""
    global current
    current, shapes, habits = fuzzed(seed)
    paths = [folder / f"{name}.npz" for name in ("calibration", "check")]
    for place, (path, count) in enumerate(zip(paths, (CALIBRATING, CHECKED), strict=True)):
        np.savez(path, **{name: values.numpy() for name, values in samples_of(shapes, count, place).items()})  # type: ignore[arg-type]
    out = folder / "model.tflite"
    out.unlink(missing_ok=True)

    def ended(kind: str, told: str) -> Outcome:
        return Outcome(seed, kind, told.replace(f"{folder}/", ""), tuple(habits))

    deployed: list[Any] = []
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            source = Source.load(f"{__name__}:current", paths[0], check=paths[1])
            told = ship(source, _kept(deployed)(source), out)
    except InputError as error:
        return ended("wrong" if out.exists() or "\n" in str(error) else "refused", str(error))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return ended("traceback", f"{type(error).__name__}: {error}"[:300])
    if told.failure:
        return ended("wrong" if out.exists() or "\n" in told.failure else "refused", told.failure)
    apart = differing(source, deployed[0], out.read_bytes(), fuzzed(seed)[0], samples_of(shapes, HELD_BACK, 2))
    return ended("wrong", apart) if apart else ended("right", "")


def _kept(deployed: list[Any]) -> Any:  # noqa: ANN401
    """Return the int8 exporter, which leaves its quantized graph in a list."""

    def export(source: Source) -> Deployed:
        scheme = ExportScheme.parse(None, ())
        deployed.append(scheme.quantize(source))
        return exporter("tflite", None)(source)

    return export


def differing(source: Source, quantized: Any, content: bytes, network: nn.Module, samples: dict[str, Tensor]) -> str:  # noqa: ANN401
    """Return what is wrong with a file, or nothing.

    Args:
        source: that it was made from.
        quantized: the graph that it was made from.
        content: the file.
        network: in torch, not run before.
        samples: that nobody has seen, each of shape (n, *shape), by the inputs' names.
    """
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        own = {name: values.clone() for name, values in samples.items()}
        wanted = named_parts(network(*own.values()), Tensor)
    given = dict(zip(source.graph.border.input_names, samples.values(), strict=True))
    arrays = {name: values.numpy() for name, values in given.items()}
    computed: dict[str, Mapping[str, Any]] = {"float graph": source.graph.forward(given)}
    computed["float file"] = float_outputs(source, arrays) or computed["float graph"]
    for what, found in computed.items():
        for name, values in wanted.items():
            exact = values.to(torch.float64)
            noise = float((torch.as_tensor(found[name]).to(torch.float64).reshape(exact.shape) - exact).square().sum())
            if noise > 10.0 ** (-MIN_DB / 10.0) * float(exact.square().sum()):
                return f"'{name}' of the {what} has noise {noise:.3g} beside {float(exact.square().sum()):.3g}"
    simulated = quantized.codes(given)
    for name, codes in LiteRTModel(content, border=source.graph.border).codes(arrays).items():
        steps = np.abs(codes.astype(np.int64) - simulated[name].numpy().astype(np.int64))
        if steps.any():
            return f"'{name}': {np.count_nonzero(steps)} of {steps.size} codes differ, by {steps.max()} at most"
    return ""


def float_outputs(source: Source, arrays: dict[str, Any]) -> Mapping[str, Any] | None:
    """Return what the float file puts out, each of shape (n, *shape), by name; None where a kernel is missing."""
    try:
        return LiteRTModel(write_tflite(source.graph.program()), border=source.graph.border).predict(arrays)
    except ValueError:
        return None


@dataclass
class Table:
    """The outcomes so far.

    Attributes:
        outcomes: in the order of the seeds.
    """

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def bad(self) -> list[Outcome]:
        """What must not be."""
        return [one for one in self.outcomes if one.kind in {"wrong", "traceback"}]

    def counted(self) -> dict[str, int]:
        """Return how many there are of each kind."""
        kinds = Counter(one.kind for one in self.outcomes)
        return {kind: kinds[kind] for kind in ("right", "refused", "wrong", "traceback")}

    def text(self) -> str:
        """Return the table: outcomes by habit, in Markdown."""
        lines = ["| habit | networks | right | refused | wrong | traceback |", "|---|---:|---:|---:|---:|---:|"]
        by_habit: dict[str, Counter[str]] = {}
        for one in self.outcomes:
            for name in set(one.habits):
                by_habit.setdefault(name, Counter())[one.kind] += 1
        rows = [*sorted(by_habit.items()), ("**all**", Counter(one.kind for one in self.outcomes))]
        for name, kinds in rows:
            counts = [kinds.total(), *(kinds[kind] for kind in ("right", "refused", "wrong", "traceback"))]
            lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return counts, and what was said of every network that was not exported."""
        return {
            "networks": len(self.outcomes),
            **self.counted(),
            "told": {str(one.seed): [one.kind, one.told] for one in self.outcomes if one.kind != "right"},
        }


PAGE = """# Random networks with the habits of real code: exported right, or refused in a line

{counts}. Exit code 0 with anything else than what torch computes: none may be. Networks of two to six habits each,
int8, random weights; *right* is 60 dB and more of torch on samples that nobody has seen, for the graph and for a
float32 file, and every code of the int8 file equal to the simulation's in LiteRT's reference kernels. The protocol and
the way to run it are at the head of [benchmarks/export_fuzz.py](../../benchmarks/export_fuzz.py), what was said of
every network that was not exported is in [export_fuzz.json](export_fuzz.json). Of those some are no network that any
file could be (a dropout that stays on, a mean over the batch, conditions on numbers, a state that grows).

{table}

What was refused, by what was said (numbers left out), the most frequent first:

| times | reason |
|---:|---|
{reasons}
"""


def page(table: Table) -> str:
    """Return the results in Markdown."""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in table.counted().items())
    said = Counter(_reason(one.told) for one in table.outcomes if one.kind == "refused")
    reasons = "\n".join(f"| {count} | {reason} |" for reason, count in said.most_common(MOST_REASONS))
    return PAGE.format(counts=f"{len(table.outcomes):,} networks: {counts}", table=table.text(), reasons=reasons)


MOST_REASONS = 25
"""Reasons in the table."""


def _reason(told: str) -> str:
    """Return a refusal without the place and its numbers."""
    words = re.sub(r"^.*?can't be exported: |^[\w.:]*?: ", "", told)
    words = re.sub(r"^[\w.]+: ", "", re.sub(r" \([\w.]+, line \d+\)", "", words))
    return re.sub(r"\d+", "N", words).split("; ")[0].replace("|", " ")[:120]


def run(seeds: Iterable[int]) -> Iterator[Outcome]:
    """Yield what became of the networks of some seeds, in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            yield outcome(seed, Path(folder))


def run_apart(seeds: range) -> Iterator[Outcome]:
    """Yield the same from processes of their own: a kernel that aborts takes one of them along."""
    first = seeds.start
    while first < seeds.stop:
        count = min(BLOCK, seeds.stop - first)
        command = [sys.executable, __file__, "--inside", "--first", str(first), "--count", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        lines = done.stdout.splitlines()
        for line in lines:
            yield Outcome(*json.loads(line))
        first += len(lines)
        if len(lines) < count:
            torch.manual_seed(first)
            said = done.stderr.strip().splitlines()[-1:]
            yield Outcome(
                first, "traceback", f"the process ended with {done.returncode}: {said}", tuple(fuzzed(first)[2])
            )
            first += 1


BLOCK = 250
"""Networks a process."""


def main() -> None:
    """Run, print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--aloud", action="store_true", help="print every network")
    parser.add_argument("--inside", action="store_true", help="in this process, a line of JSON each")
    parser.add_argument("--out", type=Path, help="a .json file; the tables are written beside it")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.count)
    if options.inside:
        for one in run(seeds):
            print(json.dumps([one.seed, one.kind, one.told, one.habits]), flush=True)
        return
    table = Table()
    for one in run_apart(seeds):
        table.outcomes.append(one)
        if options.aloud or options.count == 1 or one.kind in {"wrong", "traceback"}:
            print(f"{one.seed} {one.kind} {', '.join(one.habits)}: {one.told}", flush=True)
    print(table.text())
    print(table.counted())
    if options.out:
        options.out.write_text(json.dumps(table.as_json(), indent=1) + "\n")
        write_page(options.out.with_suffix(".md"), page(table))
    sys.exit(bool(table.bad))


if __name__ == "__main__":
    main()
