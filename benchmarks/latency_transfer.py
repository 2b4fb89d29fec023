"""Few measurements on a new device, and a device that is known: how well do they rank networks together.

    python benchmarks/latency_transfer.py $QANAS_DATA/nas_tables docs/results/latency_transfer.md

Latencies of NAS-Bench-201's 15,625 cells and of 4,010 FBNet networks on real devices. For ten pairs of devices of each
table, drawn once, n networks are drawn as measured (five draws each), and 2,000 others are ranked: by the known device
alone; by an additive ridge regression on the operators of the n (no other device); by their sum as
`qanas.hardware.latency.transfer` models it. Kendall's tau, the mean over pairs and draws; intervals are over pairs
(bootstrap, 95 %).
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import kendalltau

from qanas.hardware.latency.transfer import Transfer

Floats = NDArray[np.float64]
SAMPLES, PAIRS, DRAWS, RANKED = (20, 50, 100), 10, 5, 2000


def one_hot(codes: NDArray[np.str_]) -> Floats:
    """Return codes, shape (n, positions), as zeros and ones, shape (n, positions x options)."""
    return np.concatenate([codes == option for option in np.unique(codes)], axis=1).astype(np.float64)


def nasbench201(folder: Path) -> tuple[Floats, pl.DataFrame]:
    """Return the cells' features and latencies."""
    table = pl.read_csv((folder / "nasbench201.csv.gz").read_bytes())
    cells = [[part.split("~")[0] for part in re.split(r"[|+]+", arch) if part] for arch in table["arch"]]
    return one_hot(np.array(cells)), table.select(pl.selectors.starts_with("lat_ms_"))


def fbnet(folder: Path) -> tuple[Floats, pl.DataFrame]:
    """Return the networks' features and latencies."""
    table = pl.read_csv((folder / "fbnet_latency.csv.gz").read_bytes())
    ops = next(name for name in table.columns if table[name].dtype == pl.String)
    codes = np.array([re.findall(r"\d+", text) for text in table[ops]])
    return one_hot(codes), table.select(pl.selectors.starts_with("lat_ms_"))


def ridge(features: Floats, chosen: NDArray[np.intp], latency: Floats) -> Floats:
    """Return what an additive model of the measured networks says of all, shape (n,)."""
    mean, centre = features[chosen].mean(axis=0), latency.mean()
    centred = features[chosen] - mean
    weights = np.linalg.solve(centred.T @ centred + np.eye(len(mean)), centred.T @ (latency - centre))
    found: Floats = (features - mean) @ weights + centre
    return found


def taus(features: Floats, latencies: pl.DataFrame) -> Iterator[tuple[int, int, dict[str, float]]]:
    """Yield the samples, the pair's number and the taus of each way."""
    generator = np.random.default_rng(0)
    pairs = list(itertools.permutations(latencies.columns, 2))
    for number, place in enumerate(generator.permutation(len(pairs))[:PAIRS]):
        known, wanted = (latencies[name].to_numpy().astype(np.float64) for name in pairs[place])
        for samples, _ in itertools.product(SAMPLES, range(DRAWS)):
            drawn = generator.permutation(len(known))[: samples + RANKED]
            measured, ranked = np.arange(samples), np.arange(samples, len(drawn))
            own, other, truth = features[drawn], known[drawn], wanted[drawn]
            ways = {
                "known": other,
                "ridge": ridge(own, measured, truth[measured]),
                "transfer": Transfer(own, other).predict(measured, truth[measured]),
            }
            yield samples, number, {n: float(kendalltau(said[ranked], truth[ranked])[0]) for n, said in ways.items()}


def main() -> None:
    """Rank, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    lines = ["# Latency of a new device from a known one and a few measurements", ""]
    lines += [*(__doc__ or "").partition("latency_transfer.md\n\n")[2].strip().splitlines(), ""]
    lines += ["| table | measured | known device alone | additive ridge | transfer | transfer less ridge |",
              "|---|---:|---:|---:|---:|---|"]  # fmt: skip
    for name, read in (("NAS-Bench-201", nasbench201), ("FBNet", fbnet)):
        features, latencies = read(arguments.folder)
        found = list(taus(features, latencies))
        for samples in SAMPLES:
            rows = [(pair, ways) for n, pair, ways in found if n == samples]
            gains = [(pair, ways["transfer"] - ways["ridge"]) for pair, ways in rows]
            by_pair = np.array([np.mean([gain for p, gain in gains if p == pair]) for pair in range(PAIRS)])
            draws = np.random.default_rng(0).choice(by_pair, (2000, PAIRS)).mean(axis=1)
            low, high = np.quantile(draws, [0.025, 0.975])
            means = [np.mean([ways[way] for _, ways in rows]) for way in ("known", "ridge", "transfer")]
            cells = [name, f"{samples}", *(f"{mean:.3f}" for mean in means)]
            lines.append(f"| {' | '.join(cells)} | {by_pair.mean():+.3f} ({low:+.3f} to {high:+.3f}) |")
            print(lines[-1], flush=True)
    lines += ["", "`python benchmarks/latency_transfer.py $QANAS_DATA/nas_tables docs/results/latency_transfer.md`", ""]
    arguments.out.write_text("\n".join(lines), "utf-8")


if __name__ == "__main__":
    main()
