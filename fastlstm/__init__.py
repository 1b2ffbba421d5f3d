"""fastlstm: train, stream and decode LSTMs on an ordinary CPU, from NumPy arrays."""

from .kernels.team import get_num_threads, set_num_threads
from .layers import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    LastStep,
    LSTMState,
)

__version__ = "0.1.0"

__all__ = [
    "LSTM",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Embedding",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "LSTMState",
    "LastStep",
    "__version__",
    "get_num_threads",
    "set_num_threads",
]
