import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# A timing is never a test: a busy machine is slow at drawing examples, too.
settings.register_profile("qanas", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qanas")
