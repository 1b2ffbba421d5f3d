from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastlstm.data.vocabulary import BLOCK, Vocabulary, split_words
from fastlstm.errors import DataError, OptionError, VocabularyError

PROSE = st.text(alphabet=st.sampled_from("ab'’é9_ \n\t.,<>☃𝔘"), max_size=60)


@given(PROSE)
@example("  indented\n\n\tand 'quoted' don't  ")
def test_word_tokens_joined_are_the_text(text):
    assert "".join(token for tokens in split_words(text) for token in tokens) == text


@given(PROSE, st.lists(st.integers(0, 60), max_size=6))
def test_where_a_text_is_cut_into_blocks_changes_no_word(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    blocks = [text[start:stop] for start, stop in pairwise(edges)]
    whole = [token for tokens in split_words(text) for token in tokens]
    assert [token for tokens in split_words(blocks) for token in tokens] == whole


def test_word_tokens_keep_the_blank_before_them_and_no_token_spans_a_line():
    tokens = [token for tokens in split_words("It isn't\n  so, (yes)!  \n") for token in tokens]
    assert tokens == ["It", " isn't", "\n", " ", " so", ",", " (", "yes", ")", "!", " ", " ", "\n"]


@given(st.text(min_size=1), st.sampled_from(["char", "word"]))
def test_round_trip(text, level):
    tokens = text if level == "char" else [token for tokens in split_words(text) for token in tokens]
    vocabulary = Vocabulary(tuple(dict.fromkeys(tokens)), level)
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_a_text_longer_than_a_block_is_encoded_like_its_parts():
    text = "spam and eggs, " * (BLOCK // 10)
    vocabulary = Vocabulary.of_counts({"spam": 1, " spam": 1, " and": 1, " eggs": 1, ",": 1}, "word")
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text[:-1] + "<unk>"
    np.testing.assert_array_equal(ids, vocabulary.encode([text[:7], text[7:100_000], text[100_000:]]))


@pytest.mark.parametrize(("size", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16), (65_537, np.uint32)])
def test_ids_have_the_smallest_type(size, dtype):
    points = [chr(point) for point in range(0x20, 0x20 + size + 0x800) if not 0xD800 <= point < 0xE000][:size]
    vocabulary = Vocabulary(tuple(points))
    ids = vocabulary.encode(points[-1] + points[0])
    assert ids.dtype == dtype
    assert ids.tolist() == [size - 1, 0]


def test_an_empty_text_has_no_ids():
    vocabulary = Vocabulary(("a",))
    assert vocabulary.encode("").tolist() == []
    assert vocabulary.encode([]).tolist() == []
    assert vocabulary.decode([]) == ""


def test_characters_that_the_vocabulary_lacks_are_named():
    with pytest.raises(VocabularyError, match=r"2 characters that the vocabulary lacks: 'é', '☃'; .* only the 3"):
        Vocabulary(tuple("abc")).encode("a☃bé☃")


def test_words_that_the_vocabulary_lacks_become_the_unknown_token_and_are_counted():
    vocabulary = Vocabulary.of_counts({"It": 2, " is": 3, " rare": 1}, "word", min_count=2)
    text = vocabulary.encode_text("It is rare is")
    assert vocabulary.decode(text.ids) == "It is<unk> is"
    assert (text.characters, text.unknown) == (13, 1)


def test_the_literal_text_of_the_unknown_token_is_no_token():
    assert "<unk>" not in [token for tokens in split_words("a <unk> <unk>") for token in tokens]


def test_the_most_frequent_tokens_come_first_and_ties_by_their_text():
    counts = {"d": 1, "b": 5, "c": 5, "a": 1}
    assert Vocabulary.of_counts(counts).tokens == ("b", "c", "a", "d")
    assert Vocabulary.of_counts(counts, max_size=3) == Vocabulary(("�", "b", "c"), unknown=0)
    assert Vocabulary.of_counts(counts, max_size=4).tokens == ("b", "c", "a", "d")
    assert Vocabulary.of_counts(counts, min_count=2).tokens == ("�", "b", "c")


def test_a_replacement_character_in_the_text_is_the_unknown_token():
    vocabulary = Vocabulary.of_counts({"a": 3, "�": 2, "b": 1}, min_count=2)
    assert vocabulary == Vocabulary(("�", "a"), unknown=0)
    assert vocabulary.encode("a�b").tolist() == [1, 0, 0]


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.booleans())
def test_config_round_trip(tokens, unknown):
    vocabulary = Vocabulary(tuple(tokens), "word", unknown=0 if unknown else None)
    assert Vocabulary.from_config(vocabulary.config()) == vocabulary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": ()}, "no tokens"),
        ({"tokens": ("a", "b", "a")}, "more than once"),
        ({"tokens": ("a",), "level": "line"}, "level is 'line'"),
        ({"tokens": ("a",), "unknown": 1}, "unknown is 1"),
    ],
)
def test_impossible_vocabularies(arguments, message):
    with pytest.raises(OptionError, match=message):
        Vocabulary(**arguments)


@pytest.mark.parametrize(
    ("limits", "words"), [({"min_count": 0}, "min_count is 0"), ({"max_size": 1}, "max_size is 1")]
)
def test_impossible_limits(limits, words):
    with pytest.raises(OptionError, match=words):
        Vocabulary.of_counts({"a": 1}, **limits)


@pytest.mark.parametrize(("ids", "message"), [([0, 2], "0 to 2"), ([-1], "-1"), ([0.5], "float64")])
def test_ids_that_decode_to_nothing(ids, message):
    with pytest.raises(DataError, match=message):
        Vocabulary(("a", "b")).decode(ids)


@pytest.mark.parametrize("level", ["char", "word"])
def test_counts_that_are_all_too_small(level):
    with pytest.raises(DataError, match="min_count is 4, but no token occurs as often: 'b' occurs 3 times"):
        Vocabulary.of_counts({"a": 1, "b": 3}, level, min_count=4)


def test_masked_ids_are_refused():
    with pytest.raises(DataError, match="decode: ids is a masked array, 1 of its 2 values masked"):
        Vocabulary(tuple("ab")).decode(np.ma.array([0, 1], mask=[True, False]))
