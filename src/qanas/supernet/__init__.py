"""Networks that share weights: many candidates trained as one."""
