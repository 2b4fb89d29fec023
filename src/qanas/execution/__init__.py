"""Units of work and who runs them: in this process, or in worker processes. Knows nothing of the search."""
