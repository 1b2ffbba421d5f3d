"""Floor 3: losses, metrics, optimizers, the fit loop, callbacks, checkpoints."""
