"""How good each path through a block is, quantized: a table for solvers (Lu et al. 2023)."""
