import tracemalloc

import numpy as np
import pytest

from fastlstm.data.windows import Windows
from fastlstm.layers import LSTMState
from fastlstm.layers.base import PassContext
from fastlstm.models import language_network
from fastlstm.models.language_network import LanguageNetwork
from fastlstm.models.language_options import LanguageModelOptions
from tests import naive
from tests.gradcheck import assert_gradients
from tests.tolerances import assert_bitwise_equal, assert_outputs_close

VOCABULARY = 7


def network(dtype="float64", rng=None, **options):
    options = LanguageModelOptions(**{"embedding": 3, "hidden": 5, **options})
    made = LanguageNetwork(options, VOCABULARY, dtype)
    rng = np.random.default_rng(1) if rng is None else rng
    for value in made.params.values():
        value[...] = 0.5 * rng.standard_normal(value.shape)
    made.changed()
    return made


@pytest.fixture
def small_blocks(monkeypatch):
    """Let the output layer see four rows at a time."""
    monkeypatch.setattr(language_network, "_LEAST_ROWS", 4)
    monkeypatch.setattr(language_network, "_LOGIT_BYTES", 0)


def naive_losses(network, ids, state):
    """-log p of each id but the first, and the state after, by the loops of `naive`."""
    p = network.params
    x, after = p["embedding.weight"][ids[:-1]], []
    for layer, (h0, c0) in enumerate(state):
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = naive.Weights(*(p[f"lstm.{kind}_l{layer}"] for kind in kinds))
        [x], h, c = naive.lstm([x], h0, c0, weights)
        after.append((h, c))
    weight = p["embedding.weight" if network.tied else "output.weight"]
    logits = naive.dense(x, weight, p["output.bias"])
    return np.array([-naive.log_softmax(z)[target] for z, target in zip(logits, ids[1:], strict=True)]), after


@pytest.mark.parametrize("options", [{"layers": 2}, {"tied": True, "hidden": 3}])
def test_losses_and_logits_are_those_of_the_formulas(rng, options, small_blocks, monkeypatch):
    monkeypatch.setattr(language_network, "_EVALUATED_STEPS", 5)
    model = network(**options)
    ids = rng.integers(0, VOCABULARY, 14)
    start = model.start(1)
    expected, after = naive_losses(model, ids, start)
    assert_outputs_close(np.concatenate(list(model.losses(ids))), expected)

    state = start
    for place in range(len(ids) - 1):
        logits, state = model.step(ids[place : place + 1], state)
        assert_outputs_close(np.array([-naive.log_softmax(logits[0])[ids[place + 1]]]), expected[[place]])
    for part, (h, c) in zip(state, after, strict=True):
        assert_outputs_close(part.h, h)
        assert_outputs_close(part.c, c)
    assert not any(part.any() for layer in start for part in layer), "a state that went in was written to"


def random_state(model, count, rng):
    return tuple(LSTMState(*(0.3 * rng.standard_normal((count, lstm.units)) for _ in "hc")) for lstm in model.lstms)


def assert_gradients_of(model, window, state):
    def step():
        model.changed()
        return model.train_step(
            window, state, PassContext(training=True, rng=np.random.default_rng(5))
        )  # the same dropout

    gradients = {name: value.copy() for name, value in step().gradients.items()}
    assert_gradients(lambda: step().loss, model.params, gradients)
    model.changed()  # the check has put every weight back


@pytest.mark.parametrize("options", [{"layers": 2, "dropout": 0.4}, {"tied": True, "hidden": 3}])
def test_a_stream_goes_on_as_steps_do(rng, options):
    model = network(**options)
    state = begin = random_state(model, 3, rng)
    kept = [part.copy() for layer in begin for part in layer]
    stream = model.stream(begin)
    for ids in rng.integers(0, VOCABULARY, (5, 3)):
        logits, state = model.step(ids, state)
        assert_bitwise_equal(stream.step(ids), logits)
    after = [part for layer in state for part in layer]
    for value, part in zip(stream.state_dict().values(), after, strict=True):
        assert_bitwise_equal(value, part)
    for part, copy in zip((part for layer in begin for part in layer), kept, strict=True):
        assert_bitwise_equal(part, copy, what="a state that went in")


@pytest.mark.parametrize(
    "options", [{}, {"layers": 2}, {"tied": True, "hidden": 3}, {"layers": 2, "dropout": 0.4, "hidden": 4}]
)
def test_gradients(rng, options, small_blocks):
    model = network(**options)
    window = next(iter(Windows(rng.integers(0, VOCABULARY, 30), streams=3, steps=4)))
    assert_gradients_of(model, window, random_state(model, 3, rng))


@pytest.mark.parametrize("targets", [3 * 4 + 2, 3 * 5 + 1])  # windows of 2 streams, and of 3 and then 1
def test_gradients_of_a_last_window_with_fewer_streams(rng, targets, small_blocks):
    model = network()
    ids = rng.integers(0, VOCABULARY, targets + 1)
    *_, window = Windows(ids, streams=3, steps=4)
    state = random_state(model, 3, rng)
    assert_gradients_of(model, window, state)
    # The loss is that of the first streams alone, from their states.
    step = model.train_step(window, state, PassContext(training=True))
    longer, done = targets % 3, 4 * (targets // 12)
    expected = []
    for stream in range(window.inputs.sequences):
        start = stream * (targets // 3) + min(stream, longer)
        piece = ids[start + done : start + targets // 3 + (stream < longer) + 1]
        own = [(part.h[[stream]], part.c[[stream]]) for part in state]
        expected.append(naive_losses(model, piece, own)[0])
    assert_outputs_close(np.float64(step.loss), np.concatenate(expected).mean())


def test_windows_with_carried_state_give_the_losses_of_the_whole_text(rng, dtype):
    model = network(dtype, layers=2)
    ids = rng.integers(0, VOCABULARY, 41)
    losses, state = [], None
    for window in Windows(ids, streams=1, steps=8):
        step = model.train_step(window, state, PassContext(training=True))
        losses += [step.loss] * len(window.targets)
        state = step.state
    whole = np.concatenate(list(model.losses(ids)))
    assert_outputs_close(np.float64(np.mean(losses)), whole.mean(), bound=1e-6 if dtype == "float32" else 1e-12)
    _, final = model.read(ids[:-1], None)
    for part, expected in zip(state, final, strict=True):
        assert_bitwise_equal(part.h, expected.h)
        assert_bitwise_equal(part.c, expected.c)


def test_losses_are_the_same_bits_however_the_text_is_cut(rng, monkeypatch):
    model = network("float32", layers=2)
    ids = rng.integers(0, VOCABULARY, 100)
    whole = np.concatenate(list(model.losses(ids)))
    monkeypatch.setattr(language_network, "_EVALUATED_STEPS", 7)
    monkeypatch.setattr(language_network, "_LEAST_ROWS", 3)
    monkeypatch.setattr(language_network, "_LOGIT_BYTES", 0)
    assert_bitwise_equal(np.concatenate(list(model.losses(ids))), whole)


def test_names_and_shapes_are_torchs():
    shapes = {name: value.shape for name, value in network(layers=2).params.items()}
    assert shapes == {
        "embedding.weight": (7, 3),
        "lstm.weight_ih_l0": (20, 3),
        "lstm.weight_hh_l0": (20, 5),
        "lstm.bias_ih_l0": (20,),
        "lstm.bias_hh_l0": (20,),
        "lstm.weight_ih_l1": (20, 5),
        "lstm.weight_hh_l1": (20, 5),
        "lstm.bias_ih_l1": (20,),
        "lstm.bias_hh_l1": (20,),
        "output.weight": (7, 5),
        "output.bias": (7,),
    }


def test_tied_weights_are_one():
    model = network(tied=True, hidden=3)
    assert "output.weight" not in model.params
    assert model.output.arrays["weight"] is model.params["embedding.weight"]


def test_a_large_vocabulary_never_has_all_its_logits_at_once():
    vocabulary, rows = 50_000, 64 * 32
    model = LanguageNetwork(LanguageModelOptions(embedding=4, hidden=4), vocabulary)
    window = next(iter(Windows(np.arange(rows + 1) * 7 % vocabulary, streams=32, steps=64)))
    context = PassContext(training=True)
    tracemalloc.start()
    try:
        model.train_step(window, None, context)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < rows * vocabulary * 4 / 10  # a tenth of 410 MB
