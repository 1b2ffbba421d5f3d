"""fastlstm: train, stream and decode LSTMs on an ordinary CPU, from NumPy arrays."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .layers import (
    CRF,
    ELU,
    GRU,
    L2,
    LSTM,
    Activation,
    Add,
    AdditiveAttention,
    Attention,
    Average,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Conv1D,
    Dense,
    Dot,
    Dropout,
    Embedding,
    GaussianDropout,
    GaussianNoise,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GRUState,
    Input,
    LastStep,
    Layer,
    LayerNormalization,
    LeakyReLU,
    LSTMState,
    Masking,
    Maximum,
    MaxPooling1D,
    Minimum,
    Multiply,
    ReLU,
    RepeatVector,
    RMSNormalization,
    RNNState,
    SimpleRNN,
    Softmax,
    SpatialDropout1D,
    Stream,
    Subtract,
    TimeDistributed,
)
from .layers.registry import register
from .threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from . import decode, errors, testing
    from .models.crf_decode import decode_tags
    from .models.inspecting import inspect
    from .models.language_model import LanguageModel
    from .models.loading import load
    from .models.model import Model
    from .models.sequential import Sequential
    from .models.traces import Trace
    from .training import callbacks, losses, metrics, optimizers, schedules
    from .training.callbacks import Callback
    from .training.losses import Loss
    from .training.metrics import Metric

__version__ = "0.1.0"

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
    "Callback",
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
    "LanguageModel",
    "LastStep",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Loss",
    "Masking",
    "MaxPooling1D",
    "Maximum",
    "Metric",
    "Minimum",
    "Model",
    "Multiply",
    "RMSNormalization",
    "RNNState",
    "ReLU",
    "RepeatVector",
    "Sequential",
    "SimpleRNN",
    "Softmax",
    "SpatialDropout1D",
    "Stream",
    "Subtract",
    "TimeDistributed",
    "Trace",
    "__version__",
    "callbacks",
    "decode",
    "decode_tags",
    "errors",
    "get_num_threads",
    "inspect",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "register",
    "schedules",
    "set_num_threads",
    "testing",
]

_LATER = {  # imported when first asked for: a service that only runs a layer starts without them
    "Callback": ".training.callbacks",
    "LanguageModel": ".models.language_model",
    "Model": ".models.model",
    "decode_tags": ".models.crf_decode",
    "Loss": ".training.losses",
    "Metric": ".training.metrics",
    "Sequential": ".models.sequential",
    "Trace": ".models.traces",
    "inspect": ".models.inspecting",
    "load": ".models.loading",
    "decode": ".decode",
    "errors": ".errors",
    "callbacks": ".training.callbacks",
    "losses": ".training.losses",
    "metrics": ".training.metrics",
    "optimizers": ".training.optimizers",
    "schedules": ".training.schedules",
    "testing": ".testing",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_LATER[name], __name__)
    value = getattr(module, name) if hasattr(module, name) else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
