"""A language model held to what callers may pass: numbers of NumPy's are taken, all else is refused by name."""

import io
import json

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.text import Corpus
from fastlstm.data.vocabulary import Vocabulary
from fastlstm.errors import DataError, OptionError, ShapeError
from fastlstm.models.generation import GenerationOptions
from fastlstm.models.language_model import LanguageModel
from fastlstm.models.language_options import LanguageModelOptions

TEXT = "the five boxing wizards jump quickly. " * 6
SMALL = {"embedding": 4, "hidden": 6, "layers": 2, "window": 8, "streams": 2, "epochs": 1}


@pytest.fixture(scope="module")
def model():
    return LanguageModel.train(TEXT, **SMALL)


NO_TEXT = [
    (None, "the text is NoneType; expected a str, a path"),
    (5, "the text is int"),
    (b"the five", "the text is bytes; expected a str: decode it"),
    (bytearray(b"the five"), "the text is bytearray"),
    ([b"the five"], "the text is bytes"),
    ([None], "the text is NoneType"),
    (np.arange(3), "the text is int64"),
    (io.StringIO(TEXT), "gives str; expected bytes: open it with mode 'rb'"),
]


@pytest.mark.parametrize(("source", "words"), NO_TEXT, ids=[repr(source)[:20] for source, _ in NO_TEXT])
def test_sources_that_are_no_text(model, source, words):
    with pytest.raises(OptionError, match=words):
        LanguageModel.train(source, **SMALL)
    with pytest.raises(OptionError, match=words):
        model.evaluate(source)


def test_a_file_opened_as_text_is_named(model, tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text(TEXT)
    with path.open() as file, pytest.raises(OptionError, match=r"poem\.txt gives str.*mode 'rb'"):
        model.evaluate(file)


def test_an_encoding_that_is_none(model, tmp_path):
    with pytest.raises(OptionError, match="encoding is None"):
        model.evaluate(io.BytesIO(TEXT.encode()), encoding=None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: LanguageModel(None), "vocabulary is of type NoneType; expected Vocabulary"),
        (lambda m: LanguageModel("abc"), "vocabulary is of type str"),
        (
            lambda m: LanguageModel(m.vocabulary, {"hidden": 3}),
            "options is of type dict; expected Lang",
        ),
        (lambda m: LanguageModel.train(TEXT, {}), "options is of type dict"),
        (lambda m: LanguageModel.train(TEXT, report=3, **SMALL), "report is 3; expected something to call"),
        (lambda m: m.fit(None), "corpus is of type NoneType; expected Corpus, as Corpus.of"),
        (lambda m: m.fit(TEXT), "corpus is of type str"),
        (lambda m: m.fit(TEXT.encode()), "corpus is of type bytes"),
        (lambda m: m.fit(Corpus.of(TEXT), report="x"), "report is 'x'"),
        (lambda m: m.evaluate_encoded(None), "text is of type NoneType; expected EncodedText"),
        (lambda m: m.evaluate_encoded(m.vocabulary.encode(TEXT)), "text is of type ndarray"),
        (lambda m: m.load_state_dict(None), "tensors is of type NoneType; expected Mapping"),
        (lambda m: m.load_state_dict([1]), "tensors is of type list"),
    ],
)
def test_arguments_of_another_kind(model, call, words):
    with pytest.raises(OptionError, match=words):
        call(model)


@pytest.mark.parametrize("prompt", [None, b"the", 5, ["the"], np.array([1])])
def test_prompts_that_are_no_str(model, prompt):
    with pytest.raises(OptionError, match=f"prompt is of type {type(prompt).__name__}; expected str"):
        model.generate(prompt)


@pytest.mark.parametrize("length", [5.0, np.float64(5), "5", None, 0, -1, True])
def test_lengths_that_are_no_whole_number(model, length):
    with pytest.raises(OptionError, match=r"generate: length is .*; expected a whole number, at least 1"):
        model.generate("the", length=length)


@pytest.mark.parametrize("seed", [-1, np.int64(-1), 1.5, "x", [1, 2]])
@pytest.mark.parametrize("method", ["sample", "greedy"])
def test_seeds_that_are_no_whole_number(model, seed, method):
    with pytest.raises(OptionError, match=r"seed is .*; expected a whole number, at least 0"):
        model.generate("the", length=2, seed=seed, method=method)
    with pytest.raises(OptionError, match=r"generate: seed is .*; expected a whole number, at least 0"):
        GenerationOptions(seed=seed)
    with pytest.raises(OptionError, match="options is of type dict"):
        model.generate("the", options={"seed": seed})


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint32])
def test_whole_numbers_of_numpy(model, kind):
    plain = model.generate("the", length=5, options=GenerationOptions(seed=3, top_k=4))
    assert model.generate("the", length=kind(5), seed=kind(3), top_k=kind(4)) == plain
    assert len(model.generate("the", length=kind(3), beam_width=kind(2))) == 3
    assert model.start(kind(2))[0].h.shape == (2, 6)


def test_options_may_be_numpys_and_become_pythons(tmp_path):
    """Else JSON would refuse to save them."""
    given = {name: np.int64(value) for name, value in SMALL.items()}
    given |= {"dropout": np.float32(0.25), "learning_rate": np.float64(0.01), "seed": np.uint8(2), "tied": np.bool_(0)}
    options = LanguageModelOptions(**given)
    plain = LanguageModelOptions(**SMALL, dropout=0.25, learning_rate=0.01, seed=2)
    assert options == plain
    assert json.dumps(options.config()) == json.dumps(plain.config())
    LanguageModel.train(TEXT, options).save(tmp_path / "m")
    assert fl.load(tmp_path / "m").options == plain


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": 5.0}, "hidden is 5.0"),
        ({"hidden": np.float64(5)}, "hidden is 5.0"),
        ({"layers": np.bool_(1)}, "layers is True"),
        ({"seed": -1}, "seed is -1"),
        ({"clip": "x"}, "clip is 'x'"),
        ({"tied": "x"}, "tied is 'x'; expected True or False"),
        ({"schedule": ["linear"]}, r"schedule is \['linear'\]"),
        ({"level": None}, "level is None"),
    ],
)
def test_options_of_another_kind(changes, words):
    with pytest.raises(OptionError, match=words):
        LanguageModelOptions(**changes)


# --- step by step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None])
def test_no_state_for_so_many_sequences(model, count):
    with pytest.raises(OptionError, match=r"count is .*; expected a whole number, at least 1"):
        model.start(count)


@pytest.mark.parametrize("tokens", [[0.5, 1.0], ["a", "b"], None, [0, 99], [-1, 0], np.ma.array([0, 1], mask=[0, 1])])
def test_tokens_that_are_no_ids(model, tokens):
    with pytest.raises(DataError, match=r"step: tokens|outside the vocabulary"):
        model.step(tokens, model.start(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda m: None,
        lambda m: 5,
        lambda m: (),
        lambda m: m.start(2)[0],
        lambda m: m.start(3),
        lambda m: m.start(2)[:1],
        lambda m: m.start(2) * 2,
        lambda m: LanguageModel(m.vocabulary, hidden=5, layers=2).start(2),
    ],
)
def test_states_of_another_kind_or_number(model, make):
    with pytest.raises(ShapeError, match=r"expected h and c of shape \(2, 6\) for each of 2 layers: what start\(2\)"):
        model.step([0, 1], make(model))


def test_tensors_that_hold_no_numbers(model):
    tensors, before = model.state_dict(), model.state_dict()
    tensors["output.bias"] = np.full(len(tensors["output.bias"]), "x")
    with pytest.raises(DataError, match=r"output\.bias has dtype <U1"):
        model.load_state_dict(tensors)
    for name, value in model.state_dict().items():
        assert (value == before[name]).all()


# --- texts and vocabularies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, 5, b"abc", [b"x"], [1], np.array([1])])
@pytest.mark.parametrize("level", ["char", "word"])
def test_a_vocabulary_reads_strings_only(text, level):
    vocabulary = Vocabulary(("a", "b"), level, unknown=0)
    for call in (vocabulary.encode, lambda given: Corpus.of(given, level)):
        with pytest.raises(OptionError, match=r"the text (is|holds) .*expected a str, or several"):
            call(text)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"held_out": "x"}, "held_out is 'x'"),
        ({"held_out": None}, "held_out is None"),
        ({"min_count": 1.5}, "min_count is 1.5"),
        ({"max_size": "x"}, "max_size is 'x'"),
        ({"max_size": 1}, "max_size is 1; expected a whole number, at least 2"),
        ({"level": ["char"]}, r"level is \['char'\]"),
    ],
)
def test_options_of_a_corpus(options, words):
    with pytest.raises(OptionError, match=words):
        Corpus.of(TEXT, **options)


@pytest.mark.parametrize(
    ("tokens", "unknown", "words"),
    [
        (None, None, "tokens holds None; expected strings"),
        ((1, 2), None, "tokens holds 1"),
        (("a", b"b"), None, "tokens holds b'b'"),
        (("a",), "x", "unknown is 'x'"),
        (("a",), 0.0, "unknown is 0.0"),
        (("a",), 1, "unknown is 1; expected an id, 0 to 0"),
    ],
)
def test_what_is_no_vocabulary(tokens, unknown, words):
    with pytest.raises(OptionError, match=words):
        Vocabulary(tokens, unknown=unknown)


def test_a_vocabulary_of_a_list_equals_that_of_a_tuple():
    assert Vocabulary(["a", "b"]) == Vocabulary(("a", "b"))
    assert hash(Vocabulary(["a", "b"])) == hash(Vocabulary(("a", "b")))
