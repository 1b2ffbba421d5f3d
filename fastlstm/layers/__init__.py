"""Layers, one a file: parameters, shapes, forward, backward."""

from .activation import Activation, Softmax
from .attention import AdditiveAttention, Attention
from .base import Layer, PassContext
from .bidirectional import Bidirectional
from .conv1d import Conv1D
from .crf import CRF
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .gru import GRU, GRUState
from .lstm import LSTM, LSTMState
from .masking import Masking
from .merging import Add, Average, Concatenate, Dot, Maximum, Minimum, Multiply, Subtract
from .noise import GaussianDropout, GaussianNoise, SpatialDropout1D
from .normalization import BatchNormalization, LayerNormalization, RMSNormalization
from .pooling import AveragePooling1D, GlobalAveragePooling1D, GlobalMaxPooling1D, LastStep, MaxPooling1D
from .rectifiers import ELU, LeakyReLU, ReLU
from .recurrent import RecurrentLayer
from .regularizers import L2
from .repeat import RepeatVector
from .several import SeveralInputs
from .simple_rnn import RNNState, SimpleRNN
from .stream import Stream
from .symbol import Input, Symbol
from .time_distributed import TimeDistributed

__all__ = [
    "CRF",
    "ELU",
    "GRU",
    "L2",
    "LSTM",
    "Activation",
    "Add",
    "AdditiveAttention",
    "Attention",
    "Average",
    "AveragePooling1D",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Conv1D",
    "Dense",
    "Dot",
    "Dropout",
    "Embedding",
    "GRUState",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "Input",
    "LSTMState",
    "LastStep",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "MaxPooling1D",
    "Maximum",
    "Minimum",
    "Multiply",
    "PassContext",
    "RMSNormalization",
    "RNNState",
    "ReLU",
    "RecurrentLayer",
    "RepeatVector",
    "SeveralInputs",
    "SimpleRNN",
    "Softmax",
    "SpatialDropout1D",
    "Stream",
    "Subtract",
    "Symbol",
    "TimeDistributed",
]
