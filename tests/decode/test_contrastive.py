"""Contrastive search against its definition, written with loops over whole histories."""

import math

import numpy as np
import pytest

from fastlstm.decode.contrastive import contrastive_search
from fastlstm.errors import DataError, OptionError, ShapeError

V, D = 6, 5
RNG = np.random.default_rng(6)
EMBED, MIX, OUT = RNG.normal(size=(V, D)), RNG.normal(size=(D, D)), RNG.normal(size=(D, V)) * 2


def step(tokens, h):
    h = np.tanh(h @ MIX + EMBED[tokens])
    return h @ OUT, h, h


def naive(start, k, alpha, max_length, end):
    """Recompute every hidden state from the first id on."""

    def read(ids):
        h = np.zeros(D)
        for i in ids:
            h = np.tanh(h @ MIX + EMBED[i])
        return h

    def cosine(a, b):
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    ids, logprob, values = [start], 0.0, []
    while len(ids) <= max_length and (len(ids) == 1 or ids[-1] != end):
        logits = read(ids) @ OUT
        log_p = logits - np.logaddexp.reduce(logits)
        options = []
        for v in sorted(range(V), key=lambda v: (-log_p[v], v))[:k]:
            likeness = max(cosine(read([*ids, v]), read(ids[: j + 1])) for j in range(len(ids)))
            options.append(((1 - alpha) * math.exp(log_p[v]) - alpha * likeness, v))
        value, chosen = max(options, key=lambda option: option[0])
        ids.append(chosen)
        values.append(value)
        logprob += log_p[chosen]
    return tuple(ids[1:]), logprob, sum(values) / len(values)


@pytest.mark.parametrize("k", [1, 2, 4, 9])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.6, 1.0])
def test_equals_the_definition(k, alpha):
    starts = list(range(V))
    for end in (None, 2):
        found = contrastive_search(step, starts, state=np.zeros((V, D)), top_k=k, alpha=alpha, max_length=9, eos_id=end)
        for start, h in zip(starts, found, strict=True):
            ids, logprob, score = naive(start, k, alpha, 9, end)
            assert h.ids + ((end,) if h.finished else ()) == ids
            assert h.logprob == pytest.approx(logprob)
            assert h.score == pytest.approx(score)
        alone = contrastive_search(step, 3, state=np.zeros((1, D)), top_k=k, alpha=alpha, max_length=9, eos_id=end)
        assert alone.ids == found[3].ids


def test_alpha_breaks_a_loop():
    def loop(tokens, state):
        logits = np.full((len(tokens), 3), 0.0)
        logits[:, 1] = 1.0
        return logits, state, np.eye(3)[tokens]

    assert contrastive_search(loop, 0, alpha=0.0, max_length=4).ids == (1, 1, 1, 1)
    assert set(contrastive_search(loop, 0, alpha=0.6, max_length=4).ids[:2]) == {1, 2}


def shape(logits=(1, 4), hidden=(1, 2), fill=0.0):
    def bad(tokens, state):
        n = len(tokens)
        return np.full((n * logits[0], logits[1]), fill), state, np.full((n * hidden[0], hidden[1]), fill)

    return bad


@pytest.mark.parametrize(("bad", "error", "message"), [
    (shape(hidden=(2, 2)), ShapeError, "hidden states of shape"),
    (shape(logits=(2, 4)), ShapeError, "logits of shape"),
    (shape(fill=np.nan), DataError, "not finite"),
    (lambda t, s: (np.full((len(t), 3), -np.inf), s, np.ones((len(t), 2))), DataError, "no possible next id"),
    (lambda t, s: (np.zeros((len(t), 3)), s), ShapeError, "2 values"),
])  # fmt: skip
def test_bad_steps(bad, error, message):
    with pytest.raises(error, match=message):
        contrastive_search(bad, 0)


def test_bad_options_and_zero_vectors():
    with pytest.raises(OptionError, match="alpha"):
        contrastive_search(step, 0, alpha=1.5)
    with pytest.raises(OptionError, match="top_k"):
        contrastive_search(step, 0, top_k=0)
    with pytest.raises(OptionError, match="end ids"):
        contrastive_search(shape(), 0, eos_id=4)
    assert contrastive_search(shape(), 0, max_length=3).ids == (0, 0, 0)
    huge = contrastive_search(lambda t, s: (np.zeros((len(t), 2)), s, np.full((len(t), 2), 1e200)), 0, max_length=2)
    assert huge.score == pytest.approx(0.4 * 0.5 - 0.6)
