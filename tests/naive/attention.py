"""Attention of one pair of sequences, one score at a time, float64: docs/attention.md line by line."""

from math import exp, tanh
from typing import Any, NamedTuple

import numpy as np


class Score(NamedTuple):
    """How one query and one key make a score; what is None is left out."""

    additive: bool = False
    scale: Any = None  # a number, (1,); additive: u, (units,)
    weight: Any = None  # (F_key, F_query), multiplies the query
    query_weight: Any = None  # (units, F_query)
    key_weight: Any = None  # (units, F_key)


def attention(query, value, key, score, causal=False, factors=None):
    """Return the context (Tq, F) and the weights (Tq, Tv), times `factors` where dropout left some."""
    weights, context = np.zeros((len(query), len(value))), np.zeros((len(query), value.shape[1]))
    for t, q in enumerate(query):
        seen = min(t + 1, len(value)) if causal else len(value)
        e = [score_of(q, key[s], score) for s in range(seen)]  # 1
        powers = [exp(one - max(e)) for one in e]
        for s in range(seen):
            weights[t, s] = powers[s] / sum(powers)  # 2
            if factors is not None:
                weights[t, s] *= factors[t, s]
            for f in range(value.shape[1]):
                context[t, f] += weights[t, s] * value[s, f]  # 3
    return context, weights


def attention_backward(query, value, key, score, dcontext, dweights, causal=False, factors=None):
    """Return the gradients of ``sum(dcontext * context) + sum(dweights * weights)`` by name, those not None."""
    plain = attention(query, value, key, score, causal)[1]
    found = {"query": np.zeros_like(query), "value": np.zeros_like(value), "key": np.zeros_like(key)}
    found |= {name: np.zeros_like(part) for name, part in score._asdict().items() if isinstance(part, np.ndarray)}
    for t, q in enumerate(query):
        seen = min(t + 1, len(value)) if causal else len(value)
        da = np.zeros(seen)
        for s in range(seen):
            m = 1.0 if factors is None else factors[t, s]
            da[s] = m * (dweights[t, s] + sum(dcontext[t, f] * value[s, f] for f in range(value.shape[1])))  # 3b
            for f in range(value.shape[1]):
                found["value"][s, f] += m * plain[t, s] * dcontext[t, f]
        mean = sum(plain[t, s] * da[s] for s in range(seen))
        for s in range(seen):
            de = plain[t, s] * (da[s] - mean)  # 2b
            score_back(q, key[s], score, de, found, t, s)  # 1b
    return found


def score_of(q, k, score):
    a, b = projected(q, k, score)
    if score.additive:
        u = np.ones(len(a)) if score.scale is None else score.scale
        return sum(u[i] * tanh(a[i] + b[i]) for i in range(len(a)))
    scale = 1.0 if score.scale is None else score.scale[0]
    return scale * sum(a[i] * b[i] for i in range(len(a)))


def projected(q, k, score):
    """Return query and key as they are scored."""
    if score.additive:
        return times(score.query_weight, q), times(score.key_weight, k)
    return times(score.weight, q), k


def times(weight, x):
    if weight is None:
        return x
    return np.array([sum(weight[i, f] * x[f] for f in range(len(x))) for i in range(len(weight))])


def score_back(q, k, score, de, found, t, s):
    """Add what one score's gradient `de` adds to the gradients `found`."""
    a, b = projected(q, k, score)
    da, db = np.zeros_like(a), np.zeros_like(b)
    for i in range(len(a)):
        if score.additive:
            u = 1.0 if score.scale is None else score.scale[i]
            y = tanh(a[i] + b[i])
            da[i] = db[i] = de * u * (1.0 - y * y)
            if score.scale is not None:
                found["scale"][i] += de * y
        else:
            scale = 1.0 if score.scale is None else score.scale[0]
            da[i], db[i] = de * scale * b[i], de * scale * a[i]
            if score.scale is not None:
                found["scale"][0] += de * a[i] * b[i]
    back(score.query_weight if score.additive else score.weight, da, q, found["query"][t], found, score)
    back(score.key_weight, db, k, found["key"][s], found, score)


def back(weight, dy, x, dx, found, score):
    """Add to the gradients of x and of the weight that multiplied it."""
    if weight is None:
        dx += dy
        return
    name = next(name for name, part in score._asdict().items() if part is weight)
    for i in range(len(dy)):
        for f in range(len(x)):
            dx[f] += weight[i, f] * dy[i]
            found[name][i, f] += dy[i] * x[f]
