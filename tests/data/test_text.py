import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.data.text import Corpus, default_text, read_blocks
from fastlstm.data.vocabulary import Vocabulary
from fastlstm.errors import DataError, OptionError


def read(*source, **options):
    return "".join(read_blocks(*source, **options))


@given(st.text(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]))
def test_any_text_is_read_back_in_any_encoding(text, encoding):
    text = text.replace("\r", "").replace("\ufeff", "")
    assert read(io.BytesIO(text.encode(encoding)), encoding=encoding) == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_longer_than_a_block(tmp_path, encoding):
    text = "aé☃𝔘\n" * 30_000
    path = tmp_path / "long.txt"
    path.write_bytes(("\ufeff" * (encoding == "utf-8") + text).encode(encoding))
    blocks = list(read_blocks(path, encoding))
    assert len(blocks) > 1
    assert "".join(blocks) == text


def test_line_ends_become_newlines():
    assert read(io.BytesIO(b"a\r\nb\rc\n")) == "a\nb\nc\n"


def test_a_str_is_a_path_where_there_is_such_a_file_and_else_the_text(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("from the file")
    assert read(str(path)) == "from the file"
    assert read(str(path) + "\n") == str(path) + "\n"
    assert read("no such file") == "no such file"


def test_several_files_are_one_text(tmp_path):
    (tmp_path / "a").write_bytes(b"one ")
    (tmp_path / "b").write_bytes(b"two")
    assert read([str(tmp_path / "a"), tmp_path / "b", io.BytesIO(b" three")]) == "one two three"


def test_in_a_list_a_str_is_a_path(tmp_path):
    with pytest.raises(FileNotFoundError):
        read([str(tmp_path / "none")])


@pytest.mark.parametrize("before", [b"ab", b"\xef\xbb\xbfab", b"x" * 65_534 + b"\xe2\x98", b"x" * 200_001])
def test_the_wrong_encoding_names_file_and_place(tmp_path, before):
    path = tmp_path / "latin.txt"
    path.write_bytes(before.replace(b"\xe2\x98", b"\xe2\x98\x83") + b"\xe9t\xe9")
    place = len(before) + before.count(b"\xe2\x98")
    with pytest.raises(DataError, match=rf"latin\.txt is not utf-8: byte 0xe9 at {place} .* latin-1"):
        read(path)
    assert read(path, encoding="latin-1").endswith("été")


def test_a_character_cut_off_at_the_end():
    with pytest.raises(DataError, match="byte 0xe2 at 3"):
        read(io.BytesIO(b"abc\xe2\x98"))


@pytest.mark.parametrize("encoding", ["utf-9", "hex", "rot13"])
def test_no_such_text_encoding(encoding):
    with pytest.raises(OptionError, match=encoding):
        read(io.BytesIO(b"abc"), encoding=encoding)


def test_the_default_text_is_the_language_reference():
    text = default_text()
    assert len(text) > 400_000
    assert "Yield expressions" in text
    assert text == default_text()


@given(
    st.text(alphabet="ab c\n'é", min_size=1, max_size=50),
    st.integers(1, 7),
    st.sampled_from(["char", "word"]),
    st.floats(0, 0.9),
)
def test_a_corpus_is_the_text_in_order_however_it_is_cut(text, block, level, share):
    blocks = [text[start : start + block] for start in range(0, len(text), block)]
    corpus, whole = Corpus.of(blocks, level, held_out=share), Corpus.of(text, level, held_out=share)
    assert corpus.vocabulary == whole.vocabulary
    for part, of_whole in ((corpus.train, whole.train), (corpus.held_out, whole.held_out)):
        np.testing.assert_array_equal(part.ids, of_whole.ids)
        assert (part.characters, part.unknown) == (of_whole.characters, of_whole.unknown)
    assert corpus.train.characters + corpus.held_out.characters == len(text)
    assert len(corpus.held_out.ids) == round(share * (len(corpus.train.ids) + len(corpus.held_out.ids)))
    # Its own vocabulary encodes the text to the same ids.
    np.testing.assert_array_equal(
        corpus.vocabulary.encode(text), np.concatenate([corpus.train.ids, corpus.held_out.ids])
    )
    if level == "char":
        assert corpus.vocabulary.decode(corpus.train.ids) == text[: corpus.train.characters]


def test_a_vocabulary_with_an_unknown_token_learns_nothing_from_the_held_out_part():
    corpus = Corpus.of("a a a b b zebra", "word", held_out=1 / 6)
    assert corpus.vocabulary == Vocabulary(("<unk>", " a", " b", "a"), "word", unknown=0)
    assert corpus.held_out.ids.tolist() == [0]
    assert (corpus.held_out.characters, corpus.held_out.unknown, corpus.train.unknown) == (6, 1, 0)


def test_a_strict_vocabulary_has_every_character_of_the_text():
    corpus = Corpus.of("aaabz", held_out=0.2)
    assert corpus.vocabulary == Vocabulary(("a", "b", "z"))
    assert corpus.held_out.ids.tolist() == [2]


@pytest.mark.parametrize("text", ["", [], ["", ""]])
def test_an_empty_text(text):
    with pytest.raises(DataError, match="empty"):
        Corpus.of(text)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share(share):
    with pytest.raises(OptionError, match="held_out"):
        Corpus.of("abc", held_out=share)


def test_a_large_file_is_never_held_whole(tmp_path):
    path = tmp_path / "large.txt"
    path.write_text("Sphinx of black quartz, judge my vow!\n" * 100_000)  # 3.8 MB
    tracemalloc.start()
    corpus = Corpus.of(read_blocks(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert corpus.train.ids.dtype == np.uint8
    assert len(corpus.train.ids) + len(corpus.held_out.ids) == 3_800_000
    assert peak < 3 * 3_800_000
