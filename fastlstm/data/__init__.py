"""Floor 2: vocabulary, batching, windows and ragged sequences."""
