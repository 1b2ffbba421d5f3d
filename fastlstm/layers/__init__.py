"""Floor 2: one layer a file."""
