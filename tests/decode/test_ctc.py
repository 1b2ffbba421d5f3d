"""CTC beam search and greedy: against brute force, a textbook version and two peers; chunks, batches, bad input."""

import itertools
import math
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.decode.ctc import CTCDecoder, CTCPruning, CTCUnits, ctc_beam_search, ctc_greedy
from fastlstm.errors import DataError, OptionError, ShapeError
from tests.naive import ctc as naive

LETTERS = "abcdefghijklmnopqrstuvwxyzABC"


def random_log_probs(rng, frames, labels, sharp=2.0, blank=0, blank_extra=0.0, dtype=np.float64):
    scores = rng.normal(size=(frames, labels)) * sharp
    scores[:, blank] += blank_extra
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(dtype)


def kinds(rng, count):
    """Peaky, flat and long matrices in turn, with the blank first."""
    for number in range(count):
        labels = int(rng.integers(3, 12))
        frames = int(rng.integers(5, 20)) if number % 3 < 2 else 60
        sharp, extra = ((6.0, 2.0), (0.7, 0.0), (3.0, 4.0))[number % 3]
        yield random_log_probs(rng, frames, labels, sharp, blank_extra=extra, dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("frames", "labels"), [(1, 2), (2, 4), (4, 3), (5, 3), (6, 2), (6, 3), (3, 1)])
def test_every_string_has_its_total_probability(rng, frames, labels, dtype):
    for blank, sharp in itertools.product({0, labels - 1}, (0.5, 4.0)):
        log_probs = random_log_probs(rng, frames, labels, sharp, dtype=dtype)
        expected = naive.all_strings(log_probs, blank)
        found = ctc_beam_search(log_probs, 10_000, n_best=10_000, blank=blank)
        assert {hypothesis.ids for hypothesis in found} == set(expected)
        for hypothesis in found:
            assert abs(hypothesis.logprob - expected[hypothesis.ids]) < 1e-5
        assert [h.logprob for h in found] == sorted((h.logprob for h in found), reverse=True)
        total = sum(math.exp(h.logprob) for h in found)
        assert total == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 25])
def test_equals_the_textbook_at_any_width(rng, width):
    for log_probs in kinds(rng, 60):
        expected = naive.prefix_beam(log_probs, width)
        found = ctc_beam_search(log_probs, width, n_best=width)
        assert [h.ids for h in found] == [ids for ids, _, _ in expected]
        np.testing.assert_allclose([h.logprob for h in found], [p for _, p, _ in expected], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("token_min", "beam_min"), [(-2.0, -math.inf), (-math.inf, -1.5), (-3.0, -4.0)])
def test_pruning_equals_the_textbook(rng, token_min, beam_min):
    pruning = CTCPruning(token_min_logp=token_min, beam_min_logp=beam_min)
    pruned = 0
    for log_probs in kinds(rng, 45):
        expected = naive.prefix_beam(log_probs, 8, token_min=token_min, beam_min=beam_min)
        found = ctc_beam_search(log_probs, 8, n_best=8, pruning=pruning)
        assert [h.ids for h in found] == [ids for ids, _, _ in expected]
        np.testing.assert_allclose([h.logprob for h in found], [p for _, p, _ in expected], rtol=0, atol=1e-9)
        pruned += found != ctc_beam_search(log_probs, 8, n_best=8)
    assert pruned > 10


def test_equals_fast_ctc_decode_on_300_matrices(rng):
    peer = pytest.importorskip("fast_ctc_decode")
    for log_probs in kinds(rng, 300):
        labels = ["", *LETTERS[: log_probs.shape[1] - 1]]
        expected, _ = peer.beam_search(np.exp(log_probs), labels, 25, 0.0)
        assert ctc_beam_search(log_probs, 25, units=CTCUnits(labels))[0].text == expected


def cuts(rng, frames, count):
    places = np.sort(rng.integers(0, frames + 1, size=count)).tolist()
    return list(itertools.pairwise([0, *places, frames]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunked_equals_whole_bitwise_for_any_cut(rng, dtype):
    decoder = CTCDecoder(8)
    for log_probs in kinds(rng, 30):
        log_probs = log_probs.astype(dtype)
        whole = decoder.decode(log_probs, n_best=8)
        single_frames = [(t, t + 1) for t in range(len(log_probs))]
        for pieces in (single_frames, *(cuts(rng, len(log_probs), count) for count in (1, 2, 5))):
            stream = decoder.stream(labels=log_probs.shape[1])
            for first, last in pieces:
                stream.push(log_probs[first:last])
                stream._beam.check()
            assert stream.frames == len(log_probs)
            assert stream.finish(8) == whole


def test_clones_go_their_own_ways(rng):
    decoder = CTCDecoder(6)
    start, one, other = (random_log_probs(rng, 12, 5) for _ in range(3))
    stream = decoder.stream(labels=5)
    stream.push(start)
    before = stream.results(6)
    clone = stream.clone()
    clone.push(other)
    assert stream.results(6) == before
    stream.push(one)
    assert stream.finish(6) == decoder.decode(np.concatenate([start, one]), n_best=6)
    assert clone.finish(6) == decoder.decode(np.concatenate([start, other]), n_best=6)
    stream.reset()
    stream.push(other)
    assert stream.finish(6) == decoder.decode(other, n_best=6)
    clone._beam.check()
    stream._beam.check()


def test_memory_follows_the_beam_and_not_the_input():
    """100,000 frames: all prefixes ever made would be 100,000s of nodes; those referred to are few."""
    rng = np.random.default_rng(1)
    stream = CTCDecoder(25).stream(labels=5)
    silence = np.log(np.array([0.8, 0.05, 0.05, 0.05, 0.05]))
    rows = np.tile(silence, (10_000, 1)) + rng.normal(size=(10_000, 5)) * 0.02
    for _ in range(10):
        stream.push(rows - np.log(np.exp(rows).sum(axis=1, keepdims=True)))
    nodes, spans, node_places, span_places = stream._beam.memory()
    stream._beam.check()
    longest = max(len(h.ids) for h in stream.results(25))
    assert stream.frames == 100_000
    assert nodes <= 1 + 25 * max(longest, 1)
    assert max(nodes, spans, node_places, span_places) < 5000


def test_frames_ends_and_confidences_of_a_clear_input():
    # Columns: blank, a, b. "a" lies in frames 1 and 2, "b" in 4, "b" again in 6 and 7.
    path = [0, 1, 1, 0, 2, 0, 2, 2, 0]
    probs = np.full((len(path), 3), 0.01)
    probs[np.arange(len(path)), path] = 0.98
    probs[2] = [0.05, 0.9, 0.05]
    for best in (ctc_beam_search(np.log(probs))[0], ctc_greedy(np.log(probs))):
        assert best.ids == (1, 2, 2)
        assert best.frames == (1, 4, 6)
        assert best.ends == (3, 5, 8)
        assert best.confidences == pytest.approx((0.98, 0.98, 0.98))
        assert best.times(0.5, offset=1.0) == [(1.5, 2.5), (3.0, 3.5), (4.0, 5.0)]


def test_spans_of_every_hypothesis_lie_in_order(rng):
    for log_probs in kinds(rng, 60):
        for hypothesis in ctc_beam_search(log_probs, 25, n_best=25):
            edges = [*itertools.chain(*zip(hypothesis.frames, hypothesis.ends, strict=True)), len(log_probs)]
            assert edges == sorted(edges)
            assert all(first < last for first, last in zip(hypothesis.frames, hypothesis.ends, strict=True))
            assert all(0.0 <= confidence <= 1.0 for confidence in hypothesis.confidences)
            assert len(hypothesis.ids) == len(hypothesis.frames)


def test_greedy_is_the_collapsed_best_path(rng):
    for log_probs in kinds(rng, 60):
        found = ctc_greedy(log_probs)
        path = log_probs.argmax(axis=1)
        assert found.ids == naive.collapse(path.tolist())
        assert found.logprob == pytest.approx(naive.path_log_prob(log_probs, path), abs=1e-4)


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_a_batch_equals_its_sequences(rng, workers):
    lengths = [7, 0, 12, 3, 12]
    padded = np.full((5, 12, 6), np.nan)
    for row, length in zip(padded, lengths, strict=True):
        row[:length] = random_log_probs(rng, length, 6)
    alone = [ctc_beam_search(row[:length], 4, n_best=3) for row, length in zip(padded, lengths, strict=True)]
    ragged = [row[:length] for row, length in zip(padded, lengths, strict=True)]
    assert ctc_beam_search(padded, 4, lengths=lengths, n_best=3, workers=workers) == alone
    assert ctc_beam_search(ragged, 4, n_best=3, workers=workers) == alone
    assert ctc_greedy(padded, lengths=lengths) == [ctc_greedy(item) for item in ragged]
    assert ctc_beam_search([], 4) == []


def test_any_layout_and_byte_order_gives_the_same(rng):
    log_probs = random_log_probs(rng, 9, 5, dtype=np.float32)
    expected = ctc_beam_search(log_probs, 5, n_best=5)
    wide = np.zeros((18, 10), dtype=np.float32)
    wide[::2, ::2] = log_probs
    frozen = log_probs.copy()
    frozen.flags.writeable = False
    variants = (np.asfortranarray(log_probs), wide[::2, ::2], log_probs[::-1].copy()[::-1], frozen, log_probs.tolist())
    for variant in (*variants, log_probs.astype(log_probs.dtype.newbyteorder(">"))):
        assert ctc_beam_search(variant, 5, n_best=5) == expected
    half = log_probs.astype(np.float16)
    assert ctc_beam_search(half, 5) == ctc_beam_search(half.astype(np.float32), 5)


def test_impossible_labels_and_unnormalised_rows(rng):
    log_probs = random_log_probs(rng, 6, 4)
    log_probs[2, 1:] = -np.inf
    log_probs[4, 0] = -np.inf
    expected = naive.all_strings(log_probs)
    expected = {ids: value for ids, value in expected.items() if value > -np.inf}
    found = {h.ids: h.logprob for h in ctc_beam_search(log_probs, 5000, n_best=5000)}
    assert found.keys() == expected.keys()
    shifted = {h.ids: h.logprob for h in ctc_beam_search(log_probs - 900.0, 5000, n_best=5000)}
    for ids, value in expected.items():
        assert found[ids] == pytest.approx(value, abs=1e-9)
        assert shifted[ids] == pytest.approx(value - 6 * 900.0, abs=1e-7)


def test_no_frames_give_the_empty_string():
    for best in (ctc_beam_search(np.zeros((0, 3)))[0], ctc_greedy(np.zeros((0, 3)))):
        assert (best.ids, best.frames, best.logprob) == ((), (), 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.0])
@pytest.mark.parametrize("decode", [ctc_beam_search, ctc_greedy])
def test_bad_values_are_named(rng, decode, value):
    log_probs = random_log_probs(rng, 9, 5)
    log_probs[7, 2] = value
    with pytest.raises(DataError, match=f"frame 7, label 2 is {value}"):
        decode(log_probs)
    with (
        pytest.raises(DataError, match="sequence 1: CTC: frame 7")
        if decode is ctc_beam_search
        else (pytest.raises(DataError, match="frame 7"))
    ):
        decode([log_probs[:3], log_probs])


@pytest.mark.parametrize("decode", [ctc_beam_search, ctc_greedy])
def test_a_frame_without_any_label_is_named(rng, decode):
    log_probs = random_log_probs(rng, 9, 5)
    log_probs[4] = -np.inf
    with pytest.raises(DataError, match="frame 4"):
        decode(log_probs)


def test_a_stream_stops_before_the_bad_frame_and_can_go_on(rng):
    log_probs = random_log_probs(rng, 9, 5)
    bad = log_probs.copy()
    bad[6, 1] = np.nan
    stream = CTCDecoder(4).stream(labels=5)
    with pytest.raises(DataError, match="frame 6"):
        stream.push(bad)
    assert stream.frames == 6
    stream.push(log_probs[6:])
    assert stream.finish(4) == ctc_beam_search(log_probs, 4, n_best=4)


BAD_CALLS = [
    (ShapeError, "shape", lambda x: ctc_beam_search(x[0])),
    (ShapeError, "shape", lambda x: ctc_beam_search(np.zeros((2, 2, 2, 2)))),
    (ShapeError, "labels", lambda x: ctc_beam_search(np.zeros((3, 0)))),
    (ShapeError, "no array", lambda x: ctc_beam_search([[0.0, -1.0], [0.0]])),
    (ShapeError, "same V", lambda x: ctc_beam_search([x, x[:, :2]])),
    (ShapeError, "one length for each", lambda x: ctc_beam_search(x[None], lengths=[1, 2])),
    (ShapeError, "a text for each", lambda x: ctc_beam_search(x, units=CTCUnits(["", "a"]))),
    (ShapeError, "this stream reads 3", lambda x: CTCDecoder().stream(3).push(x)),
    (DataError, "dtype int64", lambda x: ctc_beam_search(x.astype(np.int64))),
    (DataError, "dtype", lambda x: ctc_beam_search(x.astype(complex))),
    (DataError, "dtype", lambda x: ctc_beam_search("text")),
    (DataError, "dtype", lambda x: ctc_beam_search(None)),
    (OptionError, "beam_width is 0", lambda x: ctc_beam_search(x, 0)),
    (OptionError, "beam_width is 2.5", lambda x: ctc_beam_search(x, 2.5)),
    (OptionError, "beam_width is True", lambda x: ctc_beam_search(x, True)),
    (OptionError, "beam_width", lambda x: ctc_beam_search(x, 10**15)),
    (OptionError, "n_best is 9", lambda x: ctc_beam_search(x, 8, n_best=9)),
    (OptionError, "blank is 5", lambda x: ctc_beam_search(x, blank=5)),
    (OptionError, "blank is -1", lambda x: ctc_greedy(x, blank=-1)),
    (OptionError, "lengths are for a padded", lambda x: ctc_beam_search(x, lengths=[4])),
    (OptionError, "lengths are for a padded", lambda x: ctc_beam_search([x], lengths=[4])),
    (OptionError, "integers from 0 to T=4", lambda x: ctc_beam_search(x[None], lengths=[5])),
    (OptionError, "integers from 0", lambda x: ctc_beam_search(x[None], lengths=[-1])),
    (OptionError, "integers from 0", lambda x: ctc_beam_search(x[None], lengths=[1.5])),
    (OptionError, "workers is 0", lambda x: ctc_beam_search([x, x], workers=0)),
    (OptionError, "give CTCUnits", lambda x: ctc_beam_search(x, units=["", "a"])),
    (OptionError, "number of labels", lambda x: CTCDecoder().stream()),
    (OptionError, "token_min_logp is 0.5", lambda x: CTCPruning(token_min_logp=0.5)),
    (OptionError, "beam_min_logp is nan", lambda x: CTCPruning(beam_min_logp=math.nan)),
    (OptionError, "exclude each other", lambda x: CTCUnits(["a", "b"], delimiter="a", word_start="b")),
    (OptionError, "no label is the delimiter", lambda x: CTCUnits(["", "a"], delimiter=" ")),
    (OptionError, "no label begins with", lambda x: CTCUnits(["", "a"], word_start="_")),
    (OptionError, "non-empty sequence of str", lambda x: CTCUnits([1, 2])),
]


@pytest.mark.parametrize(("error", "message", "call"), BAD_CALLS)
def test_bad_calls_are_named(error, message, call):
    log_probs = np.log(np.full((4, 5), 0.2))
    with pytest.raises(error, match=message):
        call(log_probs)


@given(st.data())
def test_hostile_numbers_give_named_errors_or_sound_results(data):
    frames = data.draw(st.integers(0, 8))
    labels = data.draw(st.integers(1, 5))
    values = st.sampled_from([-np.inf, np.inf, np.nan, -0.0, -1e-300, -1.0, -2.5, -745.0, -1e6, -1e308, 1e-4, 1.0])
    plain = st.floats(-20.0, 0.0)
    rows = data.draw(st.lists(st.one_of(plain, plain, values), min_size=frames * labels, max_size=frames * labels))
    log_probs = np.array(rows, dtype=np.float64).reshape(frames, labels)
    width = data.draw(st.sampled_from([1, 2, 7, 1000]))
    stream = CTCDecoder(width, blank=data.draw(st.integers(0, labels - 1))).stream(labels)
    try:
        stream.push(log_probs)
    except DataError:
        finite = np.isfinite(log_probs).all() and (log_probs <= 1e-3).all()
        assert not finite or log_probs.min() < -700.0
    else:
        assert (log_probs <= 1e-3).all()
    stream._beam.check()
    results = stream.finish(width)
    assert results
    most = frames * math.log(labels) + 0.01  # every row may hold zeros throughout: it need not sum to 1
    assert all(h.logprob <= most for h in results)
    assert len({h.ids for h in results}) == len(results)


def test_results_pickle_and_hash(rng):
    found = ctc_beam_search(random_log_probs(rng, 9, 5), n_best=3)
    assert pickle.loads(pickle.dumps(found)) == found
    assert len(set(found)) == 3


def test_other_threads_run_while_one_decodes(rng):
    """With the GIL held the counter could not move between the two readings inside one call."""
    log_probs = random_log_probs(rng, 20_000, 40)
    beats, stop = [], threading.Event()

    def beat():
        while not stop.is_set():
            beats.append(time.perf_counter())
            time.sleep(0.001)

    stream = CTCDecoder(100).stream(40)
    push = stream._beam.push_float64
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        begin = time.perf_counter()
        push(log_probs)
        end = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    margin = 0.1 * (end - begin)
    assert sum(begin + margin < moment < end - margin for moment in beats) >= 5
