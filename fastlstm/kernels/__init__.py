"""Floor 1: arrays in, arrays out; nothing is allocated, nothing validated."""
