"""What tests of attention share: cases, layers of given parameters, and a pass forward and back in users' forms."""

from typing import Any, NamedTuple

import numpy as np

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.layers import PassContext
from tests import naive
from tests.naive.attention import Score, attention, attention_backward

KINDS = {
    "dot": lambda **options: fl.Attention(**options),
    "dot, scaled": lambda **options: fl.Attention(True, **options),
    "general": lambda **options: fl.Attention(score_mode="general", **options),
    "general, scaled": lambda **options: fl.Attention(True, "general", **options),
    "additive": lambda **options: fl.AdditiveAttention(**options),
    "additive, unscaled": lambda **options: fl.AdditiveAttention(False, **options),
    "additive, projected": lambda **options: fl.AdditiveAttention(units=7, **options),
    "additive, projected, unscaled": lambda **options: fl.AdditiveAttention(False, units=5, **options),
}


class Case(NamedTuple):
    """Sequences of queries and of memories: lists (T_n, F); gradients of both outputs, those of weights (Tq, Tv)."""

    inputs: list[list[np.ndarray]]
    dcontext: list[np.ndarray]
    dweights: list[np.ndarray]

    @property
    def features(self):
        return tuple(part[0].shape[1] for part in self.inputs)

    def keys(self):
        return self.inputs[-1]

    def only(self, n):
        """Return the case of pair n alone."""
        return Case([[part[n]] for part in self.inputs], [self.dcontext[n]], [self.dweights[n]])


class Result(NamedTuple):
    """Lists in the user's order, and gradients of parameters."""

    context: list[np.ndarray]
    weights: list[np.ndarray]
    inputs: list[list[np.ndarray]]
    parameters: dict[str, np.ndarray]


def fits(kind, features):
    """Tell whether a layer of this kind takes inputs of these features."""
    return features[0] == features[-1] or "general" in kind or "projected" in kind


def random_case(rng, queries, memories, features):
    """Return a case of these lengths; with three numbers of features keys are separate."""
    lengths = [queries, memories, memories][: len(features)]
    inputs = [naive.random_sequences(rng, own, count) for own, count in zip(lengths, features, strict=True)]
    dcontext = naive.random_sequences(rng, queries, features[1])
    dweights = [rng.standard_normal((q, m)) for q, m in zip(queries, memories, strict=True)]
    return Case(inputs, dcontext, dweights)


def layer_for(kind, case, dtype="float64", rng=None, **options):
    """Return a layer of this kind that is built for the case, with parameters of order 1."""
    layer = KINDS[kind](dtype=dtype, **options)
    layer.build(case.features, 0)
    rng = rng or np.random.default_rng(3)
    layer.load_state_dict(
        {name: rng.standard_normal(value.shape) / value.shape[-1] ** 0.5 for name, value in layer.params.items()}
    )
    return layer


def score_of(layer):
    """Return how the naive version has this layer's scores."""
    parameters = {name: value.astype(np.float64) for name, value in layer.params.items()}
    return Score(additive=isinstance(layer, fl.AdditiveAttention), **parameters)


def train(layer, case, context=None, *, with_context=True, with_weights=True):
    """Run the layer on a case as in training, and back."""
    context = context or PassContext(training=True)
    packed = [pack(part, features=True, dtype=layer.dtype) for part in case.inputs]
    (y, weights), cache = layer.run(tuple(x for x, _ in packed), context)
    form = packed[0][1]
    contexts = [part.copy() for part in form.unpack(y)]
    kept = [part.copy() for part in form.unpack(weights)]
    longest = weights.features
    dys: list[Any] = [
        pack(case.dcontext, features=True, dtype=layer.dtype)[0].rows if with_context else None,
        pack(
            [np.pad(part, ((0, 0), (0, longest - part.shape[1]))) for part in case.dweights],
            features=True,
            dtype=layer.dtype,
        )[0].rows
        if with_weights
        else None,
    ]
    dxs, gradients = layer.run_back(tuple(dys), cache, context)
    backs = [form.unpack(x.with_rows(dx)) for (x, form), dx in zip(packed, dxs, strict=True)]
    copies = {name: value.copy() for name, value in gradients.items()}
    return Result(contexts, kept, [[part.copy() for part in back] for back in backs], copies)


def naive_result(layer, case, *, with_context=True, with_weights=True, factors=None):
    """Return what the naive loops make of the case: weights have zeros up to the longest memory."""
    score, causal = score_of(layer), layer.use_causal_mask
    longest = max(len(part) for part in case.inputs[1])
    result = Result(
        [], [], [[] for _ in case.inputs], {name: np.zeros_like(value) for name, value in layer.params.items()}
    )
    result = result._replace(parameters={name: value.astype(np.float64) for name, value in result.parameters.items()})
    for n, query in enumerate(case.inputs[0]):
        value, key = case.inputs[1][n], case.keys()[n]
        own = None if factors is None else factors[n]
        context, weights = attention(query, value, key, score, causal, own)
        result.context.append(context)
        result.weights.append(np.pad(weights, ((0, 0), (0, longest - weights.shape[1]))))
        dcontext = case.dcontext[n] * with_context
        found = attention_backward(query, value, key, score, dcontext, case.dweights[n] * with_weights, causal, own)
        parts = ("query", "value", "key")
        if len(case.inputs) == 2:
            found["value"] += found["key"]
        for place, name in enumerate(parts[: len(case.inputs)]):
            result.inputs[place].append(found[name])
        for name in layer.params:
            result.parameters[name] += found[name]
    return result
