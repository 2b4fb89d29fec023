"""A run from its check to its report: rehearsal, the one search, its stages and its trials."""
