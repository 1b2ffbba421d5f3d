"""The network of a language model: embedding, LSTM layers, and an output layer over the vocabulary.

With dropout D (Zaremba, Sutskever and Vinyals, 2014)::

    ids -> Embedding -> D -> LSTM -> D -> ... -> LSTM -> D -> Dense -> logits

The output layer and its loss run over blocks of rows, so logits never take more than a few megabytes, whatever the
vocabulary.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..data.windows import Window
from ..kernels.softmax import cross_entropy, softmax_cross_entropy
from ..layers import LSTM, Dense, Dropout, Embedding, LSTMState
from ..layers.base import Gradients, PassContext
from ..layers.stream import Stream
from ..runtime.pool import parallel_for
from .language_options import LanguageModelOptions

__all__ = ["LanguageNetwork", "NetworkState", "Step"]

NetworkState: TypeAlias = tuple[LSTMState, ...]
"""State of each LSTM layer."""

_LOGIT_BYTES = 16 << 20
_LEAST_ROWS = 64
_EVALUATED_STEPS = 1024
"""Steps that `loss` runs in one go."""


class Step(NamedTuple):
    """What one window gave.

    Attributes
    ----------
    loss : float
        Mean cross-entropy of its targets, in nats.
    state : tuple of LSTMState
        After the window's last step: what the next window begins with.
    gradients : dict of str to ndarray
        Of the mean loss, by the names of `LanguageNetwork.params`; valid until the next window.
    """

    loss: float
    state: NetworkState
    gradients: Gradients


class LanguageNetwork:
    """Predict the next token from those before it.

    Parameters
    ----------
    options : LanguageModelOptions
        Sizes, dropout, tying and the seed of the initial weights.
    vocabulary : int
        V, the number of tokens.
    dtype : {"float32", "float64"}
        Type of the weights and of everything computed.
    fresh : bool
        Whether weights get start values; False where they are loaded next.
    """

    def __init__(
        self,
        options: LanguageModelOptions,
        vocabulary: int,
        dtype: DTypeLike = "float32",
        *,
        fresh: bool = True,
    ):
        layers = range(options.layers)
        self.embedding = Embedding(vocabulary, options.embedding, dtype=dtype)
        self.lstms = [LSTM(options.hidden, return_sequences=True, dtype=dtype) for _ in layers]
        self.output = Dense(vocabulary, dtype=dtype)
        self.dropouts = [Dropout(options.dropout, dtype=dtype) for _ in range(options.layers + 1)]
        self.tied = options.tied
        rng = np.random.default_rng(options.seed)
        features = [0, options.embedding, *[options.hidden] * options.layers]
        for layer, count in zip((self.embedding, *self.lstms, self.output), features, strict=True):
            if fresh:
                layer.build(count, rng)
            else:
                layer.allocate(count)
        if self.tied:
            self.output.arrays["weight"] = self.embedding.arrays["weight"]
            self.output.beside, self.embedding.beside = (self.embedding,), (self.output,)
        self._inference = PassContext()

    # --- parameters ---------------------------------------------------------------------------------------------

    @property
    def params(self) -> dict[str, NDArray[Any]]:
        """The weights themselves, by torch's names; tied weights are there once, as ``embedding.weight``."""
        named = {"embedding.weight": self.embedding.arrays["weight"]}
        for place, lstm in enumerate(self.lstms):
            named |= {f"lstm.{_of_layer(name, place)}": value for name, value in lstm.arrays.items()}
        if not self.tied:
            named["output.weight"] = self.output.arrays["weight"]
        return named | {"output.bias": self.output.arrays["bias"]}

    def changed(self) -> None:
        """Forget what was derived from the weights; call it after writing into them."""
        for layer in (self.embedding, *self.lstms, self.output):
            layer.changed()

    # --- inference ----------------------------------------------------------------------------------------------

    def start(self, count: int) -> NetworkState:
        """Return the state before any token, for `count` sequences."""
        zeros = [np.zeros((count, lstm.units), lstm.dtype) for lstm in self.lstms]
        return tuple(LSTMState(zero, zero.copy()) for zero in zeros)

    def read(
        self, ids: NDArray[Any], state: NetworkState | None, context: PassContext | None = None
    ) -> tuple[NDArray[Any], NetworkState]:
        """Read one sequence of ids (T,); return the last layer's h at each of its steps (T, H), and the state after."""
        x = Packed(ids.astype(np.int64, copy=False), np.ones(len(ids), np.int64))
        hidden, after, _ = self._hidden(x, state, context or self._inference)
        return hidden.rows, after

    def step(self, tokens: NDArray[np.int64], state: NetworkState) -> tuple[NDArray[Any], NetworkState]:
        """Read one token of each of B sequences (B,); return the logits of what follows (B, V), and the state."""
        hidden, after, _ = self._hidden(Packed(tokens, np.array([len(tokens)])), state, self._inference)
        return self.logits(hidden.rows), after

    def stream(self, state: NetworkState) -> Stream:
        """Return a stream that goes on from `state`: ids (B,) in, logits (B, V) out, as by `step`, in buffers kept."""
        stream = Stream([self.embedding, *self.lstms, self.output], len(state[0].h))
        values = (value for part in state for value in (part.h, part.c))
        stream.load_state_dict(dict(zip(stream.state_dict(), values, strict=True)))
        return stream

    def logits(self, hidden: NDArray[Any]) -> NDArray[Any]:
        """Return the logits (M, V) of rows (M, H) of the last layer's h."""
        return self.output.forward(_samples(hidden), self._inference, linear=True)[0].rows

    def losses(self, ids: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
        """Read one sequence of ids (M,) and yield, a piece at a time, -log p in nats of each but the first."""
        state = None
        for first in range(0, len(ids) - 1, _EVALUATED_STEPS):
            last = min(first + _EVALUATED_STEPS, len(ids) - 1)
            hidden, state = self.read(ids[first:last], state)
            targets = ids[first + 1 : last + 1].astype(np.int64)
            losses = np.empty(len(targets))
            for rows in self._blocks(len(targets)):
                logits = self.logits(hidden[rows])
                cost = _softmax_cost(logits)
                parallel_for(cross_entropy, logits, targets[rows], losses[rows], count=len(logits), cost=cost)
            yield losses

    # --- training -----------------------------------------------------------------------------------------------

    def train_step(self, window: Window, state: NetworkState | None, context: PassContext) -> Step:
        """Run a window forward from `state` (None: zeros) and back; gradients end at the window's start."""
        if state is not None:  # the last window of a text may have fewer streams, the first of them
            count = window.inputs.sequences
            state = tuple(LSTMState(part.h[:count], part.c[:count]) for part in state)
        hidden, after, caches = self._hidden(window.inputs, state, context)
        dx: Any
        loss, dx, gradients = self._output_step(hidden.rows, window.targets, context)
        for place in reversed(range(len(self.lstms))):
            dx = self._undrop(place + 1, dx, caches, context)
            dx, of_lstm = self.lstms[place].backward(dx, caches[self.lstms[place]], context)
            gradients |= {f"lstm.{_of_layer(name, place)}": value for name, value in of_lstm.items()}
        dx = self._undrop(0, dx, caches, context)
        _, of_embedding = self.embedding.backward(dx, caches[self.embedding], context)
        gradients["embedding.weight"] = of_embedding["weight"]
        if self.tied:
            gradients["embedding.weight"] += gradients.pop("output.weight")
        return Step(loss, after, gradients)

    def _hidden(
        self, inputs: Packed, state: NetworkState | None, context: PassContext
    ) -> tuple[Packed, NetworkState, dict[object, Any]]:
        """Return the last layer's h of each step, after dropout, the final state, and each layer's cache."""
        caches: dict[object, Any] = {}
        x, caches[self.embedding] = self.embedding.forward(inputs, context)
        x = self._drop(0, x, caches, context)
        after = []
        for place, lstm in enumerate(self.lstms):
            x, final, caches[lstm] = lstm.run_steps(x, None if state is None else state[place], context)
            after.append(final)
            x = self._drop(place + 1, x, caches, context)
        return x, tuple(after), caches

    def _drop(self, place: int, x: Packed, caches: dict[object, Any], context: PassContext) -> Packed:
        dropout = self.dropouts[place]
        if not (context.training and dropout.rate):
            return x
        x, caches[dropout] = dropout.forward(x, context)
        return x

    def _undrop(self, place: int, dx: NDArray[Any], caches: dict[object, Any], context: PassContext) -> NDArray[Any]:
        dropout = self.dropouts[place]
        return dropout.backward(dx, caches[dropout], context)[0] if dropout in caches else dx

    def _output_step(
        self, hidden: NDArray[Any], targets: NDArray[np.int64], context: PassContext
    ) -> tuple[float, NDArray[Any], Gradients]:
        """Return the mean loss, and its gradients by `hidden` (M, H) and by the output layer's parameters."""
        count = len(hidden)
        take = context.workspace.shared
        weights = take("output weights", (count,), np.float64)
        weights[...] = 1.0 / count
        losses = take("output losses", (count,), np.float64)
        dhidden = take("dhidden", hidden.shape, hidden.dtype)
        gradients: Gradients = {}
        for rows in self._blocks(count):
            y, cache = self.output.forward(_samples(hidden[rows]), context, linear=True)
            parallel_for(
                softmax_cross_entropy,
                *(y.rows, targets[rows], weights[rows], losses[rows]),
                count=len(y.rows),
                cost=_softmax_cost(y.rows),
            )
            assert cache is not None  # this is training
            dhidden[rows], gradients = self.output.backward(y.rows, cache, context, add=rows.start > 0)
        return float(losses.mean()), dhidden, {f"output.{name}": value for name, value in gradients.items()}

    def _blocks(self, count: int) -> Iterator[slice]:
        """Cut `count` rows into blocks whose logits are small."""
        rows = max(_LEAST_ROWS, _LOGIT_BYTES // (self.output.units * self.output.dtype.itemsize))
        return (slice(first, min(first + rows, count)) for first in range(0, count, rows))


def _of_layer(name: str, place: int) -> str:
    """Return torch's name of a parameter in layer `place` of a stack: ``weight_ih_l0`` -> ``weight_ih_l2``."""
    return name.replace("_l0", f"_l{place}")


def _samples(rows: NDArray[Any]) -> Packed:
    return Packed(rows, np.array([len(rows)]), steps=False)


def _softmax_cost(logits: NDArray[Any]) -> float:
    """Estimate the nanoseconds that softmax and cross-entropy take."""
    return 0.6 * logits.size
