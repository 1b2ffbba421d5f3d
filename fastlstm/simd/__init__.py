"""Floor 0: Numba types that are machine registers."""
