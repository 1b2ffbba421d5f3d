"""What a leader says to those who follow (`kernels.team`): words of int64, many of them the addresses of his arrays.

They change while no chunk is left or begun. Letters and arrays as in ``kernels/lstm.py``.
"""

__all__ = [
    "BATCH",
    "BATCH_SIZES",
    "BIAS",
    "BOUNDS",
    "CELLS",
    "CHUNKS",
    "COUNT",
    "EACH",
    "FEATURES",
    "GATES",
    "HEIGHT",
    "HIDDEN",
    "H_BACK",
    "H_WIDTH",
    "IDS",
    "INPUT",
    "INPUTS",
    "KIND",
    "NOW",
    "OTHER",
    "PARTS",
    "PROGRESS",
    "READY",
    "RECURRENT",
    "SEQUENCES",
    "STEP",
    "STEPS",
    "STRIDE",
    "UNITS",
    "X_FIRST",
    "X_SEQUENCE",
    "X_STEP",
    "X",
]

STEP, INPUTS, SEQUENCES, BATCH = range(4)
"""Kinds of work: one step (`kernels.lstm_step`), the inputs of all steps (`kernels.lstm_ahead`), whole sequences whose
units are shared (`kernels.lstm_split`), a batch whose sequences are (`kernels.lstm_batch`)."""

KIND, PARTS, CHUNKS, COUNT, STEPS, FEATURES, UNITS, STRIDE = range(8)
"""Places of numbers: the kind; cores and chunks of each; N, T, D, H and B * L."""

X, X_FIRST, X_STEP, X_SEQUENCE, HIDDEN, H_WIDTH, H_BACK, CELLS, INPUT, RECURRENT, BIAS = range(8, 19)
"""Places of what differs between the directions of a batch: arguments of `kernels.lstm.infer`; of arrays, addresses."""

OTHER = 19
"""Of batches: the address of a second direction's words. 0: there is none."""

GATES, IDS = range(20, 22)
"""Places of more addresses. IDS 0: ``x`` holds features, else a table, as in `kernels.lstm.infer`."""

NOW = 22
"""Of a step: which half of ``hidden`` holds h before it."""

READY = 23
"""Of inputs: the address of what is ready."""

BATCH_SIZES, HEIGHT, EACH, BOUNDS, PROGRESS = range(24, 29)
"""Of sequences and batches: more arguments of `kernels.lstm_split.forward_split` or `kernels.lstm.infer`, and the
elements of each core's scratch."""
