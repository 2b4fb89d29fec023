"""Training: the one fit loop, the trainers that it is handed, and what makes them fast."""
