"""Layers, one a file: parameters, shapes, forward, backward."""

from .base import Layer, PassContext
from .bidirectional import Bidirectional
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .gru import GRU, GRUState
from .lstm import LSTM, LSTMState
from .merging import Add, Average, Concatenate, Dot, Maximum, Minimum, Multiply, Subtract
from .pooling import GlobalAveragePooling1D, GlobalMaxPooling1D, LastStep
from .recurrent import RecurrentLayer
from .regularizers import L2
from .repeat import RepeatVector
from .several import SeveralInputs
from .simple_rnn import RNNState, SimpleRNN
from .stream import Stream
from .symbol import Input, Symbol

__all__ = [
    "GRU",
    "L2",
    "LSTM",
    "Add",
    "Average",
    "Bidirectional",
    "Concatenate",
    "Dense",
    "Dot",
    "Dropout",
    "Embedding",
    "GRUState",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "Input",
    "LSTMState",
    "LastStep",
    "Layer",
    "Maximum",
    "Minimum",
    "Multiply",
    "PassContext",
    "RNNState",
    "RecurrentLayer",
    "RepeatVector",
    "SeveralInputs",
    "SimpleRNN",
    "Stream",
    "Subtract",
    "Symbol",
]
