"""Floor 4: Sequential and the ready-made models."""
