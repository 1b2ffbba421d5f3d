"""Layers, one a file: parameters, shapes, forward, backward."""

from .activation import Activation, Softmax
from .base import Layer, PassContext
from .bidirectional import Bidirectional
from .conv1d import Conv1D
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .gru import GRU, GRUState
from .lstm import LSTM, LSTMState
from .pooling import AveragePooling1D, GlobalAveragePooling1D, GlobalMaxPooling1D, LastStep, MaxPooling1D
from .recurrent import RecurrentLayer
from .regularizers import L2
from .simple_rnn import RNNState, SimpleRNN
from .stream import Stream

__all__ = [
    "GRU",
    "L2",
    "LSTM",
    "Activation",
    "AveragePooling1D",
    "Bidirectional",
    "Conv1D",
    "Dense",
    "Dropout",
    "Embedding",
    "GRUState",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "LSTMState",
    "LastStep",
    "Layer",
    "MaxPooling1D",
    "PassContext",
    "RNNState",
    "RecurrentLayer",
    "SimpleRNN",
    "Softmax",
    "Stream",
]
