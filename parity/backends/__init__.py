"""Who computes a case: the numbers, and torch, JAX and numpy on them."""
