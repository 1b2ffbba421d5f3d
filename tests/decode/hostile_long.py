"""Hostile inputs of a hundred thousand steps."""

import numpy as np

from fastlstm.decode.beam import beam_search
from fastlstm.decode.ctc import CTCDecoder
from fastlstm.decode.ctc_align import ctc_align
from fastlstm.decode.viterbi import viterbi


def long(rng, number):
    """A hundred thousand steps: the answer is whole, and a beam of many blanks keeps little memory."""
    steps, labels = 100_000, int(rng.integers(1, 4))
    log_probs = np.log(rng.dirichlet(np.full(labels, 0.5), size=steps) + 1e-9)
    log_probs = np.minimum(log_probs, 0.0).astype(rng.choice(["f4", "f8"]))
    turn = number % 4
    if turn == 0:
        log_probs[:, 0] = 0.0
        stream = CTCDecoder(int(rng.choice([1, 5]))).stream(labels)
        stream.push(log_probs)
        stream._beam.check()
        assert stream.frames == steps
        assert stream.finish()
    elif turn == 1:
        ids = rng.integers(1, labels, size=300) if labels > 1 else []
        assert len(ctc_align(log_probs, ids).path) == steps
    elif turn == 2:
        [best] = viterbi(log_probs, np.zeros((labels, labels)))
        assert best.ids == tuple(log_probs.argmax(axis=1).tolist())
    else:
        [best] = beam_search(lambda t, s: (log_probs[t], s), 0, beam_width=2, max_length=20_000)
        assert len(best.ids) == 20_000
    return True
