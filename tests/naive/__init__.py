"""What the library should compute, written so that it can be checked against the docs line by line.

float64, plain loops, one sequence at a time, one row of a weight at a time. No batching, no padding, no packing,
nothing shared with the library: this package imports nothing of ours. Slow on purpose; use small shapes.

`cells` is the one face of all recurrent layers, `Spec` what tells them apart. `Weights`, `lstm` and what goes with them
are the LSTM without options, which most tests need.
"""

from tests.naive.layers import (
    activate,
    activate_backward,
    average_pool,
    dense,
    dense_backward,
    embedding,
    embedding_backward,
    last_step,
    log_softmax,
    max_pool,
    softmax,
)
from tests.naive.norms import batch_norm, batch_norm_backward, frozen_norm_backward, layer_norm, layer_norm_backward
from tests.naive.plain_lstm import (
    GATES,
    Gradients,
    Step,
    Weights,
    lstm,
    lstm_backward,
    lstm_step,
    lstm_steps,
    random_sequences,
    random_weights,
)
from tests.naive.sliding import conv1d, conv1d_backward, pool, pool_backward, windows
from tests.naive.spec import Spec

__all__ = [
    "GATES",
    "Gradients",
    "Spec",
    "Step",
    "Weights",
    "activate",
    "activate_backward",
    "average_pool",
    "batch_norm",
    "batch_norm_backward",
    "conv1d",
    "conv1d_backward",
    "dense",
    "dense_backward",
    "embedding",
    "embedding_backward",
    "frozen_norm_backward",
    "last_step",
    "layer_norm",
    "layer_norm_backward",
    "log_softmax",
    "lstm",
    "lstm_backward",
    "lstm_step",
    "lstm_steps",
    "max_pool",
    "pool",
    "pool_backward",
    "random_sequences",
    "random_weights",
    "softmax",
    "windows",
]
