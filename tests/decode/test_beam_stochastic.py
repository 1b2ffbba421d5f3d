"""Stochastic beams against the exact distribution of samples without replacement."""

import itertools

import numpy as np
import pytest

from fastlstm.decode.beam_stochastic import perturb, stochastic_beam_search
from fastlstm.errors import DataError, OptionError, ShapeError

LOGITS = np.random.default_rng(4).normal(size=(3, 3)) * 1.5
LOG_P = LOGITS - np.logaddexp.reduce(LOGITS, axis=1, keepdims=True)
END = 2


def step(tokens, state):
    return LOGITS[tokens], state


def distribution(length):
    """Every sequence, ended by END or cut at ``length``, with its probability."""
    exact = {}
    for ids in itertools.chain.from_iterable(itertools.product(range(3), repeat=n) for n in range(1, length + 1)):
        if END in ids[:-1] or (len(ids) < length and ids[-1] != END):
            continue
        exact[ids] = np.exp(sum(LOG_P[a, b] for a, b in zip((0, *ids), ids, strict=False)))
    return exact


def key(hypothesis):
    return hypothesis.ids + ((END,) if hypothesis.finished else ())


def chi_square(counts, probabilities, draws):
    """The statistic and its degrees of freedom; cells that expect fewer than 5 are one cell."""
    counts, expected = np.array(counts), np.array(probabilities) * draws
    rare = expected < 5
    counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return float(((counts - expected) ** 2 / expected).sum()), len(expected) - 1


def test_ordered_pairs_follow_the_exact_distribution():
    exact, draws = distribution(3), 15_000
    assert sum(exact.values()) == pytest.approx(1.0)
    found = stochastic_beam_search(
        step, np.zeros(draws, int), rng=np.random.default_rng(8), beam_width=2, max_length=3, eos_id=END
    )
    pairs = {(a, b): 0 for a in exact for b in exact if a != b}
    for first, second in found:
        pairs[key(first), key(second)] += 1
    probabilities = [exact[a] * exact[b] / (1 - exact[a]) for a, b in pairs]
    statistic, freedom = chi_square(list(pairs.values()), probabilities, draws)
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)  # mean and spread of chi-square


def test_the_importance_weighted_estimate_is_unbiased():
    exact, draws, k = distribution(3), 4000, 3
    truth = sum(p * len(ids) for ids, p in exact.items())
    found = stochastic_beam_search(
        step, np.zeros(draws, int), rng=np.random.default_rng(9), beam_width=k + 1, max_length=3, eos_id=END
    )
    estimates = []
    for hypotheses in found:
        kappa = hypotheses[k].score
        weight = [np.exp(h.logprob) / -np.expm1(-np.exp(h.logprob - kappa)) for h in hypotheses[:k]]
        estimates.append(sum(w * len(key(h)) for w, h in zip(weight, hypotheses[:k], strict=True)))
    assert abs(np.mean(estimates) - truth) < 5 * np.std(estimates) / np.sqrt(draws)


def test_a_wide_beam_holds_every_sequence_with_its_probability():
    exact = distribution(4)
    found = stochastic_beam_search(step, 0, rng=np.random.default_rng(0), beam_width=99, max_length=4, eos_id=END)
    assert {key(h): pytest.approx(np.exp(h.logprob)) for h in found} == exact
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_perturbed_rows_have_their_parent_as_maximum():
    rng = np.random.default_rng(0)
    child = rng.normal(size=(50, 30)) * 20
    child[:, 3] = -np.inf
    parent = rng.normal(size=50) * 100
    moved = perturb(child, parent, rng)
    np.testing.assert_allclose(moved.max(axis=1), parent)
    assert np.isneginf(moved[:, 3]).all()
    assert not np.isnan(moved).any()


def test_same_generator_state_same_sample_alone_or_in_a_batch():
    one = stochastic_beam_search(step, 0, rng=np.random.default_rng(5), beam_width=4, max_length=6)
    again = stochastic_beam_search(step, [0, 1], rng=np.random.default_rng(5), beam_width=4, max_length=6)
    assert again[0] == one
    assert again[1] != one


def test_state_follows_its_beam():
    def remember(tokens, state):
        seen, n = state
        seen = seen * 3 + tokens
        return np.random.default_rng(0).normal(size=(3**5, 3))[seen % 3**5], (seen, n + 1)

    def recompute(ids):
        total, seen = 0.0, 0
        table = np.random.default_rng(0).normal(size=(3**5, 3))
        for last, i in zip((0, *ids), ids, strict=False):
            seen = seen * 3 + last
            row = table[seen % 3**5]
            total += row[i] - np.logaddexp.reduce(row)
        return total

    found = stochastic_beam_search(
        remember, 0, rng=np.random.default_rng(1), state=(np.zeros(1, int), 0), beam_width=6, max_length=5
    )
    for h in found:
        assert h.logprob == pytest.approx(recompute(h.ids))


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"rng": 3}, OptionError, "Generator"),
    ({"beam_width": 0}, OptionError, "beam_width"),
    ({"eos_id": 3}, OptionError, "3 ids"),
    ({"start": []}, ShapeError, "empty"),
    ({"step": lambda t, s: (np.full((len(t), 3), np.nan), s)}, DataError, "NaN"),
    ({"step": lambda t, s: (np.full((len(t), 3), np.inf), s)}, DataError, "inf"),
    ({"step": lambda t, s: (np.full((len(t), 3), -np.inf), s)}, DataError, "no possible next id"),
    ({"step": lambda t, s: (np.zeros((3, 3)), s)}, ShapeError, "logits of shape"),
    ({"normalized": True, "step": lambda t, s: (np.ones((len(t), 3)), s)}, DataError, "above 0"),
])  # fmt: skip
def test_errors(change, error, message):
    arguments = {"step": step, "start": 0, "rng": np.random.default_rng(0)} | change
    with pytest.raises(error, match=message):
        stochastic_beam_search(arguments.pop("step"), arguments.pop("start"), **arguments)
