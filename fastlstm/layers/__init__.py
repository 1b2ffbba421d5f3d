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
from .merging import Add, Average, Concatenate, Dot, Maximum, Minimum, Multiply, Subtract
from .pooling import AveragePooling1D, GlobalAveragePooling1D, GlobalMaxPooling1D, LastStep, MaxPooling1D
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
    "Activation",
    "Add",
    "Average",
    "AveragePooling1D",
    "Bidirectional",
    "Concatenate",
    "Conv1D",
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
    "MaxPooling1D",
    "Maximum",
    "Minimum",
    "Multiply",
    "PassContext",
    "RNNState",
    "RecurrentLayer",
    "RepeatVector",
    "SeveralInputs",
    "SimpleRNN",
    "Softmax",
    "Stream",
    "Subtract",
    "Symbol",
]
