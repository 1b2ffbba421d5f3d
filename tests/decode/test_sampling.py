"""Sampling against a float64 textbook version and exact distributions."""

import copy
import pickle
import sys
import threading
import time

import numpy as np
import pytest

from fastlstm.decode.sampling import OptionFields, greedy, log_probabilities, sample, sample_scored
from fastlstm.decode.sampling_options import SamplingOptions
from fastlstm.errors import DataError
from tests.naive import sampling as naive

FILTERS = [
    {"temperature": 0.7},
    {"top_k": 1},
    {"top_k": 7},
    {"top_p": 0.1},
    {"top_p": 0.9},
    {"min_p": 0.05},
    {"typical_p": 0.2},
    {"typical_p": 0.9},
    {"epsilon_cutoff": 0.01},
    {"epsilon_cutoff": 0.9},
    {"eta_cutoff": 0.01},
    {"temperature": 1.4, "top_k": 40, "top_p": 0.9},
    {"top_k": 30, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.95, "epsilon_cutoff": 1e-3, "eta_cutoff": 1e-3},
    {"typical_p": 0.5, "eta_cutoff": 0.2, "temperature": 2.0},
]
EDITS = [
    {"logit_bias": {0: 3.0, 4: -np.inf}},
    {"repetition_penalty": 1.7},
    {"frequency_penalty": 0.4, "presence_penalty": -0.3},
    {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 2},
    {"no_repeat_ngram": 3},
    {"banned_ids": (1, 3)},
    {"min_length": 9, "end_ids": (2, 5)},
    {"max_length": 8, "end_ids": (2, 5)},
    {"logit_bias": {1: 1.5}, "repetition_penalty": 1.2, "presence_penalty": 0.5, "no_repeat_ngram": 3, "top_p": 0.8},
]
SHAPES = [(64, 2), (64, 3), (64, 31), (48, 97), (16, 1000), (11, 6000)]
KINDS = ("normal", "flat", "peaked", "ties", "holes", "one", "equal", "sorted", "zipf", "huge", "hidden")


def row_of(kind, V, rng):
    """A row of logits of the kind; float64."""
    row = rng.normal(size=V) * {"flat": 0.1, "peaked": 10.0}.get(kind, 2.0)
    if kind == "ties":
        row = np.round(row)
    elif kind == "holes":
        row[rng.random(V) < 0.5] = -np.inf
        row[rng.integers(V)] = 0.0
    elif kind == "one":
        row = np.full(V, -np.inf)
        row[rng.integers(V)] = 3.0
    elif kind == "equal":
        row = np.zeros(V)
    elif kind == "sorted":
        row.sort()
    elif kind == "zipf":
        row = -1.1 * np.log(1.0 + rng.permutation(V))
    elif kind == "huge":
        row *= 1e4
    elif kind == "hidden":  # a long row's filters look at some blocks of 32 first: the others hold the weight
        row += 6.0 * (np.arange(V) // 32 % 2)
    return row


def rows_of(N, V, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return np.array([row_of(KINDS[i % len(KINDS)], V, rng) for i in range(N)], dtype)


# --- Against the textbook -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_distribution_equals_textbook(options, dtype):
    doubtful = 0
    checked = 0
    for N, V in SHAPES:
        logits = rows_of(N, V, seed=V, dtype=dtype)
        got = log_probabilities(logits, **options)
        assert got.dtype == dtype
        for row in range(N):
            want, clear = naive.log_probabilities(logits[row], **options)
            checked += 1
            # A logit of this size is only so exact once it is divided by the temperature; nor is the textbook's sum.
            finite = np.abs(logits[row][logits[row] > -np.inf].astype(np.float64))
            error = 4 * np.finfo(dtype).eps * (16 + finite.max() / options.get("temperature", 1.0))
            error += V * np.finfo(np.float64).eps
            if clear < error:
                doubtful += 1  # on paper a draw: which side it falls is rounding
                continue
            kept = want > -np.inf
            np.testing.assert_array_equal(got[row] > -np.inf, kept)
            np.testing.assert_allclose(got[row][kept], want[kept], rtol=0, atol=error)
    assert doubtful < checked / 4


@pytest.mark.parametrize("options", [*EDITS, {"forced_ids": (4, -1, 2, -1)}], ids=str)
def test_edits_equal_textbook(options):
    rng = np.random.default_rng(5)
    for V in (6, 40):
        logits = rng.normal(size=(4, V))
        histories = [[], [0], [1, 2, 3, 1, 2], list(rng.integers(5, size=8))]
        got = log_probabilities(logits, history=histories, **options)
        for row, history in enumerate(histories):
            own = dict(options)
            if "forced_ids" in own:
                own["forced_id"] = own.pop("forced_ids")[row]
            y = naive.edit(logits[row], history, **own)
            if y.max() == -np.inf:
                pytest.fail("the case bans everything and tests nothing")
            want, clear = naive.log_probabilities(logits[row], history, **own)
            assert clear > 1e-9
            np.testing.assert_allclose(got[row], want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_draw_is_the_inverse_of_the_cumulative_distribution(options, dtype):
    seen = 0
    for N, V in SHAPES:
        logits = rows_of(N, V, seed=V + 1, dtype=dtype)
        ids = sample(logits, rng=np.random.default_rng(V), **options)
        for row, u in enumerate(np.random.default_rng(V).random(N)):
            log_probs = log_probabilities(logits[row], **options).astype(np.float64)
            log_probs -= np.log(np.exp(log_probs).sum())
            want, clear = naive.draw(log_probs, u)
            if clear > 1e-5:
                assert ids[row] == want
                seen += 1
    assert seen > 200


def test_a_million_draws_follow_the_exact_distribution():
    logits = np.array([0.3, -1.0, 2.0, -np.inf, 0.0, 1.1, -3.0, 0.3, 0.9, -0.5], np.float32)
    for options in ({}, {"temperature": 0.7, "top_k": 7, "top_p": 0.97, "min_p": 0.01}):
        probabilities = np.exp(naive.log_probabilities(logits, **options)[0])
        draws = sample(np.tile(logits, (1_000_000, 1)), rng=11, **options)
        counts = np.bincount(draws, minlength=10)
        possible = probabilities > 0
        assert not counts[~possible].any()
        expected = 1e6 * probabilities[possible]
        freedom = possible.sum() - 1
        chi_square = np.sum((counts[possible] - expected) ** 2 / expected)
        # The 1e-4 quantile by Wilson and Hilferty's cube.
        assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.72 * np.sqrt(2 / (9 * freedom))) ** 3
        assert chi_square > freedom * (1 - 2 / (9 * freedom) - 3.72 * np.sqrt(2 / (9 * freedom))) ** 3


# --- Chance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, *FILTERS], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_row_gets_the_same_id_alone_and_in_a_batch(options, dtype):
    for N, V in ((70, 5), (33, 700), (5, 6000)):
        logits = rows_of(N, V, seed=3, dtype=dtype)
        whole, single = np.random.default_rng(9), np.random.default_rng(9)
        ids = sample(logits, rng=whole, **options)
        assert ids.dtype == np.int64
        assert [sample(row, rng=single, **options) for row in logits] == ids.tolist()
        assert whole.bit_generator.state == single.bit_generator.state
        counted = np.random.default_rng(9)
        counted.random(N)
        assert whole.bit_generator.state == counted.bit_generator.state


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_any_generator_and_seed(kind):
    logits = rows_of(40, 30, seed=1)
    uniforms = np.random.Generator(kind(4)).random(40)
    ids = sample(logits, rng=np.random.Generator(kind(4)))
    cumulative = np.exp(log_probabilities(logits)).cumsum(axis=1)
    np.testing.assert_array_equal(ids, (cumulative <= uniforms[:, None]).sum(axis=1))
    np.testing.assert_array_equal(sample(logits, rng=4), sample(logits, rng=np.random.default_rng(4)))
    flat = np.zeros((50, 1000))
    assert (sample(flat) != sample(flat)).any()  # no generator: a new one each time


@pytest.mark.parametrize("u", [0.0, 1.0 - 2.0**-53])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_ends_of_the_unit_interval_never_choose_the_impossible(u, options, dtype):
    class Fixed(np.random.PCG64):  # a PCG64 whose next double is known: run back to a state that yields it
        pass

    generator = np.random.Generator(Fixed(0))
    state = generator.bit_generator.state
    state["state"] = _state_that_yields(u)
    for V in (4, 255, 256, 257, 700):
        logits = np.full(V, -np.inf, dtype)
        logits[[1, 2]] = 0.5, 0.1
        generator.bit_generator.state = state
        assert sample(logits, rng=generator, **options) == (1 if u == 0 or options.get("top_p") else 2)
        generator.bit_generator.state = state
        assert generator.random() == u


def _state_that_yields(u):
    """A PCG64 state (128-bit LCG, XSL-RR output) whose next double is u."""
    modulus, multiplier = 1 << 128, 0x2360ED051FC65DA44385DF649FCCF645
    increment = 1
    wanted = int(u * 2**53) << 11  # the output word; the top six bits of the state say how far it is rotated
    high = 0  # no rotation, so that high ^ low is the word
    after = (high << 64) | (wanted ^ high)
    before = (after - increment) * pow(multiplier, -1, modulus) % modulus
    return {"state": before, "inc": increment}


def test_threads_may_share_a_generator():
    logits = np.zeros((20_000, 3), np.float32)
    generator, parts = np.random.default_rng(2), []
    threads = [threading.Thread(target=lambda: parts.append(sample(logits, rng=generator))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = np.random.default_rng(2)
    counted.random(80_000)
    assert generator.bit_generator.state == counted.bit_generator.state
    reference = np.random.default_rng(2)
    want = np.bincount(np.concatenate([sample(logits, rng=reference) for _ in range(4)]))
    assert (np.bincount(np.concatenate(parts)) == want).all()


def test_the_gil_is_free_meanwhile():
    logits = rows_of(40, 50_000, seed=0, dtype=np.float32)
    interval, running, done = sys.getswitchinterval(), threading.Event(), threading.Event()

    def work():
        running.set()
        sample(logits, typical_p=0.9, rng=0)
        done.set()

    sys.setswitchinterval(60.0)  # no thread is made to give the GIL up: this one offers it, the other must itself
    try:
        thread = threading.Thread(target=work)
        thread.start()
        running.wait()
        turns = 0
        while not done.is_set():
            turns += 1
            time.sleep(0)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert turns > 100


# --- Greedy, scores, options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("V", [1, 2, 31, 32, 33, 255, 1023, 1024, 1025, 12289])
def test_greedy_is_the_first_maximum(V, dtype):
    logits = rows_of(40, V, seed=V, dtype=dtype)
    np.testing.assert_array_equal(greedy(logits), logits.argmax(axis=1))
    np.testing.assert_array_equal(sample(logits, temperature=0, top_k=3, rng=1), logits.argmax(axis=1))
    assert greedy(logits[0]) == logits[0].argmax()
    assert type(greedy(logits[0])) is int
    logits[7, V // 2] = np.inf
    assert greedy(logits)[7] == V // 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("V", [1, 31, 32, 65, 2050])
def test_greedy_sees_a_nan_anywhere(V, dtype):
    for place in range(V):
        logits = np.zeros((2, V), dtype)
        logits[1, place] = np.nan
        with pytest.raises(DataError, match="row 1 holds NaN"):
            greedy(logits)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_of_the_chosen_and_the_best(dtype):
    for N, V in SHAPES:
        logits = rows_of(N, V, seed=8, dtype=dtype)
        exact = logits.astype(np.float64)
        exact = exact - exact.max(axis=1, keepdims=True)
        exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
        drawn = sample_scored(logits, top=5, rng=3, top_k=9)
        np.testing.assert_array_equal(drawn.ids, sample(logits, rng=3, top_k=9))
        best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        np.testing.assert_array_equal(drawn.top_ids, best)
        bounds = {"rtol": 1e-12, "atol": 1e-12} if dtype == np.float64 else {"rtol": 1e-6, "atol": 2e-6}
        np.testing.assert_allclose(drawn.log_probs, exact[np.arange(N), drawn.ids], **bounds)
        np.testing.assert_allclose(drawn.top_log_probs, np.take_along_axis(exact, best, axis=1), **bounds)
        after = sample_scored(logits, top=V + 3, filtered=True, rng=3, top_k=9)
        np.testing.assert_allclose(
            np.exp(after.top_log_probs).sum(axis=1), 1.0, rtol=1e-12 if dtype == np.float64 else 1e-5
        )
        assert after.top_ids.shape == (N, V)
        assert (after.log_probs > drawn.log_probs - 1e-5).all()


def test_one_dimensional_logits_give_scalars():
    drawn = sample_scored(np.log([0.2, 0.8]), top=1, temperature=0)
    assert (drawn.ids, drawn.top_ids.tolist()) == (1, [1])
    assert drawn.log_probs == pytest.approx(np.log(0.8))


def test_options_are_values():
    options = SamplingOptions(top_k=5, logit_bias={3: 1.0}, end_ids=2, min_length=1, temperature=np.float32(0.5))
    assert options == SamplingOptions(top_k=5, logit_bias={3: 1}, end_ids=[2], min_length=1, temperature=0.5)
    logits = rows_of(20, 9, seed=0)
    history = np.zeros((20, 4), int)
    ids = sample(logits, options=options, history=history, rng=1)
    for other in (pickle.loads(pickle.dumps(options)), copy.deepcopy(options)):
        assert other == options
        assert hash(other) == hash(options)
        np.testing.assert_array_equal(sample(logits, options=other, history=history, rng=1), ids)
    np.testing.assert_array_equal(
        sample(logits, options=options, top_k=1, history=history, rng=1),
        sample(logits, options=options.replaced({"top_k": 1}), history=history, rng=1),
    )
    with pytest.raises(AttributeError):
        options.top_k = 4


def test_keywords_cover_every_option():
    shortcuts = {"temperature", "top_k", "top_p", "min_p"}
    assert set(OptionFields.__annotations__) | shortcuts == set(SamplingOptions.__dataclass_fields__)
