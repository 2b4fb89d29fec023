"""The columns of finalists.csv that a card's metrics fill."""

from qanas.core.card import Card


def finalist_statistics(card: Card) -> dict[str, float]:
    """Return the statistics of every metric, precision and split."""
    return {
        f"{metric}_{precision}_{split}_{part}": getattr(found, part)
        for precision, splits in card.metrics.items()
        for split, metrics in splits.items()
        for metric, found in metrics.items()
        for part in ("mean", "std", "n")
    }
