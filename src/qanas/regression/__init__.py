"""What is learnt from tables: regression, and how well it ranks."""
