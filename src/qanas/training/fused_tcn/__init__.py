"""TCN training by a compiled kernel, see `qanas.training.fused_tcn.trainer.FusedTCNTrainer`.

Nothing is imported here: Numba is loaded, and the kernel compiled once a machine, when it is first used.
"""
