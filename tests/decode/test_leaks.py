"""No decoder keeps memory: neither what C allocated nor Python objects, where it answers and where it breaks off.

Calls are counted in rounds. What leaks, leaks in every round; caches and the allocator's own bookkeeping do not. So
the round that grew least decides.
"""

import ctypes
import gc
import gzip
import sys

import numpy as np
import pytest

from fastlstm.decode import (
    BeamOptions,
    Constraints,
    CTCDecoder,
    CTCFusion,
    CTCHotWords,
    CTCLexicon,
    CTCUnits,
    NGramModel,
    Trie,
    _ctc,
    _ngram,
    beam_search,
    contrastive_search,
    ctc_align,
    ctc_beam_search,
    ctc_greedy,
    greedy,
    log_probabilities,
    read_arpa,
    sample,
    sample_scored,
    stochastic_beam_search,
    viterbi,
)
from fastlstm.errors import DataError, FastLSTMError, OptionError
from tests.naive import ctc as naive_ctc

ROUNDS, CALLS = 6, 60
BYTES_A_CALL = 16
"""Half of the smallest block that malloc hands out: one block a call is twice too much."""

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 300))
MANY = RNG.normal(size=(70, 50)).astype(np.float32)  # above 64 rows the uniforms have a block of their own
UNITS = CTCUnits(["", " ", "a", "b", "c"], delimiter=" ")
SCORES = RNG.normal(size=(40, 5))
LOG_PROBS = SCORES - np.log(np.exp(SCORES).sum(axis=1, keepdims=True))
BAD_VALUE, DEAD = LOG_PROBS.copy(), LOG_PROBS.copy()
BAD_VALUE[30, 2], DEAD[30] = np.nan, -np.inf
TABLE = RNG.normal(size=(9, 9))
NGRAMS = naive_ctc.random_ngrams(RNG, ["a", "ab", "abc", "ba", "c"], order=4, per_order=150, closed=False)


class Malloc(ctypes.Structure):
    """What mallinfo2(3) returns: ten sizes, of which ``hblkhd`` is mapped and ``uordblks`` handed out."""

    _fields_ = [
        (name, ctypes.c_size_t) for name in ("_0", "_1", "_2", "_3", "hblkhd", "_5", "_6", "uordblks", "_8", "_9")
    ]


def c_bytes():
    """Bytes in blocks of malloc's that are in use."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Malloc
    counted = libc.mallinfo2()
    return counted.uordblks + counted.hblkhd


def needs_mallinfo():
    if not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("only glibc 2.33 or later tells how much memory is in use")


def least_growth(call):
    """(bytes of malloc's, blocks of Python's) that the best of the rounds grew by."""
    held = []
    for _ in range(1 + ROUNDS):  # the first warms up
        for _ in range(CALLS):
            call()
        gc.collect()
        held.append((c_bytes(), sys.getallocatedblocks()))
    return tuple(np.diff(held, axis=0).min(axis=0).tolist())


@pytest.fixture(autouse=True)
def collect_quickly():
    """Leave what other tests made out of the collections."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def raising(error, call):
    """The call, which must raise."""

    def broken():
        try:
            call()
        except error:
            return
        raise AssertionError("no error")

    return broken


def chain(tokens, state):
    return TABLE[tokens], state


def breaking(tokens, state):
    """Break down at the third step."""
    if state[0, 0] == 2:
        raise ZeroDivisionError
    return TABLE[tokens], state + 1


def breaking_with_hidden(tokens, state):
    return (*breaking(tokens, state), TABLE[tokens])


def becoming_nan(tokens, state):
    return np.where(state[:1] == 2, np.nan, TABLE[tokens]), state + 1


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    """Files by name: whole, zipped, cut off, with an n-gram twice."""
    folder, text = tmp_path_factory.mktemp("arpa"), naive_ctc.write_arpa(NGRAMS)
    last = text.splitlines()[-3]
    contents = {
        "whole": text.encode(),
        "zipped": gzip.compress(text.encode()),
        "cut": text.encode()[: len(text) * 3 // 4],
        "twice": text.replace(last, f"{last}\n{last}").replace(
            f"ngram 4={len([g for g in NGRAMS if len(g) == 4])}",
            f"ngram 4={len([g for g in NGRAMS if len(g) == 4]) + 1}",
        ).encode(),
        "cut zip": gzip.compress(text.encode())[:-30],
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def sampled(**options):
    return lambda: sample(LOGITS, history=[[1, 2, 1], [3], []], rng=3, **options)


def decoded(decoder, log_probs=LOG_PROBS):
    return lambda: decoder.decode(log_probs, n_best=5)


def streamed(decoder, log_probs, error=()):
    """Chunks, a copy in the middle, results on the way, a reset; the error comes in a later chunk."""

    def call():
        stream = decoder.stream(5)
        try:
            for first in range(0, 40, 7):
                stream.push(log_probs[first : first + 7])
                stream.results(3)
            copy = stream.clone()
            copy.push(LOG_PROBS)
            copy.finish(3)
            stream.reset()
            stream.push(LOG_PROBS[:9])
        except error:
            pass
        else:
            assert not error

    return call


def every_scorer(arpa):
    """Every scorer at once."""
    return CTCDecoder(
        20, units=UNITS, fusion=CTCFusion(read_arpa(arpa / "whole")), hot_words=CTCHotWords(["ab a", "c"]),
        lexicon=CTCLexicon(["a", "ab", "cab"]),
    )  # fmt: skip


def built_out_of_order():
    builder = _ngram.NGramBuilder(3)
    one, zeros = np.arange(500, dtype=np.int32)[:, None], np.zeros(500, np.float32)
    builder.add(one, zeros, zeros, -100.0)
    with pytest.raises(ValueError, match="order by order"):
        builder.add(one, zeros, zeros, -100.0)


# fmt: off
CALLS_BY_NAME = {
    "greedy": lambda arpa: lambda: greedy(LOGITS),
    "sample": lambda arpa: sampled(),
    "sample, 70 rows": lambda arpa: lambda: sample(MANY, rng=1),
    "sample, every filter": lambda arpa: sampled(
        temperature=0.7, top_k=40, top_p=0.9, min_p=0.01, typical_p=0.9, epsilon_cutoff=1e-4, eta_cutoff=1e-4
    ),
    "sample, every edit": lambda arpa: sampled(
        repetition_penalty=1.2, frequency_penalty=0.1, presence_penalty=0.1, no_repeat_ngram=2, banned_ids=[1],
        logit_bias={2: 1.0}, end_ids=5, min_length=2, max_length=9, forced_ids=[-1, 4, -1],
    ),
    "sample, rows of NaN": lambda arpa: raising(DataError, lambda: sample(np.full((70, 9), np.nan), rng=1)),
    "sample, an id too large": lambda arpa: raising(OptionError, lambda: sample(LOGITS, banned_ids=[300], rng=1)),
    "sample, all banned": lambda arpa: raising(
        DataError, lambda: sample(np.zeros((70, 2)), logit_bias={0: -np.inf, 1: -np.inf}, rng=1)
    ),
    "log_probabilities": lambda arpa: lambda: log_probabilities(LOGITS, top_p=0.9),
    "log_probabilities, +inf": lambda arpa: raising(
        DataError, lambda: log_probabilities(np.full((3, 9), np.inf), top_p=0.9)
    ),
    "sample_scored": lambda arpa: lambda: sample_scored(LOGITS, top=5, rng=2, top_k=9, filtered=True),
    "beam_search": lambda arpa: lambda: beam_search(chain, [0, 1], beam_width=6, max_length=12, eos_id=3, n_best=4),
    "beam_search, groups": lambda arpa: lambda: beam_search(
        chain, 0, beam_width=6, max_length=12, eos_id=3, options=BeamOptions(groups=3, diversity=0.5)
    ),
    "beam_search, constraints": lambda arpa: lambda: beam_search(
        chain, 0, beam_width=6, max_length=12, eos_id=3,
        constraints=Constraints(no_repeat_ngram=2, prefix=[1], banned=[[2, 4]], required=[[5, 6]], min_length=3),
    ),
    "beam_search, a trie": lambda arpa: lambda: beam_search(
        chain, 0, max_length=12, eos_id=3, constraints=Constraints(allowed=Trie([[1, 2, 4], [1, 5]], eos_id=3))
    ),
    "beam_search, the model breaks": lambda arpa: raising(
        ZeroDivisionError, lambda: beam_search(breaking, [0, 1], state=np.zeros((2, 1)), max_length=12)
    ),
    "beam_search, NaN on the way": lambda arpa: raising(
        DataError, lambda: beam_search(becoming_nan, [0, 1], state=np.zeros((2, 1)), max_length=12)
    ),
    "beam_search, starved": lambda arpa: raising(
        DataError, lambda: beam_search(chain, 0, max_length=5, constraints=Constraints(allowed=lambda n, ids: []))
    ),
    "stochastic_beam_search": lambda arpa: lambda: stochastic_beam_search(
        chain, [0, 1], rng=np.random.default_rng(1), beam_width=6, max_length=6, eos_id=3
    ),
    "stochastic_beam_search, the model breaks": lambda arpa: raising(
        ZeroDivisionError,
        lambda: stochastic_beam_search(breaking, 0, rng=np.random.default_rng(1), state=np.zeros((1, 1))),
    ),
    "contrastive_search": lambda arpa: lambda: contrastive_search(
        lambda t, s: (TABLE[t], s, TABLE[t]), [0, 1], top_k=4, max_length=8, eos_id=3
    ),
    "contrastive_search, the model breaks": lambda arpa: raising(
        ZeroDivisionError, lambda: contrastive_search(breaking_with_hidden, 0, state=np.zeros((1, 1)))
    ),
    "ctc_greedy": lambda arpa: lambda: ctc_greedy(LOG_PROBS, units=UNITS),
    "ctc_greedy, NaN": lambda arpa: raising(DataError, lambda: ctc_greedy(BAD_VALUE)),
    "ctc_beam_search": lambda arpa: lambda: ctc_beam_search(LOG_PROBS, 30, n_best=9),
    "ctc_beam_search, a batch": lambda arpa: lambda: ctc_beam_search(LOG_PROBS.reshape(4, 10, 5), 30, workers=2),
    "ctc_beam_search, NaN": lambda arpa: raising(DataError, lambda: ctc_beam_search(BAD_VALUE, 30)),
    "ctc_beam_search, a dead frame": lambda arpa: raising(DataError, lambda: ctc_beam_search(DEAD, 30)),
    "ctc_beam_search, wrong blank": lambda arpa: raising(OptionError, lambda: ctc_beam_search(LOG_PROBS, blank=5)),
    "ctc in chunks": lambda arpa: streamed(CTCDecoder(30), LOG_PROBS),
    "ctc in chunks, NaN": lambda arpa: streamed(CTCDecoder(30), BAD_VALUE, DataError),
    "ctc, n-grams": lambda arpa: decoded(CTCDecoder(30, units=UNITS, fusion=CTCFusion(read_arpa(arpa / "whole")))),
    "ctc, label n-grams": lambda arpa: decoded(
        CTCDecoder(30, units=UNITS, fusion=CTCFusion(read_arpa(arpa / "whole"), level="label"))
    ),
    "ctc, hot words": lambda arpa: decoded(CTCDecoder(30, units=UNITS, hot_words=CTCHotWords(["ab a", "c"]))),
    "ctc, a lexicon": lambda arpa: decoded(CTCDecoder(30, units=UNITS, lexicon=CTCLexicon(["a", "ab", "cab"]))),
    "ctc, every scorer": lambda arpa: decoded(every_scorer(arpa)),
    "ctc, every scorer made again": lambda arpa: lambda: every_scorer(arpa).decode(LOG_PROBS),
    "ctc, every scorer in chunks": lambda arpa: streamed(every_scorer(arpa), LOG_PROBS),
    "ctc, every scorer, NaN": lambda arpa: streamed(every_scorer(arpa), BAD_VALUE, DataError),
    "ctc, scorers of the wrong kind": lambda arpa: raising(
        AttributeError, lambda: _ctc.Beam(5, 30, 0, -np.inf, -np.inf, object())
    ),
    "ctc_align": lambda arpa: lambda: ctc_align(LOG_PROBS, [1, 2, 2, 3]),
    "ctc_align, a batch": lambda arpa: lambda: ctc_align(LOG_PROBS.reshape(4, 10, 5), [[1], [2], [], [3]], workers=2),
    "ctc_align, NaN": lambda arpa: raising(DataError, lambda: ctc_align(BAD_VALUE, [1, 2])),
    "ctc_align, no path": lambda arpa: raising(DataError, lambda: ctc_align(DEAD, [1, 2])),
    "viterbi": lambda arpa: lambda: viterbi(SCORES, TABLE[:5, :5], normalize=True),
    "viterbi, n best": lambda arpa: lambda: viterbi(SCORES, TABLE[:5, :5], n_best=9),
    "viterbi, no path": lambda arpa: raising(
        DataError, lambda: viterbi(SCORES, np.full((5, 5), -np.inf), n_best=9)
    ),
    "read_arpa": lambda arpa: lambda: read_arpa(arpa / "whole"),
    "read_arpa, zipped": lambda arpa: lambda: read_arpa(arpa / "zipped"),
    "read_arpa, cut": lambda arpa: raising(FastLSTMError, lambda: read_arpa(arpa / "cut")),
    "read_arpa, cut zip": lambda arpa: raising(FastLSTMError, lambda: read_arpa(arpa / "cut zip")),
    "read_arpa, twice": lambda arpa: raising(DataError, lambda: read_arpa(arpa / "twice")),
    "n-grams out of order": lambda arpa: built_out_of_order,
    "n-gram scores": lambda arpa: scoring(read_arpa(arpa / "whole")),
}
# fmt: on


def scoring(model: NGramModel):
    return lambda: model.score("a ab xyz c")


@pytest.mark.parametrize("name", CALLS_BY_NAME)
def test_nothing_is_kept(name, arpa):
    needs_mallinfo()
    c_grown, python_grown = least_growth(CALLS_BY_NAME[name](arpa))
    assert c_grown < BYTES_A_CALL * CALLS, f"{c_grown / CALLS:.0f} bytes a call are not freed"
    assert python_grown < CALLS, f"{python_grown / CALLS:.1f} Python objects a call are not freed"


def test_a_leak_would_be_seen():
    """One block of 24 bytes a call, the smallest that there is; and one Python object."""
    needs_mallinfo()
    malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
    malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    lost, kept = np.zeros((1 + ROUNDS) * CALLS, np.uintp), []
    place = iter(range(len(lost)))

    def call():
        lost[next(place)] = malloc(24)
        kept.append(object())

    c_grown, python_grown = least_growth(call)
    for pointer in lost.tolist():
        free(pointer)
    assert c_grown >= BYTES_A_CALL * CALLS
    assert python_grown >= CALLS
