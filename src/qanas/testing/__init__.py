"""Contract tests and plain references, also for classes of a user's own."""
