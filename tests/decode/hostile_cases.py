"""Random and hostile cases for every decoder: each gives a right answer or a named error, or the case fails.

A case is a function of its own generator and its number. It returns True where it was answered; a ``FastLSTMError``
passes through it, and an AssertionError means a wrong answer.
"""

import functools
import gzip
import itertools
import math
import tempfile
from pathlib import Path

import numpy as np

from fastlstm.decode import (
    BeamOptions,
    Constraints,
    CTCDecoder,
    CTCFusion,
    CTCHotWords,
    CTCLexicon,
    CTCPruning,
    CTCUnits,
    beam_search,
    contrastive_search,
    ctc_align,
    ctc_greedy,
    greedy,
    log_probabilities,
    read_arpa,
    sample,
    sample_scored,
    stochastic_beam_search,
    viterbi,
)
from tests.naive import ctc as naive_ctc

TINY = {
    ("<unk>",): (-2.0, 0.0), ("<s>",): (-99.0, -0.5), ("</s>",): (-0.7, 0.0), ("a",): (-0.4, -0.3),
    ("b",): (-0.6, -0.2), ("<s>", "a"): (-0.1, -0.4), ("a", "b"): (-0.2, -0.1), ("<s>", "a", "b"): (-0.05, 0.0),
}  # fmt: skip
POISON = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-40, 3.4e38, -3.4e38, 1e300, -1e300, 5e-324])
MILD = np.array([-np.inf, 0.0, -0.0, -1e30, -1e-40, -745.0, -5e-324])


def chance(rng, share):
    return rng.random() < share


def options(rng, share, makers):
    """Each option by its maker, with this probability."""
    return {name: make() for name, make in makers.items() if chance(rng, share)}


def numbers(rng, shape):
    """Scores of any scale, some of them poisoned, some all alike, some all -inf in a row."""
    array = rng.standard_normal(shape) * rng.choice([0, 1, 1, 10, 1e4])
    kind = rng.random()
    if kind < 0.5:
        places = rng.random(shape) < rng.choice([0.01, 0.3, 1.0])
        array[places] = rng.choice(POISON if kind < 0.15 else MILD, size=int(places.sum()))
    if chance(rng, 0.05) and array.size:
        array[int(rng.integers(len(array)))] = -np.inf
    return np.round(array) if chance(rng, 0.2) else array


def disguised(rng, array):
    """The same numbers in another type, byte order or layout."""
    with np.errstate(all="ignore"):
        array = array.astype(rng.choice(["f4", "f8", ">f4", ">f8", "f4", "f8", "f2", "g"]))
    layout = rng.integers(8)
    if layout == 0:
        return np.asfortranarray(array)
    if layout == 1:
        return np.repeat(array, 2, axis=0)[::2]
    if layout == 2:
        return array[::-1, ::-1].copy()[::-1, ::-1]
    if layout == 3:
        array.flags.writeable = False
    if layout == 4:  # begins at an odd address
        raw = np.zeros(array.nbytes + 1, np.uint8)
        raw[1:] = np.frombuffer(array.tobytes(), np.uint8)
        return raw[1:].view(array.dtype).reshape(array.shape)
    return array.tolist() if layout == 5 and array.ndim == 2 and len(array) else array  # [] is a batch of nothing


def log_probs_of(rng, frames, labels):
    """(T, V) log-probabilities, most of them sound."""
    scores = numbers(rng, (frames, labels))
    if chance(rng, 0.8):
        scores = np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=-np.inf)
        with np.errstate(all="ignore"):
            top = scores.max(axis=1, keepdims=True, initial=-np.inf)
            scores = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
    return scores


def sampling(rng, number):
    vocab = int(rng.choice([1, 2, 3, 31, 32, 33, 64, 255, 256, 257, 700]))
    if number % 50 == 0:
        vocab = int(rng.choice([4096, 4097, 6000, 9000]))
    rows = int(rng.integers(0, 4)) if number % 20 else 70
    given = options(rng, 0.25, {
        "temperature": lambda: rng.choice([0, 1e-300, 1e-38, 0.1, 1, 2, 1e38, 1e300, -1.0]),
        "top_k": lambda: int(rng.integers(0, vocab + 3)),
        "top_p": lambda: rng.choice([0, 1e-300, 0.1, 0.5, 0.9, 1 - 1e-16, 1]),
        "min_p": lambda: rng.choice([0, 1e-300, 0.1, 1]),
        "typical_p": lambda: rng.choice([1e-300, 0.1, 0.9, 1]),
        "epsilon_cutoff": lambda: rng.choice([0, 1e-300, 0.1, 0.99]),
        "eta_cutoff": lambda: rng.choice([0, 1e-300, 0.1, 0.99]),
        "repetition_penalty": lambda: rng.choice([1e-300, 0.5, 1.3, 1e300]),
        "frequency_penalty": lambda: rng.choice([-1e300, 0.5, 1e300]),
        "presence_penalty": lambda: rng.choice([-1e300, 0.5, 1e300]),
        "no_repeat_ngram": lambda: int(rng.integers(0, 5)),
        "banned_ids": lambda: tuple(rng.integers(0, vocab + 1, size=rng.integers(0, 4)).tolist()),
        "logit_bias": lambda: {int(rng.integers(0, vocab)): float(rng.choice([1e308, -1e308, -np.inf, 2]))},
        "forced_ids": lambda: rng.integers(-1, vocab, size=int(rng.choice([0, 1, max(rows, 1)]))).tolist(),
        "end_ids": lambda: int(rng.integers(0, vocab)),
        "min_length": lambda: int(rng.integers(0, 9)),
        "max_length": lambda: int(rng.integers(1, 9)),
    })  # fmt: skip
    if "min_length" in given or "max_length" in given:
        given.setdefault("end_ids", int(rng.integers(0, vocab)) if chance(rng, 0.9) else ())
    logits = disguised(rng, numbers(rng, (rows, vocab)))
    history = None
    if chance(rng, 0.95):
        history = [rng.integers(0, vocab, size=rng.integers(0, 8)).tolist() for _ in range(rows)]
    ids = sample(logits, history=history, rng=number, **given)
    log_p = log_probabilities(logits, history=history, **given)
    scored = sample_scored(logits, top=int(rng.integers(0, 5)), history=history, rng=number, **given)
    assert (scored.ids == ids).all()
    assert (log_p[np.arange(len(ids)), ids] > -np.inf).all(), "an id of probability 0 was drawn"
    np.testing.assert_allclose(np.exp(log_p.astype(np.float64)).sum(axis=1), 1.0, atol=1e-3)
    assert (greedy(logits) == np.argmax(np.asarray(logits), axis=-1)).all()
    return True


def chain(rng, vocab):
    """A model whose logits depend on the last id, and what it calls its state: the number of steps."""
    table = numbers(rng, (vocab, vocab))
    shown = disguised(rng, table)
    shown = np.asarray(shown) if isinstance(shown, list) else shown
    broken = rng.integers(60)

    def step(tokens, state):
        if broken < 3 and state[0, 0] == 1:
            if broken == 0:
                raise ZeroDivisionError
            return (shown[tokens][:, :-1] if broken == 1 else shown[tokens][:-1]), state
        return shown[tokens], state + 1

    return np.asarray(shown, np.float64), step


def joint(table, start, ids):
    """The model's own log-probability of these ids, the first of them after ``start``."""
    total = 0.0
    for before, after in itertools.pairwise((start, *ids)):
        top = table[before].max()
        total += table[before, after] - top - math.log(np.exp(table[before] - top).sum())
    return total


def rounding(table, length):
    """How far ``length`` log-probabilities may be off: they are differences of numbers as large as the logits."""
    return 1e-15 * length * np.abs(table[np.isfinite(table)]).max(initial=0.0)


def check_hypotheses(found, table, start, eos, length):
    """Each was found once, is as long as may be, and has the probability that the model gives it."""
    assert len({(h.ids, h.finished) for h in found}) == len(found)
    for hypothesis in found:
        ids = hypothesis.ids + ((eos,) if hypothesis.finished else ())
        assert len(ids) <= length
        assert hypothesis.finished or len(ids) == length
        with np.errstate(all="ignore"):
            expected = joint(table, start, ids)
        np.testing.assert_allclose(hypothesis.logprob, expected, rtol=1e-4, atol=1e-3 + rounding(table, length))


def beam(rng, number):
    vocab, rows = int(rng.choice([1, 2, 3, 31, 32, 33, 70])), int(rng.integers(1, 4))
    table, step = chain(rng, vocab)
    length, eos = int(rng.integers(1, 6)), int(rng.integers(vocab))
    phrases = [rng.integers(0, vocab, size=int(rng.integers(1, 3))).tolist() for _ in range(2)]
    bound = options(rng, 0.15, {
        "min_length": lambda: int(rng.integers(0, length + 2)),
        "no_repeat_ngram": lambda: int(rng.integers(0, 4)),
        "prefix": lambda: rng.integers(0, vocab + 1, size=int(rng.integers(0, 3))).tolist(),
        "banned": lambda: phrases[:1],
        "required": lambda: phrases[1:],
        "allowed": lambda: lambda sequence, ids: np.arange(int(rng.integers(0, vocab + 1))),
    })  # fmt: skip
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    more = {"groups": groups} | options(rng, 0.15, {
        "length_formula": lambda: rng.choice(["gnmt", "power", "none"]),
        "diversity": lambda: float(rng.choice([0.0, 0.5, 1e300, -1.0])),
        "normalized": lambda: True,
    })  # fmt: skip
    width = groups * int(rng.choice([1, 2, 3, 8, 29, 1000])) + (number % 97 == 0)
    starts, penalty = rng.integers(vocab, size=rows), float(rng.choice([0.0, 1.0, -1.0, 300.0]))
    try:
        results = beam_search(
            step, starts, state=np.zeros((rows, 1)), beam_width=width, n_best=int(rng.integers(1, width + 1)),
            max_length=length, eos_id=eos, length_penalty=penalty,
            early_stopping=rng.choice(np.array([True, False, "never"], object)), constraints=Constraints(**bound),
            options=BeamOptions(**more),
        )  # fmt: skip
    except ZeroDivisionError:
        return True  # the model's own error comes through
    for start, found in zip(starts.tolist(), results, strict=True):
        assert found
        if not more.get("normalized"):
            check_hypotheses(found, table, start, eos, length)
    if vocab**length <= min(200, width) and not bound and more == {"groups": 1} and penalty == 0.0:
        with np.errstate(all="ignore"):  # NaN: a row behind a dead end
            best = np.nanmax([joint(table, starts[0], ids) for ids in strings(vocab, length, eos)])
        np.testing.assert_allclose(results[0][0].logprob, best, rtol=1e-4, atol=1e-3 + rounding(table, length))
    return True


def strings(vocab, length, eos):
    """All strings that end with ``eos``, or are cut off at ``length``."""
    others = [v for v in range(vocab) if v != eos]
    for n in range(1, length + 1):
        for head in itertools.product(others, repeat=n - 1):
            for last in range(vocab) if n == length else [eos]:
                yield (*head, last)


def stochastic(rng, number):
    vocab, rows = int(rng.choice([1, 2, 3, 9])), int(rng.integers(1, 3))
    table, step = chain(rng, vocab)
    eos, length, starts = int(rng.integers(vocab)), int(rng.integers(1, 5)), rng.integers(vocab, size=rows)
    try:
        results = stochastic_beam_search(
            step, starts, state=np.zeros((rows, 1)), rng=rng, beam_width=int(rng.choice([1, 3, 100])),
            max_length=length, eos_id=eos,
        )  # fmt: skip
    except ZeroDivisionError:
        return True
    for start, found in zip(starts.tolist(), results, strict=True):
        check_hypotheses(found, table, start, eos, length)
    return True


def contrastive(rng, number):
    vocab = int(rng.choice([1, 2, 3, 9]))
    table, step = chain(rng, vocab)
    hidden = numbers(rng, (vocab, int(rng.integers(1, 4))))
    eos, length, start = int(rng.integers(vocab)), int(rng.integers(1, 5)), int(rng.integers(vocab))
    try:
        found = contrastive_search(
            lambda tokens, state: (*step(tokens, state), hidden[tokens]), start, state=np.zeros((1, 1)),
            top_k=int(rng.choice([1, 2, 50])), alpha=rng.choice([0.0, 0.6, 1.0]), max_length=length, eos_id=eos,
        )  # fmt: skip
    except ZeroDivisionError:
        return True
    check_hypotheses([found], table, start, eos, length)
    return True


def ctc(rng, number):
    frames, labels = int(rng.choice([0, 1, 2, 3, 4, 5, 9, 30])), int(rng.choice([1, 2, 3, 5, 33]))
    blank, width = int(rng.integers(labels)), int(rng.choice([1, 2, 7, 30, 1000]))
    log_probs = disguised(rng, log_probs_of(rng, frames, labels))
    pruning = options(rng, 0.2, {
        "token_min_logp": lambda: -float(rng.choice([0.0, 0.1, 5.0, 1e300])),
        "beam_min_logp": lambda: -float(rng.choice([0.0, 0.1, 5.0, 1e300])),
    })  # fmt: skip
    decoder = CTCDecoder(width, blank=blank, pruning=CTCPruning(**pruning))
    whole = decoder.decode(log_probs, n_best=width)
    check_chunks(decoder, log_probs, labels, whole, rng)
    path = ctc_greedy(log_probs, blank=blank)
    array = np.asarray(log_probs, np.float64)
    if labels**frames <= 250 and width >= 250 and not pruning and frames:
        expected = naive_ctc.all_strings(array, blank)
        np.testing.assert_allclose(whole[0].logprob, max(expected.values()), rtol=1e-4, atol=1e-3)
        assert path.logprob <= expected[path.ids] + 1e-3 + 1e-4 * abs(path.logprob)
    return True


def check_chunks(decoder, log_probs, labels, whole, rng):
    """Cut into chunks it gives the same; the tree of prefixes keeps its invariants, errors included."""
    matrix = np.asarray(log_probs).reshape(-1, labels)
    stream = decoder.stream(labels)
    cuts = sorted(rng.integers(0, len(matrix) + 1, size=2).tolist())
    for chunk in np.split(matrix, cuts):
        stream.push(chunk)
        stream._beam.check()
    copy = stream.clone()
    assert copy.finish(decoder.beam_width) == whole
    stream.reset()
    stream._beam.check()
    assert len({hypothesis.ids for hypothesis in whole}) == len(whole)
    assert all(a.score >= b.score for a, b in itertools.pairwise(whole))


@functools.cache
def language_model(seed):
    rng = np.random.default_rng(seed)
    ngrams = naive_ctc.random_ngrams(rng, ["a", "ab", "abc", "ba", "c"], order=1 + seed % 4, per_order=8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "words.arpa")
        path.write_text(naive_ctc.write_arpa(ngrams))
        return read_arpa(path)


UNITS = [
    CTCUnits(["", " ", "a", "b", "c"], delimiter=" "),
    CTCUnits(["", "▁a", "b", "▁", "ab", "▁c", "c"], word_start="▁"),
    CTCUnits(["", "a", "b", "c"]),
]


def ctc_scored(rng, number):
    units, width = UNITS[int(rng.integers(3))], int(rng.choice([1, 3, 20, 200]))
    phrase = "a ab" if units.has_words else "ab"
    words = rng.choice(["a", "ab", "abc", "ba", "c", "cab"], size=3).tolist() + (["xyz"] if chance(rng, 0.05) else [])
    given = options(rng, 0.5, {
        "fusion": lambda: CTCFusion(
            language_model(int(rng.integers(8))), alpha=float(rng.choice([0.0, 0.5, 1e6])),
            beta=float(rng.choice([-100.0, 0.0, 1.5, 100.0])), unk_score=float(rng.choice([0.0, -10.0, -1e300])),
            level="word" if units.has_words and chance(rng, 0.6) else "label",
            begin=chance(rng, 0.5), end=chance(rng, 0.5),
        ),
        "hot_words": lambda: CTCHotWords([*words[:2], phrase], weight=float(rng.choice([0.0, 10.0, 100.0]))),
        "lexicon": lambda: CTCLexicon(words),
    })  # fmt: skip
    if not units.has_words and chance(rng, 0.9):
        given.pop("lexicon", None)
    labels = len(units.labels)
    decoder = CTCDecoder(width, units=units, **given)
    log_probs = disguised(rng, log_probs_of(rng, int(rng.integers(1, 12)), labels))
    check_chunks(decoder, log_probs, labels, decoder.decode(log_probs, n_best=width), rng)
    return True


def align(rng, number):
    frames, labels = int(rng.choice([0, 1, 2, 3, 4, 5, 9, 40])), int(rng.choice([1, 2, 3, 5]))
    blank = int(rng.integers(labels))
    ids = rng.integers(0, labels + (number % 9 == 0), size=int(rng.integers(0, frames // 2 + 2)))
    ids = ids if number % 5 == 0 else ids[ids != blank]
    log_probs = disguised(rng, log_probs_of(rng, frames, labels))
    found = ctc_align(log_probs, ids, blank=blank)
    assert naive_ctc.collapse(found.path, blank) == tuple(ids.tolist())
    if labels**frames <= 250:
        array = np.asarray(log_probs, np.float64)
        paths = (path for path in itertools.product(range(labels), repeat=frames))
        spell = (path for path in paths if naive_ctc.collapse(path, blank) == tuple(ids.tolist()))
        expected = max(naive_ctc.path_log_prob(array, path) for path in spell)
        np.testing.assert_allclose(found.logprob, expected, rtol=1e-4, atol=1e-3)
    return True


def chain_of_tags(rng, number):
    steps, labels = int(rng.choice([0, 1, 2, 3, 20])), int(rng.choice([1, 2, 3, 9]))
    scores, moves = numbers(rng, (steps, labels)), numbers(rng, (labels, labels))
    ends = options(rng, 0.3, {"start": lambda: numbers(rng, (labels,)), "end": lambda: numbers(rng, (labels,))})
    wanted = int(rng.choice([1, 2, 1000]))
    found = viterbi(disguised(rng, scores), disguised(rng, moves), n_best=wanted, normalize=chance(rng, 0.3), **ends)
    assert len({h.ids for h in found}) == len(found) <= wanted
    assert all(a.score >= b.score for a, b in itertools.pairwise(found))
    if labels**steps <= 100 and np.abs(scores[np.isfinite(scores)]).max(initial=0.0) < 100.0:
        first, last = ends.get("start", np.zeros(labels)), ends.get("end", np.zeros(labels))
        best = max(
            first[path[0]] + last[path[-1]] + sum(scores[t, y] for t, y in enumerate(path))
            + sum(moves[a, b] for a, b in itertools.pairwise(path))
            for path in itertools.product(range(labels), repeat=steps)
        )  # fmt: skip
        np.testing.assert_allclose(found[0].score, best, rtol=1e-2, atol=1e-1)  # the scores may have been float16
    return True


def arpa(rng, number):
    """Every byte of a small file in turn: cut there, or garbled."""
    whole = naive_ctc.write_arpa(TINY).encode()
    whole = gzip.compress(whole, mtime=0) if chance(rng, 0.3) else whole
    place = number // 2 % len(whole)
    content = whole[:place]
    if number % 2:
        content += bytes([int(rng.integers(256))]) + whole[place + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hostile.arpa")
        path.write_bytes(content)
        model = read_arpa(path)
    assert np.isfinite(model.word_scores("a b c </s> a b")).all()
    return True


SHARES = {
    sampling: 30, beam: 20, ctc: 15, ctc_scored: 8, align: 8, chain_of_tags: 8, arpa: 5, stochastic: 3, contrastive: 3,
}  # fmt: skip
"""Of 100 cases, how many are of each kind; `long` comes once in 5,000."""
