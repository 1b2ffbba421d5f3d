"""n-gram models: ARPA text in, scores out, equal to the definition of Katz back-off and to KenLM."""

import gzip
import pickle

import numpy as np
import pytest

from fastlstm.decode.arpa import read_arpa
from fastlstm.errors import DataError, ModelFileError
from tests.naive import ctc as naive

WORDS = ["a", "bee", "sea", "дом", "e\u00a0f", "gee"]

TINY = {
    ("<unk>",): (-2.0, 0.0),
    ("<s>",): (-99.0, -0.5),
    ("</s>",): (-0.7, 0.0),
    ("a",): (-0.4, -0.3),
    ("b",): (-0.6, -0.2),
    ("<s>", "a"): (-0.1, -0.4),
    ("a", "b"): (-0.2, -0.1),
    ("<s>", "a", "b"): (-0.05, 0.0),
}


def written(path, ngrams, zipped=False):
    text = naive.write_arpa(ngrams).encode()
    path.write_bytes(gzip.compress(text) if zipped else text)
    return path


def sentences(rng, count, words, longest=8):
    return [[words[int(i)] for i in rng.integers(len(words), size=rng.integers(0, longest))] for _ in range(count)]


@pytest.mark.parametrize("closed", [True, False], ids=["all contexts listed", "contexts pruned"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_scores_equal_the_definition(tmp_path, rng, order, closed):
    ngrams = naive.random_ngrams(rng, WORDS, order, per_order=60, closed=closed)
    model = read_arpa(written(tmp_path / "m.arpa", ngrams))
    assert model.order == order
    assert len(model) == len(WORDS) + 3
    for words in sentences(rng, 200, [*WORDS, "never", "seen"]):
        expected = naive.katz(ngrams, [*words, "</s>"])
        np.testing.assert_allclose(model.word_scores(words), expected, rtol=0, atol=1e-5)
        expected = naive.katz(ngrams, words, start=())
        np.testing.assert_allclose(model.word_scores(words, begin=False, end=False), expected, rtol=0, atol=1e-5)


def test_scores_equal_kenlm_on_1000_sentences(tmp_path, rng):
    kenlm = pytest.importorskip("kenlm")
    compared = 0
    for order in (2, 3, 4):
        ngrams = naive.random_ngrams(rng, WORDS, order, per_order=150)
        if order == 4:
            del ngrams["<unk>",]
        path = written(tmp_path / f"{order}.arpa", ngrams)
        ours, theirs = read_arpa(path), kenlm.Model(str(path))
        for words in sentences(rng, 400, [*WORDS, "unheard-of"], longest=12):
            for begin, end in ((True, True), (False, True), (True, False)):
                expected = theirs.score(" ".join(words), bos=begin, eos=end)
                assert abs(ours.score(words, begin, end) - expected) < 1e-4, words
            compared += 1
    assert compared >= 1000


def test_gzip_gives_the_same_model(tmp_path):
    plain = read_arpa(written(tmp_path / "m.arpa", TINY))
    zipped = read_arpa(written(tmp_path / "m.arpa.gz", TINY, zipped=True))
    assert plain.score("a b a nobody") == zipped.score("a b a nobody")


def test_a_known_sentence(tmp_path):
    model = read_arpa(written(tmp_path / "m.arpa", TINY))
    # p(a | <s>) + p(b | <s> a) + backoff(a b) + backoff(b) + p(</s>)
    assert model.score("a b") == pytest.approx(-0.1 - 0.05 - 0.1 - 0.2 - 0.7, abs=1e-6)
    assert "a" in model
    assert "c" not in model


def test_words_keep_their_no_break_spaces(tmp_path):
    ngrams = {("<s>",): (-1.0, 0.0), ("</s>",): (-1.0, 0.0), ("e\u00a0f",): (-0.5, 0.0)}
    assert "e\u00a0f" in read_arpa(written(tmp_path / "m.arpa", ngrams))


def test_pickles(tmp_path):
    model = read_arpa(written(tmp_path / "m.arpa", TINY))
    assert pickle.loads(pickle.dumps(model)).score("a b") == model.score("a b")


def test_a_preamble_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "m.arpa"
    path.write_text(naive.write_arpa(TINY, comment="made by hand").replace("\n", "\r\n"), newline="")
    assert read_arpa(path).score("a b") == read_arpa(written(tmp_path / "n.arpa", TINY)).score("a b")


GARBLED = {
    "no data": (lambda t: t.replace("\\data\\", ""), "line 20: the file ends without a .data. line"),
    "count": (lambda t: t.replace("ngram 2=2", "ngram 2=x"), "line 3: found 'ngram 2=x'"),
    "gap in orders": (lambda t: t.replace("ngram 2=2", "ngram 4=2"), "line 3: .*expected the count of 2-grams"),
    "too few": (lambda t: t.replace("ngram 1=5", "ngram 1=6"), "line 13: the section has 5 1-grams"),
    "section name": (lambda t: t.replace("\\2-grams:", "\\7-grams:"), "line 13: found .*expected .*2-grams:"),
    "no number": (lambda t: t.replace("-0.4\ta", "zero\ta"), "line 10: 'zero' is no log10 probability"),
    "positive": (lambda t: t.replace("-0.4\ta", "0.4\ta"), "line 10: the log10 probability is 0.4"),
    "nan": (lambda t: t.replace("-0.4\ta", "nan\ta"), "line 10: 'nan' is no"),
    "infinite back-off": (lambda t: t.replace("a\t-0.3", "a\tinf"), "line 10: 'inf' is no back-off"),
    "too few fields": (lambda t: t.replace("-0.2\ta b\t-0.1", "-0.2\ta"), "line 15: found .*2 words"),
    "word twice": (lambda t: t.replace("-0.6\tb", "-0.6\ta"), "line 11: the unigram 'a' stands here again"),
    "n-gram twice": (lambda t: t.replace("-0.2\ta b", "-0.2\t<s> a"), "line 15: this 2-gram stands in the file twice"),
    "unknown word": (lambda t: t.replace("-0.2\ta b", "-0.2\ta c"), "line 15: 'c' is no unigram"),
    "no end": (lambda t: t.replace("\\end\\", ""), "the file ends among its 3-grams"),
    "one order more": (lambda t: t.replace("\\end\\", "\\4-grams:\n\\end\\"), "expected .end. after the announced"),
    "empty": (lambda t: "", "line 0: the file ends without"),
}


@pytest.mark.parametrize("name", GARBLED)
def test_errors_name_the_line(tmp_path, name):
    garble, message = GARBLED[name]
    path = tmp_path / "m.arpa"
    text = naive.write_arpa(TINY)
    path.write_text(garble(text))
    assert garble(text) != text
    with pytest.raises(DataError, match=message):
        read_arpa(path)


def test_other_encodings_are_named(tmp_path):
    path = tmp_path / "m.arpa"
    path.write_bytes(naive.write_arpa(TINY).encode().replace(b"-0.6\tb", b"-0.6\t\xe9").replace(b"a b", b"a \xe9"))
    with pytest.raises(DataError, match=r"line 11: .*not UTF-8"):
        read_arpa(path)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be opened"):
        read_arpa(tmp_path / "none.arpa")
    with pytest.raises(ModelFileError, match="cannot be opened"):
        read_arpa(tmp_path)
    data = gzip.compress(naive.write_arpa(TINY).encode())
    (tmp_path / "cut.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match="damaged after line"):
        read_arpa(tmp_path / "cut.gz")


def read_or_message(path):
    try:
        return read_arpa(path), ""
    except (DataError, ModelFileError) as error:
        return None, str(error)


@pytest.mark.parametrize("zipped", [False, True])
def test_cut_or_garbled_at_every_byte(tmp_path, rng, zipped):
    """Whatever stands in the file: a named error, or a model whose every score is a number."""
    whole = written(tmp_path / "m.arpa", TINY, zipped).read_bytes()
    path = tmp_path / "hostile.arpa"
    errors = 0
    for place in range(len(whole)):
        noise = bytes([int(rng.integers(256))])
        for content in (whole[:place], whole[:place] + noise + whole[place + 1 :]):
            path.write_bytes(content)
            model, message = read_or_message(path)
            if model is None:
                assert "hostile.arpa" in message
                errors += 1
            else:
                assert np.isfinite(model.word_scores("a b c </s> a b")).all()
    assert errors >= len(whole)
