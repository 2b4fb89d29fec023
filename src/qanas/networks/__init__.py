"""Networks: a file a network, with its module, its configuration and its space."""
