"""fastlstm: train, stream and decode LSTMs on an ordinary CPU, from NumPy arrays."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .layers import (
    ELU,
    GRU,
    L2,
    LSTM,
    Activation,
    BatchNormalization,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GaussianDropout,
    GaussianNoise,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GRUState,
    LastStep,
    LayerNormalization,
    LeakyReLU,
    LSTMState,
    Masking,
    ReLU,
    RMSNormalization,
    RNNState,
    SimpleRNN,
    Softmax,
    SpatialDropout1D,
    Stream,
)
from .threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from . import decode, errors
    from .models.language_model import LanguageModel
    from .models.loading import load
    from .models.sequential import Sequential
    from .training import callbacks, losses, metrics, optimizers, schedules

__version__ = "0.1.0"

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
    "LanguageModel",
    "LastStep",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "RMSNormalization",
    "RNNState",
    "ReLU",
    "Sequential",
    "SimpleRNN",
    "Softmax",
    "SpatialDropout1D",
    "Stream",
    "__version__",
    "callbacks",
    "decode",
    "errors",
    "get_num_threads",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "schedules",
    "set_num_threads",
]

_LATER = {  # imported when first asked for: a service that only runs a layer starts without them
    "LanguageModel": ".models.language_model",
    "Sequential": ".models.sequential",
    "load": ".models.loading",
    "decode": ".decode",
    "errors": ".errors",
    "callbacks": ".training.callbacks",
    "losses": ".training.losses",
    "metrics": ".training.metrics",
    "optimizers": ".training.optimizers",
    "schedules": ".training.schedules",
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
