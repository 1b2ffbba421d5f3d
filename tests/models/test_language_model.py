import math
from itertools import pairwise

import numpy as np
import pytest

from fastlstm.data.text import Corpus
from fastlstm.data.vocabulary import EncodedText, Vocabulary
from fastlstm.errors import DataError, DivergedError, ModelFileError, OptionError, ShapeError, VocabularyError
from fastlstm.models.language_model import LanguageModel, read_corpus
from fastlstm.models.language_options import LanguageModelOptions
from fastlstm.models.language_training import make_schedule
from fastlstm.models.loading import load
from fastlstm.training import optimizers
from tests.tolerances import assert_bitwise_equal

PANGRAM = "the five boxing wizards jump quickly. " * 30
SMALL = {"embedding": 8, "hidden": 16, "window": 8, "streams": 4, "learning_rate": 0.02, "epochs": 2}


@pytest.fixture(scope="module")
def trained():
    return LanguageModel.train(PANGRAM, **{**SMALL, "epochs": 20, "dropout": 0.05})


def assert_same_weights(model, other):
    tensors, others = model.state_dict(), other.state_dict()
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert_bitwise_equal(value, others[name], what=name)


# --- learning -------------------------------------------------------------------------------------------------------


def test_a_text_that_repeats_is_learned(trained):
    assert trained.held_out.bits_per_character < 0.2
    assert trained.held_out.characters == round(0.1 * len(PANGRAM)) - 1


@pytest.mark.parametrize("level", ["char", "word"])
def test_the_same_seed_gives_the_same_bits(level):
    options = {**SMALL, "level": level, "dropout": 0.2, "layers": 2, "seed": 3}
    model, again = (LanguageModel.train(PANGRAM, **options) for _ in range(2))
    assert_same_weights(model, again)
    assert model.generate("the", length=30, seed=1) == again.generate("the", length=30, seed=1)
    other = LanguageModel.train(PANGRAM, **{**options, "seed": 4})
    assert not np.array_equal(model.state_dict()["output.weight"], other.state_dict()["output.weight"])


def test_the_held_out_part_is_never_trained_on():
    corpus = Corpus.of(PANGRAM)
    mixed = np.random.default_rng(0).permutation(corpus.held_out.ids)
    other = Corpus(corpus.vocabulary, corpus.train, EncodedText(mixed, len(mixed)))
    models = [LanguageModel(corpus.vocabulary, **SMALL) for _ in range(2)]
    models[0].fit(corpus)
    models[1].fit(other)
    assert_same_weights(*models)
    assert models[0].held_out.loss < models[1].held_out.loss


def test_epochs_and_steps_are_what_was_asked_for():
    seen = []
    corpus = Corpus.of(PANGRAM)
    model = LanguageModel(corpus.vocabulary, **{**SMALL, "epochs": 3})
    training = model.fit(corpus, report=seen.append)
    per_epoch = math.ceil(math.ceil((len(corpus.train.ids) - 1) / 4) / 8)
    assert (training.epochs, training.steps) == (3, 3 * per_epoch)
    assert training.tokens == 3 * (len(corpus.train.ids) - 1)
    assert [progress.step for progress in seen] == list(range(1, training.steps + 1))
    assert [progress.epoch for progress in seen] == np.repeat([1, 2, 3], per_epoch).tolist()
    assert tuple(progress.loss for progress in seen) == training.losses
    assert seen[-1].share == 1.0
    assert all(a.share < b.share for a, b in pairwise(seen))


def test_seconds_end_a_training():
    corpus = Corpus.of(PANGRAM)
    model = LanguageModel(corpus.vocabulary, **{**SMALL, "epochs": None, "seconds": 0.5})
    seen = []
    training = model.fit(corpus, report=seen.append)
    assert training.epochs > 1
    assert 0.5 <= seen[-1].seconds < 5
    assert seen[-2].seconds < 0.5


def test_without_seconds_there_are_ten_epochs():
    options = LanguageModelOptions()
    assert options.most_epochs == 10
    assert options.replaced({"seconds": 3.0}).most_epochs is None
    assert options.replaced({"seconds": 3.0, "epochs": 2}).most_epochs == 2


def test_a_short_text_is_read_in_fewer_streams():
    corpus = Corpus.of("abcdefgh" * 4, held_out=0)
    model = LanguageModel(corpus.vocabulary, **{**SMALL, "streams": 100, "window": 10, "epochs": 1})
    assert model.fit(corpus).steps == 2  # 31 targets: 3 streams of 10 or 11 steps
    assert model.held_out is None


def test_patience_keeps_the_best_weights():
    rng = np.random.default_rng(0)
    corpus = Corpus.of("".join(rng.choice(list("abcd"), 400)))  # nothing to learn: it overfits
    model = LanguageModel(
        corpus.vocabulary, **{**SMALL, "hidden": 32, "schedule": "constant", "epochs": 60, "patience": 3}
    )
    watched = []
    training = model.fit(corpus, report=lambda p: watched.append(p.held_out_loss) if p.held_out_loss else None)
    best = int(np.argmin(watched))
    assert training.epochs == len(watched) == best + 1 + 3
    assert model.held_out.loss == watched[best] < watched[-1]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules(schedule):
    factor = make_schedule(LanguageModelOptions(schedule=schedule, warmup=0.2))
    falls = schedule != "constant"
    assert [factor(share) for share in (0.0, 0.1, 0.2)] == pytest.approx([0.0, 0.5, 1.0])
    assert [factor(share) for share in (0.6, 1.0)] == pytest.approx([0.5, 0.0] if falls else [1.0, 1.0])


def test_the_learning_rate_follows_the_schedule(monkeypatch):
    rates = []
    update = optimizers.SGD.update
    monkeypatch.setattr(
        optimizers.SGD, "update", lambda self, *arrays: rates.append(self.learning_rate) or update(self, *arrays)
    )
    corpus = Corpus.of(PANGRAM)
    options = {**SMALL, "optimizer": "sgd", "learning_rate": 0.5, "schedule": "linear"}
    training = LanguageModel(corpus.vocabulary, **options).fit(corpus)
    assert rates[0] == 0.5
    assert rates[training.steps // 2] == pytest.approx(0.25, abs=0.02)
    assert 0 < rates[-1] < 0.02


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_every_optimizer_learns(optimizer):
    rate = 1.0 if optimizer == "sgd" else 0.02
    untrained = math.log2(len(set(PANGRAM)))
    model = LanguageModel.train(PANGRAM, **{**SMALL, "optimizer": optimizer, "learning_rate": rate, "epochs": 8})
    assert model.held_out.bits_per_character < 0.7 * untrained


def test_words_can_have_tied_weights_and_unknown_ones():
    text = "it was a dark and stormy night .\n" * 40 + "an unheard of word\n"
    model = LanguageModel.train(text, **{**SMALL, "level": "word", "hidden": 8, "tied": True, "epochs": 30})
    assert model.vocabulary.tokens[0] == "<unk>"
    assert " unheard" not in model.vocabulary.tokens
    assert model.generate("it was a", length=5, method="greedy") == " dark and stormy night ."
    result = model.evaluate("it was unheard of .\n")
    assert (result.tokens, result.characters, result.unknown) == (5, 18, 2)
    assert result.bits_per_character == pytest.approx(result.loss * 5 / math.log(2) / 18)


# --- judging --------------------------------------------------------------------------------------------------------


def test_evaluation_figures_agree(trained):
    text = "five wizards jump"
    result = trained.evaluate(text)
    losses = np.concatenate(list(trained.network.losses(trained.vocabulary.encode(text))))
    assert result.tokens == result.characters == len(text) - 1 == len(losses)
    assert result.loss == pytest.approx(losses.mean())
    assert result.perplexity == pytest.approx(math.exp(losses.mean()))
    assert result.bits_per_character == pytest.approx(losses.mean() / math.log(2))


def test_an_untrained_model_is_as_good_as_chance():
    corpus = Corpus.of(PANGRAM)
    model = LanguageModel(corpus.vocabulary, **SMALL)
    assert model.evaluate(PANGRAM).perplexity == pytest.approx(len(corpus.vocabulary), rel=0.1)


def test_files_are_read_in_their_encoding(trained, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("five boxing wizards", encoding="utf-16")
    assert trained.evaluate(path, encoding="utf-16") == trained.evaluate("five boxing wizards")
    with pytest.raises(DataError, match=r"text\.txt is not utf-8"):
        trained.evaluate(path)


@pytest.mark.parametrize("text", ["", "a"])
def test_nothing_to_evaluate(trained, text):
    with pytest.raises(DataError, match=f"{len(text)} tokens"):
        trained.evaluate(text)


# --- keeping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"tied": True, "embedding": 16}, {"layers": 2, "level": "word"}])
def test_a_saved_model_is_the_same(options, tmp_path):
    model = LanguageModel.train(PANGRAM, **{**SMALL, **options})
    model.save(tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert isinstance(loaded, LanguageModel)
    assert_same_weights(model, loaded)
    assert (loaded.vocabulary, loaded.options) == (model.vocabulary, model.options)
    assert loaded.evaluate(PANGRAM[:100]) == model.evaluate(PANGRAM[:100])


@pytest.mark.parametrize("tied", [False, True])
def test_loading_makes_no_start_values(tied, tmp_path, request):
    vocabulary = Corpus.of(PANGRAM).vocabulary
    model = LanguageModel(vocabulary, embedding=16, hidden=16, layers=2, tied=tied)
    model.save(tmp_path / "m")
    request.getfixturevalue("no_orthogonal_start")
    loaded = load(tmp_path / "m")
    assert_same_weights(model, loaded)
    assert loaded.evaluate(PANGRAM) == model.evaluate(PANGRAM)


def test_a_damaged_file(trained, tmp_path):
    path = tmp_path / "m.safetensors"
    trained.save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match=r"m\.safetensors"):
        LanguageModel.load(path)


def test_a_file_of_another_kind(trained):
    with pytest.raises(ModelFileError, match="holds a Sequential"):
        LanguageModel.from_saved(trained.state_dict(), {**trained.config(), "model": "Sequential"}, "x")


@pytest.mark.parametrize("change", [{"options": {"hidden": 16, "colour": 1}}, {"vocabulary": {}}, {"options": {}}])
def test_a_file_that_does_not_fit_itself(trained, change):
    with pytest.raises(ModelFileError, match="not a language model that this version can read"):
        LanguageModel.from_saved(trained.state_dict(), {**trained.config(), **change}, "x")


def test_loading_weights_that_do_not_fit(trained):
    model = LanguageModel(trained.vocabulary, trained.options)
    tensors = trained.state_dict()
    with pytest.raises(ShapeError, match=r"missing: \['output.bias'\]; unknown: \['bias'\]"):
        model.load_state_dict({**{k: v for k, v in tensors.items() if k != "output.bias"}, "bias": 0})
    before = model.state_dict()
    with pytest.raises(ShapeError, match=r"output\.bias has shape \(2,\)"):
        model.load_state_dict({**tensors, "output.bias": np.zeros(2)})
    np.testing.assert_array_equal(model.state_dict()["embedding.weight"], before["embedding.weight"])
    model.load_state_dict(tensors)
    assert model.evaluate(PANGRAM) == trained.evaluate(PANGRAM)


# --- what can go wrong (A8) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["char", "word"])
def test_an_empty_text(level):
    with pytest.raises(DataError, match="empty"):
        LanguageModel.train("", level=level)


def test_an_empty_file(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="empty"):
        LanguageModel.train(tmp_path / "empty.txt")


def test_a_text_shorter_than_one_window():
    with pytest.raises(DataError, match="45 tokens, less than one window: 1 streams of 64 steps need 65"):
        LanguageModel.train("a\n" * 25)


def test_a_mistyped_path_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no file 'bokk\.txt'"):
        LanguageModel.train("bokk.txt")


def test_a_loss_that_becomes_nan_names_the_step_and_keeps_the_last_good_weights():
    corpus = Corpus.of(PANGRAM)
    options = {**SMALL, "optimizer": "sgd", "learning_rate": 1e39, "schedule": "constant", "clip": None}
    model = LanguageModel(corpus.vocabulary, **options)
    kept = []  # weights before each step; the loss of all but the last was finite
    kept.append(model.state_dict())
    with pytest.raises(DivergedError, match=r"the loss became (?:nan|inf) at step (\d+) \(epoch 1\).*kept") as error:
        model.fit(corpus, report=lambda _: kept.append(model.state_dict()))
    assert f"step {len(kept)} " in str(error.value)
    for name, value in model.state_dict().items():
        assert_bitwise_equal(value, kept[-2][name], what=name)
        assert np.isfinite(value).all()


def test_a_last_update_that_ruins_the_weights_is_not_kept():
    corpus = Corpus.of("ab" * 9, held_out=0)  # a single step
    options = {**SMALL, "optimizer": "sgd", "learning_rate": 1e39, "schedule": "constant", "clip": None}
    model = LanguageModel(corpus.vocabulary, **{**options, "window": 17, "streams": 1, "epochs": 1})
    before = model.state_dict()
    with pytest.raises(DivergedError, match="NaN or infinite at the last update, step 1"):
        model.fit(corpus)
    for name, value in model.state_dict().items():
        assert_bitwise_equal(value, before[name], what=name)


def test_gradients_that_overflow_name_the_step(monkeypatch):
    corpus = Corpus.of(PANGRAM)
    model = LanguageModel(corpus.vocabulary, **SMALL)
    take_step, steps = model.network.train_step, []

    def spoilt_third_step(*arguments):
        step = take_step(*arguments)
        steps.append(model.state_dict())
        if len(steps) == 3:
            step.gradients["output.bias"][0] = np.inf
        return step

    monkeypatch.setattr(model.network, "train_step", spoilt_third_step)
    with pytest.raises(DivergedError, match=r"norm of the gradient became inf at step 3 \(epoch 1\)"):
        model.fit(corpus)
    for name, value in model.state_dict().items():
        assert_bitwise_equal(value, steps[-1][name], what=name)


def test_an_interrupt_keeps_what_was_learned():
    corpus = Corpus.of(PANGRAM)
    model = LanguageModel(corpus.vocabulary, **SMALL)
    weights = [model.state_dict()]

    def interrupt(progress):
        if progress.step == 5:
            raise KeyboardInterrupt
        weights.append(model.state_dict())

    with pytest.raises(KeyboardInterrupt):
        model.fit(corpus, report=interrupt)
    for name, value in model.state_dict().items():
        assert_bitwise_equal(value, weights[4][name], what=name)
    assert not np.array_equal(weights[4]["output.bias"], weights[0]["output.bias"])


def test_a_corpus_of_another_vocabulary(trained):
    with pytest.raises(DataError, match="another vocabulary"):
        trained.fit(Corpus.of("something else"))


def test_a_vocabulary_of_another_level():
    with pytest.raises(OptionError, match=r"'word'.*'char'"):
        LanguageModel(Vocabulary(("a", "b"), "word"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden": 3}, "no option hiden; there are .*hidden"),
        ({"hidden": 0}, "hidden is 0; expected a whole number, at least 1"),
        ({"hidden": 2.5}, "hidden is 2.5"),
        ({"hidden": "256"}, "hidden is '256'"),
        ({"dropout": 1.0}, "dropout is 1.0; expected 0 or more, less than 1"),
        ({"learning_rate": 0}, "learning_rate is 0; expected more than 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"seconds": 0}, "seconds is 0"),
        ({"schedule": "step"}, "constant, linear, cosine"),
        ({"optimizer": "lion"}, "adam, adamw, rmsprop, sgd"),
        ({"level": "byte"}, "'char' or 'word'"),
        ({"tied": True}, "embedding = hidden, given 64 and 256"),
        ({"max_vocabulary": 1}, "max_vocabulary is 1"),
        ({"seed": -1}, "seed is -1"),
        ({"patience": 2, "held_out": 0}, "patience needs a held-out part"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(OptionError, match=message):
        LanguageModel.train(PANGRAM, **options)


def test_characters_that_the_vocabulary_lacks_are_named(trained):
    for call in (trained.generate, trained.evaluate):
        with pytest.raises(VocabularyError, match=r"2 characters that the vocabulary lacks: 'T', '☃'"):
            call("The ☃")


def test_read_corpus_uses_the_options():
    options = LanguageModelOptions(level="word", held_out=0.5, max_vocabulary=3)
    corpus = read_corpus("a a a b b c d d d d d d", options)
    assert corpus.vocabulary.tokens == ("<unk>", " a", " b")
    assert len(corpus.held_out.ids) == 6
