"""How a space is explored."""
