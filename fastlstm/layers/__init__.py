"""Layers, one a file: parameters, shapes, forward, backward."""

from .activation import Activation, Softmax
from .base import Layer, PassContext
from .bidirectional import Bidirectional
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding
from .gru import GRU, GRUState
from .lstm import LSTM, LSTMState
from .masking import Masking
from .noise import GaussianDropout, GaussianNoise, SpatialDropout1D
from .normalization import BatchNormalization, LayerNormalization, RMSNormalization
from .pooling import GlobalAveragePooling1D, GlobalMaxPooling1D, LastStep
from .rectifiers import ELU, LeakyReLU, ReLU
from .recurrent import RecurrentLayer
from .regularizers import L2
from .simple_rnn import RNNState, SimpleRNN
from .stream import Stream

__all__ = [
    "ELU",
    "GRU",
    "L2",
    "LSTM",
    "Activation",
    "BatchNormalization",
    "Bidirectional",
    "Dense",
    "Dropout",
    "Embedding",
    "GRUState",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "LSTMState",
    "LastStep",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "PassContext",
    "RMSNormalization",
    "RNNState",
    "ReLU",
    "RecurrentLayer",
    "SimpleRNN",
    "Softmax",
    "SpatialDropout1D",
    "Stream",
]
