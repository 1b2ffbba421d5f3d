"""Floor 2: checked Python faces of the Cython decoders: numbers in, ids out."""
