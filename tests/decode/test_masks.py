"""Masked arrays are refused by every decoder, wherever they are passed: what lies under a mask means nothing."""

import numpy as np
import pytest

from fastlstm.decode import (
    beam_search,
    contrastive_search,
    ctc_align,
    ctc_beam_search,
    ctc_greedy,
    greedy,
    log_probabilities,
    sample,
    sample_scored,
    stochastic_beam_search,
    viterbi,
)
from fastlstm.errors import DataError

LOG_PROBS = np.log(np.full((6, 3), 1 / 3))


def masked(array):
    return np.ma.array(array, mask=np.arange(np.size(array)).reshape(np.shape(array)) % 3 == 1)


def step(tokens, state):
    return masked(np.zeros((len(tokens), 3))), state, np.ones((len(tokens), 2))


def sound(tokens, state):
    return np.zeros((len(tokens), 3)), state


@pytest.mark.parametrize("call", [
    lambda: greedy(masked(LOG_PROBS)),
    lambda: sample(masked(LOG_PROBS)),
    lambda: sample(masked(LOG_PROBS[0]), top_k=1),
    lambda: sample_scored(masked(LOG_PROBS)),
    lambda: log_probabilities(masked(LOG_PROBS)),
    lambda: sample(LOG_PROBS[0], history=masked(np.arange(3)), no_repeat_ngram=2),
    lambda: sample(LOG_PROBS[:2], history=[[1], masked(np.arange(3))], no_repeat_ngram=2),
    lambda: beam_search(lambda t, s: step(t, s)[:2], 0, max_length=2),
    lambda: beam_search(sound, masked(np.array([0, 1])), max_length=2),
    lambda: stochastic_beam_search(lambda t, s: step(t, s)[:2], 0, rng=np.random.default_rng(0)),
    lambda: contrastive_search(step, 0, max_length=2),
    lambda: ctc_greedy(masked(LOG_PROBS)),
    lambda: ctc_beam_search(masked(LOG_PROBS)),
    lambda: ctc_beam_search(masked(LOG_PROBS[None])),
    lambda: ctc_beam_search([LOG_PROBS, masked(LOG_PROBS)]),
    lambda: ctc_beam_search(np.stack([LOG_PROBS] * 2), lengths=masked(np.array([3, 3]))),
    lambda: ctc_align(masked(LOG_PROBS), [1]),
    lambda: ctc_align(LOG_PROBS, masked(np.array([1, 2]))),
    lambda: viterbi(masked(LOG_PROBS), np.zeros((3, 3))),
    lambda: viterbi(masked(LOG_PROBS[None]), np.zeros((3, 3))),
    lambda: viterbi([LOG_PROBS, masked(LOG_PROBS)], np.zeros((3, 3))),
    lambda: viterbi(LOG_PROBS, masked(np.zeros((3, 3)))),
    lambda: viterbi(LOG_PROBS, np.zeros((3, 3)), end=masked(np.zeros(3))),
    lambda: viterbi(np.stack([LOG_PROBS] * 2), np.zeros((3, 3)), lengths=masked(np.array([3, 3]))),
])  # fmt: skip
def test_a_mask_is_refused(call):
    with pytest.raises(DataError, match=r"a masked array, \d+ of its \d+ values masked; fill it"):
        call()


def test_a_masked_array_with_nothing_masked_is_an_array():
    logits = np.ma.array(LOG_PROBS)
    assert (greedy(logits) == greedy(LOG_PROBS)).all()
    assert ctc_greedy(logits) == ctc_greedy(LOG_PROBS)
    assert viterbi(logits, np.zeros((3, 3))) == viterbi(LOG_PROBS, np.zeros((3, 3)))
