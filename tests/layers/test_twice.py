"""A layer that runs twice in one pass: forward on a, forward on b, then back through both, in either order."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.layers import PassContext
from fastlstm.runtime.workspace import Workspace
from tests.tolerances import assert_bitwise_equal

VOCABULARY, FEATURES = 6, 5
LENGTHS = ([7, 3, 5, 7], [2, 6, 6])


class Chain:
    """Layers one after the other, as one layer."""

    def __init__(self, *layers):
        self.layers = layers
        self.takes_ids = layers[0].takes_ids

    def build(self, rng):
        features = 0 if self.takes_ids else FEATURES
        for layer in self.layers:
            layer.build(features, rng)
            features = layer.features_out

    def forward(self, x, context):
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(x, context)
            caches.append(cache)
        return x, caches

    def backward(self, dy, caches, context):
        gradients = {}
        for place in reversed(range(len(self.layers))):
            dy, own = self.layers[place].backward(dy, caches[place], context)
            gradients |= {f"{place}.{name}": value for name, value in own.items()}
        return dy, gradients


def recurrent(kind, **options):
    return lambda: Chain(kind(9, **options))


def both(kind, mode, **options):
    return lambda: Chain(fl.Bidirectional(kind(9, **options), merge_mode=mode))


STEPS = {"return_sequences": True}
MASKED = {"dropout": 0.4, "recurrent_dropout": 0.4}
CHAINS = {
    "LSTM": recurrent(fl.LSTM, **STEPS),
    "LSTM of the last step, backwards": recurrent(fl.LSTM, go_backwards=True),
    "LSTM with dropout": recurrent(fl.LSTM, **STEPS, **MASKED),
    "LSTM with projection": recurrent(fl.LSTM, projection=4, peephole=True, **STEPS),
    "GRU": recurrent(fl.GRU, **STEPS),
    "GRU that resets before": recurrent(fl.GRU, reset_after=False, **MASKED),
    "SimpleRNN": recurrent(fl.SimpleRNN, **STEPS),
    "Bidirectional": both(fl.LSTM, "concat", **STEPS),
    "Bidirectional, last steps": both(fl.GRU, "mul"),
    "Bidirectional, sum": both(fl.SimpleRNN, "sum", **STEPS, **MASKED),
    "Dense": lambda: Chain(fl.Dense(4)),
    "Dense with softmax": lambda: Chain(fl.Dense(4, activation="softmax")),
    "Embedding": lambda: Chain(fl.Embedding(VOCABULARY, 4)),
    "Embedding and LSTM": lambda: Chain(fl.Embedding(VOCABULARY, 4), fl.LSTM(9, **STEPS)),
    "Embedding and Bidirectional": lambda: Chain(fl.Embedding(VOCABULARY, 4), fl.Bidirectional(fl.GRU(9))),
    "Dense with gelu": lambda: Chain(fl.Dense(4, activation="gelu")),
    "Activation": lambda: Chain(fl.Activation("log_softmax")),
    "Activation of its input": lambda: Chain(fl.Dense(4), fl.Activation("mish")),
    "ReLU": lambda: Chain(fl.ReLU(1.0, 0.5)),
    "ELU": lambda: Chain(fl.ELU(0.5)),
    "LayerNormalization": lambda: Chain(fl.LayerNormalization()),
    "RMSNormalization": lambda: Chain(fl.RMSNormalization()),
    "BatchNormalization": lambda: Chain(fl.BatchNormalization()),
    "SpatialDropout1D": lambda: Chain(fl.SpatialDropout1D(0.4)),
    "GaussianNoise": lambda: Chain(fl.GaussianNoise(0.4)),
    "GaussianDropout": lambda: Chain(fl.GaussianDropout(0.4)),
    "Masking": lambda: Chain(fl.Masking(), fl.Dense(3)),
    "Dropout": lambda: Chain(fl.Dropout(0.5)),
    "LastStep": lambda: Chain(fl.LastStep()),
    "GlobalAveragePooling1D": lambda: Chain(fl.GlobalAveragePooling1D()),
    "GlobalMaxPooling1D": lambda: Chain(fl.GlobalMaxPooling1D()),
    "Conv1D": lambda: Chain(fl.Conv1D(20, 2, activation="tanh")),
    "Conv1D with strides": lambda: Chain(fl.Conv1D(20, 3, strides=2, padding="same")),
    "Conv1D after Conv1D": lambda: Chain(fl.Conv1D(20, 3, padding="causal"), fl.Conv1D(6, 2, activation="relu")),
    "MaxPooling1D": lambda: Chain(fl.MaxPooling1D(2)),
    "AveragePooling1D": lambda: Chain(fl.AveragePooling1D(3, strides=1, padding="same")),
    "several": lambda: Chain(
        fl.Embedding(VOCABULARY, 4), fl.LSTM(9, **STEPS), fl.Dropout(0.3), fl.Dense(3, "tanh"), fl.GlobalMaxPooling1D()
    ),
}


def batch(chain, place):
    """Return a batch as layers take it; the table is short enough that its rows are multiplied, not the batch's."""
    rng = np.random.default_rng(place)
    if chain.takes_ids:
        return pack([rng.integers(0, VOCABULARY, length) for length in LENGTHS[place]], features=False)[0]
    return pack(
        [rng.standard_normal((length, FEATURES)) for length in LENGTHS[place]], features=True, dtype=np.float32
    )[0]


class Pass:
    """A forward over one of the batches; masks come from a generator of its own."""

    def __init__(self, chain, place, workspace):
        self.chain = chain
        self.context = PassContext(True, np.random.default_rng(10 + place), workspace)
        self.y, self.cache = chain.forward(batch(chain, place), self.context)
        self.dy = np.random.default_rng(20 + place).standard_normal(self.y.rows.shape).astype(np.float32)

    def backward(self):
        """Return the gradients, in the workspace's memory."""
        dx, gradients = self.chain.backward(self.dy.copy(), self.cache, self.context)
        return gradients if dx is None else gradients | {"dx": dx}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first first", "last first"])
@pytest.mark.parametrize("name", CHAINS)
def test_each_pass_has_the_output_and_the_gradients_that_it_has_alone(name, order):
    chain, workspace = CHAINS[name](), Workspace()
    chain.build(0)
    outputs, alone = [], []
    for place in (0, 1):
        one = Pass(chain, place, Workspace())
        outputs.append(one.y.rows.copy())
        alone.append({key: value.copy() for key, value in one.backward().items()})
    for _ in range(2):  # the second time in memory that was used before
        passes = [Pass(chain, place, workspace) for place in (0, 1)]
        for one, expected in zip(passes, outputs, strict=True):
            assert_bitwise_equal(one.y.rows, expected, what="output")
        found = {place: passes[place].backward() for place in order}
        for place, gradients in found.items():  # what the first backward returned is valid after the second
            assert gradients.keys() == alone[place].keys()
            for key, value in gradients.items():
                assert_bitwise_equal(value, alone[place][key], what=f"{key} of pass {place}")
