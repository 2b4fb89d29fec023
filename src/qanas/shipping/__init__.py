"""From a front to models in a folder: the reference, finalists and baselines, their cards, and what they come to."""
