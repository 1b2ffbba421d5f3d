"""Language models, lexicons and hot words inside the beam, against the textbook search with a bonus per prefix."""

import itertools
import math

import numpy as np
import pytest

from fastlstm.decode.arpa import read_arpa
from fastlstm.decode.ctc import CTCDecoder, CTCFusion, CTCHotWords, CTCLexicon, CTCUnits, ctc_beam_search
from fastlstm.errors import OptionError
from tests.naive import ctc as naive

CHARACTERS = CTCUnits(["", " ", "a", "b", "c"], delimiter=" ")
PIECES = CTCUnits(["", "▁a", "b", "▁", "ab", "▁c", "c"], word_start="▁")
WORDS = ["a", "ab", "abc", "ba", "c", "cab"]
LN10 = math.log(10.0)


@pytest.fixture
def ngrams():
    return naive.random_ngrams(np.random.default_rng(5), WORDS, order=3, per_order=12)


@pytest.fixture
def model(tmp_path, ngrams):
    path = tmp_path / "words.arpa"
    path.write_text(naive.write_arpa(ngrams))
    return read_arpa(path)


def matrices(units, count=25, frames=10):
    rng = np.random.default_rng(11)
    for number in range(count):
        scores = rng.normal(size=(frames, len(units.labels))) * (1.0, 3.0)[number % 2]
        yield scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def words_of(units, ids):
    """Return (whole words, the unfinished last one or "")."""
    text = "".join(units.labels[label] for label in ids)
    if units.delimiter:
        *whole, last = text.split(units.delimiter)
    else:
        *whole, last = text.split(units.word_start)
    return [word for word in whole if word], last


def assert_equals_textbook(decoder, units, bonus, end_bonus, width=6):
    different = 0
    for log_probs in matrices(units):
        expected = [
            (ids, logprob, logprob + bonus(ids) + end_bonus(ids))
            for ids, logprob, _ in naive.prefix_beam(log_probs, width, bonus=bonus)
        ]
        expected = sorted((e for e in expected if e[2] > -math.inf), key=lambda e: -e[2])
        found = decoder.decode(log_probs, n_best=width)
        assert [h.ids for h in found] == [ids for ids, _, _ in expected]
        np.testing.assert_allclose([h.score for h in found], [s for _, _, s in expected], rtol=0, atol=1e-4)
        np.testing.assert_allclose([h.logprob for h in found], [p for _, p, _ in expected], rtol=0, atol=1e-4)
        plain = ctc_beam_search(log_probs, width, n_best=width)
        different += [h.ids for h in found] != [h.ids for h in plain]
        # Any cut gives the same bits with every scorer, too.
        stream = decoder.stream()
        for first, last in itertools.pairwise([0, 1, 4, 5, 9, len(log_probs)]):
            stream.push(log_probs[first:last])
            stream._beam.check()
        assert stream.finish(width) == found
    assert different > 5


def word_bonus(ngrams, units, alpha, beta, unk, lexicon=None):
    """Return the bonus of a prefix and of its end, by the definition in ``CTCFusion``."""
    known = {word for (word,) in (gram for gram in ngrams if len(gram) == 1) if not word.startswith("<")}
    allowed = known if lexicon is None else set(lexicon)

    def language(words):
        scores = naive.katz(ngrams, words)
        extra = sum(unk for word in words if word.rstrip("?") not in known) if unk else 0.0
        return alpha * LN10 * sum(scores) + beta * len(words) + extra

    def bonus(ids):
        whole, part = words_of(units, ids)
        if lexicon is not None and (
            not set(whole) <= allowed or (part and not any(word.startswith(part) for word in allowed))
        ):
            return -math.inf
        lost = unk if lexicon is None and part and not any(word.startswith(part) for word in known) else 0.0
        return language(whole) + lost

    def end_bonus(ids):
        whole, part = words_of(units, ids)
        if part and lexicon is not None and part not in allowed:
            return -math.inf
        every = [*whole, part] if part else whole
        return language(every) + alpha * LN10 * naive.katz(ngrams, [*every, "</s>"])[-1] - bonus(ids)

    return bonus, end_bonus


@pytest.mark.parametrize("units", [CHARACTERS, PIECES], ids=["characters", "pieces"])
@pytest.mark.parametrize(("alpha", "beta", "unk"), [(0.5, 1.5, -10.0), (1.3, -0.5, -2.0), (0.0, 2.0, 0.0)])
def test_word_fusion_equals_the_textbook(model, ngrams, units, alpha, beta, unk):
    decoder = CTCDecoder(6, units=units, fusion=CTCFusion(model, alpha, beta, unk))
    assert_equals_textbook(decoder, units, *word_bonus(ngrams, units, alpha, beta, unk))


@pytest.mark.parametrize("units", [CHARACTERS, PIECES], ids=["characters", "pieces"])
def test_lexicon_with_fusion_equals_the_textbook(model, ngrams, units):
    lexicon = ["a", "ab", "cab", "bac"]  # the model lacks the last
    decoder = CTCDecoder(6, units=units, fusion=CTCFusion(model, 0.5, 1.5, -4.0), lexicon=CTCLexicon(lexicon))
    assert_equals_textbook(decoder, units, *word_bonus(ngrams, units, 0.5, 1.5, -4.0, lexicon))


def test_lexicon_alone_lets_nothing_else_out():
    lexicon = ["abc", "cab"]
    decoder = CTCDecoder(50, units=CHARACTERS, lexicon=CTCLexicon(lexicon))
    seen = set()
    for log_probs in matrices(CHARACTERS):
        for hypothesis in decoder.decode(log_probs, n_best=50):
            words = hypothesis.text.split()
            assert set(words) <= set(lexicon)
            assert [word.text for word in hypothesis.words] == words
            seen |= set(words)
    assert seen == set(lexicon)


def test_no_whole_word_gives_an_empty_list():
    log_probs = np.log(np.full((2, 5), 1e-9))
    log_probs[:, 2] = -1e-6
    log_probs[:, :2] = -np.inf
    decoder = CTCDecoder(4, units=CHARACTERS, lexicon=CTCLexicon(["abc"]))
    assert decoder.decode(log_probs) == []
    stream = decoder.stream()
    stream.push(log_probs)
    assert stream.results()[0].text == "a"


def test_a_pronunciation_lexicon_names_the_word(model):
    phones = CTCUnits(["", "|", "K", "AE", "T", "S"], delimiter="|")
    lexicon = CTCLexicon({"cat": ["K", "AE", "T"], "kat": ["K", "AE", "T"], "sat": ["S", "AE", "T"]})
    path = [2, 2, 3, 4, 0, 1, 5, 3, 4]
    log_probs = np.log(np.where(np.eye(6)[path] > 0, 0.9, 0.02))
    best = ctc_beam_search(log_probs, units=phones, lexicon=lexicon)[0]
    assert best.text == "cat sat"
    assert [(word.text, word.start, word.end) for word in best.words] == [("cat", 0, 4), ("sat", 6, 9)]
    assert best.words[0].confidence == pytest.approx(0.9)


def test_label_fusion_equals_the_textbook(tmp_path):
    ngrams = naive.random_ngrams(np.random.default_rng(8), ["a", "b", "|"], order=3, per_order=9)
    path = tmp_path / "labels.arpa"
    path.write_text(naive.write_arpa(ngrams))
    units = CTCUnits(["", "|", "a", "b", "c"], delimiter="|")  # the model lacks "c"
    decoder = CTCDecoder(6, units=units, fusion=CTCFusion(read_arpa(path), 0.7, 0.8, level="label"))

    def bonus(ids):
        return 0.7 * LN10 * sum(naive.katz(ngrams, [units.labels[label] for label in ids])) + 0.8 * len(ids)

    def end_bonus(ids):
        return 0.7 * LN10 * naive.katz(ngrams, [*(units.labels[label] for label in ids), "</s>"])[-1]

    assert_equals_textbook(decoder, units, bonus, end_bonus)


HOT = {"ab": 3.0, "ab c": 5.0, "cab": 2.0, "b": 1.0}


def hot_bonus(units, ids, final=False):
    """Whole phrases between word boundaries earn their weight; the longest beginning of one is lent its share."""
    text = "_"
    for label in ids:
        text += "_" if units.is_delimiter(label) or units.starts_word(label) else ""
        text += units.spelling(label)
    text += "_" if final else ""
    phrases = {"_" + phrase.replace(" ", "_") + "_": weight for phrase, weight in HOT.items()}
    earned = sum(weight for end in range(len(text)) for p, weight in phrases.items() if text[: end + 1].endswith(p))
    for tail in (text[first:] for first in range(len(text)) if not final):
        begun = [p for p in phrases if p.startswith(tail)]
        if begun:
            return earned + max((phrases[p] * (len(tail) - 1) / len(p) for p in begun if p != tail), default=0.0)
    return earned


@pytest.mark.parametrize("units", [CHARACTERS, PIECES], ids=["characters", "pieces"])
def test_hot_words_equal_the_textbook(units):
    decoder = CTCDecoder(6, units=units, hot_words=CTCHotWords(HOT))
    assert_equals_textbook(
        decoder,
        units,
        lambda ids: hot_bonus(units, ids),
        lambda ids: hot_bonus(units, ids, final=True) - hot_bonus(units, ids),
    )


def test_everything_at_once_equals_the_textbook(model, ngrams):
    lexicon = [*WORDS, "bb"]
    decoder = CTCDecoder(
        6,
        units=CHARACTERS,
        fusion=CTCFusion(model, 0.5, 1.0, -3.0),
        lexicon=CTCLexicon(lexicon),
        hot_words=CTCHotWords(HOT),
    )
    bonus, end_bonus = word_bonus(ngrams, CHARACTERS, 0.5, 1.0, -3.0, lexicon)
    assert_equals_textbook(
        decoder,
        CHARACTERS,
        lambda ids: bonus(ids) + hot_bonus(CHARACTERS, ids),
        lambda ids: end_bonus(ids) + hot_bonus(CHARACTERS, ids, final=True) - hot_bonus(CHARACTERS, ids),
    )


def test_hot_words_turn_the_decision():
    log_probs = np.log(np.array([[0.1, 0.1, 0.6, 0.1, 0.1], [0.1, 0.1, 0.1, 0.3, 0.4]]))
    assert ctc_beam_search(log_probs, units=CHARACTERS)[0].text == "ac"
    assert ctc_beam_search(log_probs, units=CHARACTERS, hot_words=CTCHotWords(["ab"], 2.0))[0].text == "ab"
    assert ctc_beam_search(log_probs, units=CHARACTERS, hot_words=CTCHotWords(["abc"], 9.0))[0].text == "ac"


def test_hot_words_without_word_boundaries_match_anywhere():
    bases = CTCUnits(["", "A", "C", "G", "T"])
    path = [1, 2, 0, 3, 4]
    probs = np.where(np.eye(5)[path] > 0, 0.4, 0.15)
    assert ctc_beam_search(np.log(probs), units=bases, hot_words=CTCHotWords(["CT"], 30.0))[0].text.count("CT")


@pytest.mark.filterwarnings("ignore")
def test_fusion_finds_what_pyctcdecode_finds(model, tmp_path, ngrams):
    """Both find the same text where two habits of pyctcdecode, not ours, do not come into play.

    That it ranks the halves of a prefix apart (bench/ctc_agreement.py) hardly shows at beam 100. And at the end of the
    input it scores the empty word after a trailing space as an unknown one, and hands that score to every beam of the
    same text; so here no space is likely but between the words.
    """
    peer = pytest.importorskip("pyctcdecode")
    pytest.importorskip("kenlm")
    path = tmp_path / "again.arpa"
    path.write_text(naive.write_arpa(ngrams))
    theirs = peer.build_ctcdecoder(
        list(CHARACTERS.labels), str(path), unigrams=WORDS, alpha=0.5, beta=1.5, unk_score_offset=-4.0
    )
    # Theirs scales the penalty of an unknown word as if it were log10: -4 * ln 10 * alpha.
    fusion = CTCFusion(model, 0.5, 1.5, unk_score=-4.0 * LN10 * 0.5)
    ours = CTCDecoder(100, units=CHARACTERS, fusion=fusion)
    rng = np.random.default_rng(2)
    same, count = 0, 60
    for _ in range(count):
        spoken = " ".join(WORDS[int(i)] for i in rng.integers(len(WORDS), size=3))
        path_ids = [label for c in spoken for label in (CHARACTERS.labels.index(c), 0)]
        scores = np.where(np.eye(5)[path_ids] > 0, 4.0, 0.0) + rng.normal(size=(len(path_ids), 5))
        scores[np.array(path_ids) != 1, 1] -= 12.0
        log_probs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        text = theirs.decode(log_probs, beam_width=100, beam_prune_logp=-1e9, token_min_logp=-1e9)
        same += text == ours.decode(log_probs)[0].text
    assert same >= 0.95 * count


RUNS = ["A" * count for count in range(1, 8)]

BAD_OPTIONS = [
    ("need units", lambda m: CTCDecoder(fusion=CTCFusion(m))),
    ("need word boundaries", lambda m: CTCDecoder(units=CTCUnits(["", "a"]), fusion=CTCFusion(m))),
    ("need word boundaries", lambda m: CTCDecoder(units=CTCUnits(["", "a"]), lexicon=CTCLexicon(["a"]))),
    ("spell no word", lambda m: CTCDecoder(units=CTCUnits(["", " ", "X"], delimiter=" "), fusion=CTCFusion(m))),
    ("give read_arpa", lambda m: CTCFusion("words.arpa")),
    ("alpha is nan", lambda m: CTCFusion(m, alpha=math.nan)),
    ("alpha >= 0", lambda m: CTCFusion(m, alpha=-1.0)),
    ("unk_score <= 0", lambda m: CTCFusion(m, unk_score=1.0)),
    ("level is 'char'", lambda m: CTCFusion(m, level="char")),
    ("phrases is one str", lambda m: CTCHotWords("ab")),
    ("no phrase", lambda m: CTCHotWords([" "])),
    ("from 0 to 100", lambda m: CTCHotWords({"ab": 1000.0})),
    ("characters that no label has", lambda m: CTCDecoder(units=CHARACTERS, hot_words=CTCHotWords(["zoo"]))),
    ("words is one str", lambda m: CTCLexicon("ab")),
    ("at least one word", lambda m: CTCLexicon([])),
    ("characters that no label has", lambda m: CTCDecoder(units=CHARACTERS, lexicon=CTCLexicon(["zoo"]))),
    ("spell it by labels", lambda m: CTCDecoder(units=CHARACTERS, lexicon=CTCLexicon({"a": ["q"]}))),
    ("could earn 700", lambda m: CTCDecoder(units=CTCUnits(["", "A"]), hot_words=CTCHotWords(RUNS, 100.0))),
]


@pytest.mark.parametrize(("message", "call"), BAD_OPTIONS)
def test_options_that_do_not_fit_are_named(model, message, call):
    with pytest.raises(OptionError, match=message):
        call(model)
