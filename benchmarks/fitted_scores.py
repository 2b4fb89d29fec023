"""What fitting a block-wise score to retrained networks gains: Kendall's tau of pairs that were left out of the fit.

    python benchmarks/fitted_scores.py docs/results/ranking.json

Reads what `ranking.py` wrote. Each pair of networks is ranked by sums that were fitted to all networks but the pair,
the penalty included; `plain` is the sum with equal weights over the same pairs. 95 % intervals by bootstrap over
networks. What is fitted to, and ranked, is the mean over a network's trainings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qanas.regression.weighted_sum import Learner, fits, pairs_left_out, plain_sums, ramps, tau_of_pairs

Floats = NDArray[np.float64]

DRAWS = 400
KNOTS = (1 / 3, 2 / 3)


def interval(agreement: Floats) -> str:
    """Return tau and its interval, of pairs that agree or not, shape (n, n)."""
    generator, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        places = generator.integers(0, len(agreement), len(agreement))  # a pair of a network with itself is nan
        found.append(tau_of_pairs(agreement[np.ix_(places, places)]))
    low, high = np.quantile(found, [0.025, 0.975])
    return f"{tau_of_pairs(agreement):.2f} ({low:.2f} to {high:.2f})"


def bent(shares: Floats) -> Floats:
    """Return the ramps of every block, shape (networks, pieces), of shares of shape (networks, blocks)."""
    return np.column_stack([ramps(own, np.quantile(own, KNOTS)) for own in shares.T])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranking", type=Path)
    content = json.loads(parser.parse_args().ranking.read_text("utf-8"))
    scores, trainings = content["scores"], content["trainings"]
    keys = [key for key in trainings if key in scores["nsr"] and key in scores["replace"]]
    ratios, losses = (np.array([scores[name][key] for key in keys]) for name in ("nsr", "replace"))
    logs = np.log(ratios)
    print(f"{len(keys)} networks")
    print("| score | val: plain | fitted to val | test: plain | fitted to test |")
    print("|---|---:|---:|---:|---:|")
    shares = {
        "nsr_weighted": ratios,
        "calibrated": logs,
        'calibrated, model = "monotone"': bent(logs),
        "replace_one, weighted": losses,
    }
    for name, columns in shares.items():
        told = []
        for split in ("val", "test"):
            metric = np.array([np.mean([each[split] for each in trainings[key]]) for key in keys])
            learners: list[Learner] = [plain_sums(columns), fits(columns, -metric)]
            told += [interval(pairs_left_out(-metric, learner)) for learner in learners]
        print(f"| {name} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
