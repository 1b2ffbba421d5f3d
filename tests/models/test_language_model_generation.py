from itertools import pairwise

import numpy as np
import pytest

from fastlstm.errors import OptionError, VocabularyError
from fastlstm.models.generation import GenerationOptions
from fastlstm.models.language_model import LanguageModel
from tests import naive


@pytest.fixture(scope="module")
def model():
    text = "she sells sea shells by the sea shore.\nthe shells she sells are surely sea shells.\n" * 8
    return LanguageModel.train(text, embedding=8, hidden=24, window=8, streams=4, epochs=4, learning_rate=0.02)


@pytest.fixture(scope="module")
def word_model():
    text = "she sells sea shells by the sea shore.\n" * 12 + "once only\n"
    return LanguageModel.train(text, level="word", embedding=8, hidden=8, window=8, streams=4, epochs=1)


def log_prob(model, prompt, continuation):
    """Joint log-probability of a continuation, one step at a time."""
    ids = model.vocabulary.encode(prompt + continuation)
    state, total = model.start(), 0.0
    for place, (token, target) in enumerate(pairwise(ids)):
        logits, state = model.step([token], state)
        if place >= len(prompt) - 1:
            total += naive.log_softmax(logits[0].astype(float))[target]
    return total


def test_greedy_is_the_most_probable_at_each_step(model):
    text = model.generate("she ", length=30, method="greedy")
    ids = model.vocabulary.encode("she " + text)
    state = model.start()
    for place, token in enumerate(ids[:-1]):
        logits, state = model.step([token], state)
        if place >= 3:
            assert ids[place + 1] == logits[0].argmax()


@pytest.mark.parametrize("choices", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-9}, {"beam_width": 1}])
def test_the_narrowest_choices_are_greedy(model, choices):
    assert model.generate("sea", length=40, **choices) == model.generate("sea", length=40, method="greedy")


def test_a_beam_finds_a_text_at_least_as_probable_as_greedy(model):
    found = {width: model.generate("th", length=12, beam_width=width) for width in (1, 8)}
    assert log_prob(model, "th", found[8]) > log_prob(model, "th", found[1]) or found[8] == found[1]


def test_a_beam_as_wide_as_there_are_texts_is_exact(model):
    count = len(model.vocabulary)
    best = model.generate("s", length=2, beam_width=count)
    every = [a + b for a in model.vocabulary.tokens for b in model.vocabulary.tokens]
    assert best == max(every, key=lambda text: log_prob(model, "s", text))


def test_the_same_seed_writes_the_same_text(model):
    for choices in (
        {},
        {"temperature": 1.5},
        {"top_k": 5},
        {"top_p": 0.9},
        {"temperature": 2, "top_k": 9, "top_p": 0.8},
    ):
        first, again, other = (model.generate("sea", length=60, seed=seed, **choices) for seed in (1, 1, 2))
        assert first == again != other


def test_draws_follow_the_models_probabilities(model):
    logits, _ = model.network.step(model.vocabulary.encode("s").astype(int), model.start())
    expected = np.exp([naive.log_softmax(logits[0].astype(float))[token] for token in range(len(model.vocabulary))])
    drawn = [model.generate("s", length=1, seed=seed) for seed in range(2000)]
    shares = np.bincount(model.vocabulary.encode("".join(drawn)), minlength=len(expected)) / 2000
    assert np.abs(shares - expected).max() < 4.5 * np.sqrt(0.25 / 2000)


def test_top_k_draws_among_the_best_alone(model):
    logits, _ = model.step(model.vocabulary.encode("s"), model.start())
    best = {model.vocabulary.tokens[token] for token in np.argsort(logits[0])[-3:]}
    drawn = {model.generate("s", length=1, top_k=3, temperature=5.0, seed=seed) for seed in range(200)}
    assert drawn == best


def test_what_was_read_before_matters(model):
    continuations = {model.generate(prompt, length=5, method="greedy") for prompt in ("she sells s", "by the s")}
    assert len(continuations) == 2


def test_an_empty_prompt_starts_a_line(model):
    assert model.generate(length=9, method="greedy") == model.generate("\n", length=9, method="greedy")


@pytest.mark.parametrize("choices", [{"seed": 1, "temperature": 3.0}, {"beam_width": 4}, {"method": "greedy"}])
def test_the_unknown_word_is_never_written(word_model, choices):
    unknown = word_model.vocabulary.unknown
    word_model.network.params["output.bias"][unknown] = 50.0  # by itself it would write nothing else
    word_model.network.changed()
    logits, _ = word_model.step([1], word_model.start())
    assert logits[0].argmax() == unknown
    text = word_model.generate("she sells wax", length=30, **choices)
    assert len(text) > 30
    assert "<unk>" not in text


def test_a_prompt_with_characters_that_the_vocabulary_lacks(model):
    with pytest.raises(VocabularyError, match="'Z', 'é'"):
        model.generate("Zé she")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"length": 0}, "length is 0"),
        ({"length": 2.5}, "length is 2.5"),
        ({"method": "best"}, "method is 'best'; expected one of greedy, sample, beam"),
        ({"beam_width": 4, "top_k": 3}, "top_k cannot go with beam"),
        ({"method": "greedy", "top_p": 0.5}, "top_p cannot go with greedy"),
        ({"method": "sample", "beam_width": 5}, "beam_width cannot go with sample"),
        ({"beam_width": 0}, "beam_width"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"temperature": -1.0}, "temperature"),
        ({"tempreature": 1.0}, "tempreature"),
        ({"options": GenerationOptions(), "seed": 1}, "options= or seed, not both"),
    ],
)
def test_choices_that_cannot_be(model, choices, message):
    with pytest.raises(OptionError, match=message):
        model.generate("sea", **choices)
