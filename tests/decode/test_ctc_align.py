"""Forced alignment against brute force over all paths; long inputs against a plain table; bad input."""

import tracemalloc

import numpy as np
import pytest

from fastlstm.decode.ctc import CTCUnits, ctc_beam_search
from fastlstm.decode.ctc_align import ctc_align
from fastlstm.errors import DataError, OptionError, ShapeError
from tests.naive import ctc as naive


def random_log_probs(rng, frames, labels, dtype=np.float64):
    scores = rng.normal(size=(frames, labels)) * 2.0
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("blank", [0, 2])
def test_the_path_is_the_likeliest_of_all(rng, blank, dtype):
    labels = [label for label in range(3) if label != blank]
    strings = [(), (labels[0],), (labels[1],) * 2, (labels[0], labels[1]), (labels[1], labels[0], labels[0])]
    for frames in range(1, 8):
        for ids in strings:
            log_probs = random_log_probs(rng, frames, 3, dtype)
            best, path = naive.best_path(log_probs, ids, blank)
            if path is None:
                with pytest.raises(DataError, match="labels with their repeats need"):
                    ctc_align(log_probs, ids, blank=blank)
                continue
            found = ctc_align(log_probs, list(ids), blank=blank)
            assert found.path == path
            assert found.ids == ids
            assert found.logprob == pytest.approx(best, abs=1e-9)


def table_alignment(log_probs, ids):
    """The whole T x S table of scores and steps; returns (score, path)."""
    states = [0] + [state for label in ids for state in (label, 0)]
    score = np.full((len(log_probs), len(states)), -np.inf)
    back = np.zeros(score.shape, dtype=int)
    score[0, :2] = [log_probs[0, state] for state in states[:2]]
    for t in range(1, len(log_probs)):
        for s, label in enumerate(states):
            steps = [0, 1] if s else [0]
            if s > 1 and label != 0 and label != states[s - 2]:
                steps.append(2)
            back[t, s] = max(steps, key=lambda step: score[t - 1, s - step])
            score[t, s] = score[t - 1, s - back[t, s]] + log_probs[t, label]
    s = len(states) - 1 if len(states) == 1 or score[-1, -1] >= score[-1, -2] else len(states) - 2
    total, path = score[-1, s], []
    for t in reversed(range(len(log_probs))):
        path.append(states[s])
        s -= back[t, s]
    return total, tuple(path[::-1])


@pytest.mark.parametrize("frames", [15, 16, 17, 99, 100, 101, 144])
def test_blocks_of_back_pointers_equal_the_whole_table(rng, frames):
    for length in (0, 1, frames // 4, frames // 2):
        log_probs = random_log_probs(rng, frames, 5)
        ids = rng.integers(1, 5, size=length)
        total, path = table_alignment(log_probs, ids.tolist())
        found = ctc_align(log_probs, ids)
        assert found.path == path
        assert found.logprob == pytest.approx(total, abs=1e-9)


def test_spans_follow_the_path(rng):
    log_probs = random_log_probs(rng, 60, 5)
    ids = (1, 2, 2, 3, 1, 4, 4)
    found = ctc_align(log_probs, ids)
    assert naive.collapse(found.path) == ids
    for label, start, end, confidence in zip(ids, found.frames, found.ends, found.confidences, strict=True):
        assert set(found.path[start:end]) == {label}
        assert confidence == pytest.approx(np.exp(log_probs[start:end, label].max()))
    assert all(end <= start for end, start in zip(found.ends, found.frames[1:], strict=False))
    spoken = sum(end - start for start, end in zip(found.frames, found.ends, strict=True))
    assert spoken == sum(label != 0 for label in found.path)


def test_words_and_times():
    units = CTCUnits(["", " ", "a", "b"], delimiter=" ")
    path = [0, 2, 2, 1, 3, 0]
    log_probs = np.log(np.where(np.eye(4)[path] > 0, 0.91, 0.03))
    found = ctc_align(log_probs, [2, 1, 3], units=units)
    assert found.text == "a b"
    assert [(word.text, word.start, word.end) for word in found.words] == [("a", 1, 3), ("b", 4, 5)]
    assert found.words[0].confidence == pytest.approx(0.91)


def test_a_batch_equals_its_sequences(rng):
    padded = np.stack([random_log_probs(rng, 20, 4) for _ in range(4)])
    lengths, ids = [20, 12, 7, 20], [[1, 2], [], [3, 3], [1, 2, 3]]
    alone = [ctc_align(row[:length], one) for row, length, one in zip(padded, lengths, ids, strict=True)]
    assert ctc_align(padded, ids, lengths=lengths, workers=2) == alone
    assert ctc_align([row[:length] for row, length in zip(padded, lengths, strict=True)], ids) == alone


def test_the_aligned_path_is_no_likelier_than_the_string(rng):
    log_probs = random_log_probs(rng, 30, 4)
    best = ctc_beam_search(log_probs, 50)[0]
    assert ctc_align(log_probs, best.ids).logprob < best.logprob


def test_no_frames():
    found = ctc_align(np.zeros((0, 3)), [])
    assert (found.path, found.ids, found.logprob) == ((), (), 0.0)


def test_long_inputs_need_little_memory(rng):
    """The whole table of steps would have 20,000 x 8,001 bytes; blocks of 142 frames hold 1 + 9 MB of it."""
    log_probs = random_log_probs(rng, 20_000, 4, np.float32)
    ids = rng.integers(1, 4, size=4000)
    tracemalloc.start()
    found = ctc_align(log_probs, ids)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert naive.collapse(found.path) == tuple(ids.tolist())
    assert most < 20_000 * 8_001 / 8


BAD_CALLS = [
    (DataError, "need 4 frames, log_probs has 3", lambda x: ctc_align(x[:3], [1, 1, 2])),
    (DataError, r"ids\[1\] is 0", lambda x: ctc_align(x, [1, 0])),
    (DataError, r"ids\[0\] is 4", lambda x: ctc_align(x, [4])),
    (DataError, "at least 0", lambda x: ctc_align(x, [-1])),
    (DataError, "at least 0", lambda x: ctc_align(x, [2**40])),
    (DataError, "dtype float64", lambda x: ctc_align(x, [1.0])),
    (ShapeError, "shape", lambda x: ctc_align(x, [[1]])),
    (ShapeError, "no array", lambda x: ctc_align(x, [[1], [1, 2]])),
    (ShapeError, "2 label strings for 1", lambda x: ctc_align(x[None], [[1], [2]])),
    (ShapeError, "shape", lambda x: ctc_align(x[0], [1])),
    (ShapeError, "units has 1", lambda x: ctc_align(x, [1], units=CTCUnits([""]))),
    (OptionError, "blank is 7", lambda x: ctc_align(x, [1], blank=7)),
    (
        DataError,
        "frame 2, label 1 is nan",
        lambda x: ctc_align(np.where(np.arange(24).reshape(6, 4) == 9, np.nan, x), [1]),
    ),
    (DataError, "probability 0", lambda x: ctc_align(np.where(np.arange(4) == 1, -np.inf, x), [1])),
]


@pytest.mark.parametrize(("error", "message", "call"), BAD_CALLS)
def test_bad_calls_are_named(error, message, call):
    log_probs = np.log(np.full((6, 4), 0.25))
    with pytest.raises(error, match=message):
        call(log_probs)
