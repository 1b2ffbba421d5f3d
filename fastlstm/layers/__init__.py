"""Floor 2: one layer a file."""

from .base import Layer, Run
from .bidirectional import Bidirectional
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .lstm import LSTM, LSTMState
from .pooling import GlobalAveragePooling1D, GlobalMaxPooling1D, LastStep
from .streaming import Stream

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
    "Layer",
    "Run",
    "Stream",
]
