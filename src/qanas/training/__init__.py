"""Training: the one fit loop and what makes it fast."""
