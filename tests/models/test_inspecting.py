"""A look inside: layers, both directions, chains, models of another kind, language models; files; what is refused."""

import re

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.data.vocabulary import Vocabulary
from fastlstm.errors import DataError, NotBuiltError, OptionError, ShapeError, VocabularyError
from fastlstm.models.traces import BidirectionalTrace, LayerTrace
from tests.layers.cells import every_spec, layer_of, one_of_each
from tests.models.traced import assert_as_naive, case_without_state
from tests.naive import Spec
from tests.naive.cells import forward
from tests.tolerances import assert_bitwise_equal

LENGTHS = [4, 1, 6]


# --- one layer ------------------------------------------------------------------------------------------------------


@every_spec
def test_every_gate_of_a_layer_is_that_of_the_naive_loop(spec):
    case = case_without_state(spec, LENGTHS, 3, 5, seed=1)
    trace = fl.inspect(layer_of(case, name="memory"), case.xs)
    assert [*trace.layers] == ["memory"]
    assert_as_naive(trace["memory"], case)
    assert trace.gates is trace["memory"].gates
    assert trace.hidden is trace["memory"].hidden
    assert trace.cell is trace["memory"].cell
    assert trace.lengths.tolist() == LENGTHS


@one_of_each
@pytest.mark.parametrize("returns", [True, False])
def test_h_has_the_bits_of_a_call(spec, dtype, returns):
    case = case_without_state(spec, [5, 5, 5], 3, 9, seed=2)
    layer = layer_of(case, dtype, return_sequences=returns, return_state=False)
    x = np.array(case.xs, dtype)
    hidden = fl.inspect(layer, x).hidden
    assert hidden.dtype == dtype
    assert_bitwise_equal(hidden if returns else hidden[:, -1], layer(x))


def test_a_padded_array_gives_arrays_as_long():
    """As a call does, whatever lies in the padding."""
    case = case_without_state(Spec("lstm"), LENGTHS, 3, 5, seed=3)
    layer = layer_of(case, return_state=False)
    x = np.full((3, 8, 3), 1e30)
    for n, rows in enumerate(case.xs):
        x[n, : len(rows)] = rows
    trace = fl.inspect(layer, x, lengths=LENGTHS)
    assert_as_naive(trace["lstm"], case)
    assert_bitwise_equal(trace.hidden, layer(x, lengths=LENGTHS))
    assert trace.gates["i"].shape == (3, 8, 5)


def test_a_sequence_has_the_same_bits_alone():
    case = case_without_state(Spec("gru"), LENGTHS, 3, 5, seed=4)
    layer = layer_of(case)
    together = fl.inspect(layer, case.xs)
    for n, x in enumerate(case.xs):
        alone = fl.inspect(layer, x[None])
        for name, array in together.gates.items():
            assert_bitwise_equal(array[n : n + 1, : len(x)], alone.gates[name])
        assert_bitwise_equal(together.hidden[n : n + 1, : len(x)], alone.hidden)


@one_of_each
def test_a_layer_that_reads_from_the_end_is_shown_in_the_order_of_its_input(spec):
    case = case_without_state(spec, LENGTHS, 3, 5, seed=5)
    assert_as_naive(fl.inspect(layer_of(case, go_backwards=True, name="back"), case.xs)["back"], case, reverse=True)


def test_dropout_is_off():
    case = case_without_state(Spec("lstm"), LENGTHS, 3, 5, seed=6)
    assert_as_naive(fl.inspect(layer_of(case, dropout=0.5, recurrent_dropout=0.5), case.xs)["lstm"], case)


# --- both directions ------------------------------------------------------------------------------------------------


@one_of_each
@pytest.mark.parametrize("lengths", [LENGTHS, [5, 5]], ids=["ragged", "dense"])
def test_both_directions_are_in_the_order_of_time(spec, lengths):
    case = case_without_state(spec, lengths, 3, 5, seed=7)
    other = case_without_state(spec, lengths, 3, 5, seed=8)._replace(xs=case.xs)
    layer = fl.Bidirectional(layer_of(case, return_state=False))
    layer.load_state_dict(case.weights | {f"{name}_reverse": value for name, value in other.weights.items()})
    trace = fl.inspect(layer, case.xs)
    found = trace["bidirectional"]
    assert isinstance(found, BidirectionalTrace)
    assert_as_naive(found.forward, case)
    assert_as_naive(found.backward, other, reverse=True)
    assert found.lengths.tolist() == lengths
    merged = np.concatenate([found.forward.hidden, found.backward.hidden], axis=2)
    for row, y in zip(merged, layer(case.xs), strict=True):
        assert_bitwise_equal(row[: len(y)], y)


def test_both_directions_of_different_kinds():
    case = case_without_state(Spec("lstm"), LENGTHS, 3, 5, seed=9)
    other = case_without_state(Spec("gru"), LENGTHS, 3, 4, seed=10)._replace(xs=case.xs)
    back = fl.GRU(4, go_backwards=True, return_sequences=True, dtype="float64")
    layer = fl.Bidirectional(layer_of(case, return_state=False), backward_layer=back, name="both")
    layer.load_state_dict(case.weights | {f"{name}_reverse": value for name, value in other.weights.items()})
    found = fl.inspect(layer, case.xs)["both"]
    assert (found.forward.kind, found.backward.kind) == ("LSTM", "GRU")
    assert_as_naive(found.forward, case)
    assert_as_naive(found.backward, other, reverse=True)


# --- models ---------------------------------------------------------------------------------------------------------


def chain_of(layers, features, seed=0):
    model = fl.Sequential(layers, seed=seed)
    model.build(features)
    return model


def test_every_layer_of_a_chain():
    """Each is compared with the naive loop over what the layer before it puts out."""
    specs = Spec("lstm", peephole=True), Spec("gru", reset_after=False), Spec("rnn")
    first, second, third = (
        fl.LSTM(5, peephole=True, return_sequences=True, dtype="float64"),
        fl.GRU(4, reset_after=False, return_sequences=True, name="middle", dtype="float64"),
        fl.SimpleRNN(3, name="plain", dtype="float64"),
    )
    model = chain_of([first, fl.Dropout(0.5), second, third, fl.Dense(1, dtype="float64")], 3)
    xs = case_without_state(specs[0], LENGTHS, 3, 5, seed=11).xs
    trace = fl.inspect(model, xs)
    assert [*trace.layers] == ["lstm", "middle", "plain"]
    for spec, layer, found in zip(specs, (first, second, third), trace.layers.values(), strict=True):
        case = case_without_state(spec, LENGTHS, xs[0].shape[1], layer.units, seed=0)
        case = case._replace(xs=xs, weights=layer.state_dict())
        assert_as_naive(found, case)
        assert found.options == layer.config()
        xs, _ = forward(spec, xs, case.states, case.weights)


def test_a_chain_that_reads_ids():
    """A table that is short beside the batch is projected as a whole; its bits are those of the rows."""
    model = chain_of([fl.Embedding(4, 3), fl.LSTM(5, return_sequences=True)], 0)
    ids = np.random.default_rng(0).integers(0, 4, (6, 7))
    assert_bitwise_equal(fl.inspect(model, ids)["lstm"].hidden, model.predict(ids))


def test_the_model_is_as_it_was():
    model = chain_of([fl.LSTM(5), fl.Dense(1)], 3)
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    before, weights = model.predict(x), model.get_weights()
    trace = fl.inspect(model, x)
    for array in trace.to_dict().values():
        array[...] = 7
    assert_bitwise_equal(model.predict(x), before)
    for value, other in zip(model.get_weights(), weights, strict=True):
        assert_bitwise_equal(value, other)


class Twins:
    """A model that is no chain: one layer reads two inputs, and another one is not among its layers."""

    def __init__(self):
        self.shared = fl.GRU(4, return_sequences=True, name="shared")
        self.inner = fl.LSTM(3)
        self.inner.build(4, 0)
        self.layers = [self.shared, fl.Dense(2)]

    def run_once(self, x, lengths, context):
        for part in x:
            packed, _ = self.shared.take(part, lengths)
            packed, _ = self.shared.forward(packed, context)
        self.inner.forward(packed, context)
        return []


def test_a_model_of_another_kind_runs_itself():
    model = Twins()
    one, other = np.random.default_rng(1).standard_normal((2, 3, 5, 2)).astype(np.float32)
    trace = fl.inspect(model, [one, other])
    assert [*trace.layers] == ["shared", "shared#2", "lstm"]
    assert_bitwise_equal(trace["shared"].hidden, model.shared(one))
    assert_bitwise_equal(trace["shared#2"].hidden, model.shared(other))
    assert_bitwise_equal(trace["lstm"].hidden[:, -1], model.inner(model.shared(other)))


def test_a_graph_whose_layers_hand_over_their_states():
    """An encoder and a decoder with sequences of other lengths, in another order; the decoder's layer is used twice."""
    options = {"return_state": True, "dtype": "float64"}
    source, target = fl.Input((None, 3), name="source"), fl.Input((None, 2), name="target")
    encoder, decoder = fl.LSTM(5, name="encoder", **options), fl.LSTM(5, name="decoder", **options)
    y, h, c = encoder(source)
    first, *_ = decoder(target, initial_state=[h, c])
    again, *_ = decoder(target)
    model = fl.Model([source, target], fl.Add()([y, first, again]), seed=0)
    case = case_without_state(Spec("lstm"), [2, 6, 4], 3, 5, seed=12)._replace(weights=encoder.state_dict())
    other = case_without_state(Spec("lstm"), [5, 1, 3], 2, 5, seed=13)._replace(weights=decoder.state_dict())
    padded = np.zeros((3, 9, 2))
    for n, x in enumerate(other.xs):
        padded[n, : len(x)] = x
    trace = fl.inspect(model, {"source": case.xs, "target": padded}, lengths={"target": other.lengths})
    assert [*trace.layers] == ["encoder", "decoder", "decoder#2"]
    assert_as_naive(trace["encoder"], case)
    assert_as_naive(trace["decoder#2"], other)
    _, states = forward(case.spec, case.xs, case.states, case.weights)
    assert_as_naive(trace["decoder"], other._replace(states=states))
    assert trace["encoder"].hidden.shape == (3, 6, 5)
    assert trace["decoder"].hidden.shape == (3, 9, 5)
    ends = [
        np.array([part.hidden[n, length - 1] for n, length in enumerate(part.lengths)])
        for part in trace.layers.values()
    ]
    assert_bitwise_equal(sum(ends[1:], ends[0]), model.predict([case.xs, padded], lengths=[None, other.lengths]))


def test_padding_that_a_mask_tells_is_no_step():
    """Before a sequence or after it: step 0 is the first true one."""
    model = chain_of([fl.Masking(), fl.LSTM(4, return_sequences=True)], 2)
    x = np.zeros((2, 5, 2), np.float32)
    x[0, 3:], x[1, :4] = 1.0, 1.0
    trace = fl.inspect(model, x)
    assert trace.lengths.tolist() == [2, 4]
    assert_bitwise_equal(trace.hidden[0], np.concatenate([trace.hidden[1, :2], np.zeros((3, 4), np.float32)]))
    y = model.predict(x)
    assert_bitwise_equal(trace.hidden[0, :2], y[0, 3:])
    assert_bitwise_equal(trace.hidden[1], y[1])


@pytest.mark.parametrize("layers", [1, 2])
def test_a_language_model_has_its_text_as_labels(layers):
    model = fl.LanguageModel(Vocabulary(tuple("abc ")), embedding=3, hidden=5, layers=layers, seed=2)
    text = "a cab abc"
    trace = fl.inspect(model, text)
    assert trace.labels == tuple(text)
    params = {name: value.astype(np.float64) for name, value in model.state_dict().items()}
    x = params["embedding.weight"][model.vocabulary.encode(text)]
    assert [*trace.layers] == ["lstm", "lstm_1"][:layers]
    for place, found in enumerate(trace.layers.values()):
        case = case_without_state(Spec("lstm"), [len(text)], x.shape[1], 5, seed=0)
        weights = {
            name.replace(f"_l{place}", "_l0").removeprefix("lstm."): value
            for name, value in params.items()
            if name.startswith("lstm.") and name.endswith(f"_l{place}")
        }
        case = case._replace(xs=[x], weights=weights)
        assert_as_naive(found, case)
        [x], _ = forward(case.spec, [x], case.states, weights)
    ids = model.vocabulary.encode(text)
    assert_bitwise_equal(trace["lstm_1" if layers == 2 else "lstm"].hidden[0], model.network.read(ids, None)[0])


def test_words_are_labels_too_those_that_are_unknown_as_they_stand():
    words = Vocabulary(("<unk>", "the", " cat", " sat", "."), level="word", unknown=0)
    model = fl.LanguageModel(words, level="word", embedding=3, hidden=5)
    trace = fl.inspect(model, "the cat slept.")
    assert trace.labels == ("the", " cat", " slept", ".")
    assert trace.hidden.shape == (1, 4, 5)


# --- the trace ------------------------------------------------------------------------------------------------------


def test_arrays_by_name_and_in_a_file(tmp_path):
    model = chain_of([fl.Bidirectional(fl.GRU(4, return_sequences=True)), fl.LSTM(5)], 3)
    trace = fl.inspect(model, np.ones((2, 4, 3)))
    both, lstm = trace["bidirectional"], trace["lstm"]
    expected = {
        **{f"bidirectional.forward.gates.{gate}": both.forward.gates[gate] for gate in "rzn"},
        "bidirectional.forward.hidden": both.forward.hidden,
        "bidirectional.forward.lengths": both.lengths,
        **{f"bidirectional.backward.gates.{gate}": both.backward.gates[gate] for gate in "rzn"},
        "bidirectional.backward.hidden": both.backward.hidden,
        "bidirectional.backward.lengths": both.lengths,
        **{f"lstm.gates.{gate}": lstm.gates[gate] for gate in "ifgo"},
        "lstm.cell": lstm.cell,
        "lstm.hidden": lstm.hidden,
        "lstm.lengths": lstm.lengths,
    }
    named = trace.to_dict()
    assert [*named] == [*expected]
    trace.save(tmp_path / "trace.npz")
    with np.load(tmp_path / "trace.npz", allow_pickle=False) as saved:
        assert [*saved] == [*expected]
        for name, array in expected.items():
            assert_bitwise_equal(named[name], array)
            assert_bitwise_equal(saved[name], array)


def test_labels_are_in_the_file(tmp_path):
    model = fl.LanguageModel(Vocabulary(tuple("ab\n")), embedding=3, hidden=5)
    fl.inspect(model, "ab\nb").save(tmp_path / "any name")
    with np.load(tmp_path / "any name", allow_pickle=False) as saved:
        assert saved["labels"].tolist() == ["a", "b", "\n", "b"]


def test_what_a_trace_says_of_itself():
    model = chain_of([fl.Bidirectional(fl.SimpleRNN(4, return_sequences=True)), fl.LSTM(5, coupled=True)], 3)
    assert repr(fl.inspect(model, np.ones((2, 4, 3)))) == (
        "Trace(<bidirectional: <forward: hidden of SimpleRNN, (N, T, P) = (2, 4, 4)>, "
        "<backward: hidden of SimpleRNN, (N, T, P) = (2, 4, 4)>>, "
        "<lstm: i, f, g, o, cell, hidden of LSTM, (N, T, P) = (2, 4, 5)>)"
    )


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["gates", "cell", "hidden", "lengths"])
def test_shortcuts_say_where_to_look(word):
    stacked = fl.inspect(chain_of([fl.LSTM(3, return_sequences=True), fl.LSTM(3)], 2), np.ones((1, 2, 2)))
    message = f"{word} of which layer? Write one of trace['lstm'].{word}, trace['lstm_1'].{word}"
    with pytest.raises(OptionError, match=re.escape(message)):
        getattr(stacked, word)
    both = fl.inspect(fl.Bidirectional(fl.LSTM(3)), np.ones((1, 2, 2)))
    message = f"trace['bidirectional'].forward.{word} or trace['bidirectional'].backward.{word}"
    with pytest.raises(OptionError, match=re.escape(message)):
        getattr(both, word)


def test_a_name_that_there_is_not():
    with pytest.raises(OptionError, match="no recurrent layer 'gru'; there are 'lstm'"):
        fl.inspect(fl.LSTM(3), np.ones((1, 2, 2)))["gru"]


def graph():
    source, target = fl.Input((None, 2), name="source"), fl.Input((None, 2), name="target")
    return fl.Model([source, target], fl.LSTM(3)(fl.Add()([source, target])))


GRAPH = graph()
LM = fl.LanguageModel(Vocabulary(tuple("ab")), embedding=3, hidden=5)


@pytest.mark.parametrize(
    ("model", "x", "options", "error", "message"),
    [
        (3, np.ones((1, 2, 2)), {}, OptionError, "inspect: int is no model"),
        (fl.Dense(3), np.ones((1, 2, 2)), {}, OptionError, "no recurrent layer among Dense"),
        (fl.Sequential(), np.ones((1, 2, 2)), {}, NotBuiltError, "inspect: the model has no weights yet"),
        (GRAPH, {"source": np.ones((1, 2, 2))}, {}, OptionError, "target"),
        (fl.Sequential([fl.LSTM(3)]), np.ones((1, 2, 2)), {}, NotBuiltError, "no weights yet"),
        (chain_of([fl.LSTM(3)], 4), np.ones((1, 2, 2)), {}, ShapeError, "x has 2 features"),
        (chain_of([fl.LSTM(3)], 4), np.ones((2, 4)), {}, ShapeError, "rank 2; expected rank 3"),
        (chain_of([fl.LSTM(3)], 4), np.ones((2, 3, 4)), {"lengths": [1, 4]}, DataError, "length"),
        (chain_of([fl.Embedding(3, 2), fl.LSTM(3)], 0), [[1, 3]], {}, DataError, "id 3 is outside the vocabulary"),
        (LM, "abc", {}, VocabularyError, "lacks: 'c'"),
        (LM, "", {}, DataError, "inspect: the text is empty"),
        (LM, [0, 1], {}, OptionError, "inspect: x is of type list; expected str"),
        (LM, "ab", {"lengths": [1]}, OptionError, "lengths= goes with arrays"),
    ],
)
def test_what_is_refused(model, x, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fl.inspect(model, x, **options)


def test_an_array_is_packed_as_a_call_packs_it():
    """Lists of lists, integers and float64 are taken by a layer of float32."""
    layer = fl.LSTM(3)
    trace = fl.inspect(layer, [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    x, _ = pack(np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), features=True, dtype="float32")
    assert isinstance(trace["lstm"], LayerTrace)
    assert_bitwise_equal(trace.hidden.swapaxes(0, 1).reshape(-1, 3), layer.recurrence.infer(x, None)[0])
