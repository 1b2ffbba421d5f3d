"""The picture of a trace: what its heatmaps hold, what is written beside them, and what is refused."""

import io
import sys

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.vocabulary import Vocabulary
from fastlstm.errors import MissingPackageError, OptionError
from fastlstm.models.trace_equations import titles_of
from fastlstm.models.trace_picture import MOST_LABELS, MOST_UNITS
from fastlstm.models.traces import LayerTrace, Trace
from tests.layers.cells import every_spec, new_layer
from tests.naive.spec import GATES
from tests.tolerances import assert_bitwise_equal

figures = pytest.importorskip("matplotlib.figure")


def trace_of(layer, lengths=(7,), features=3, seed=0):
    rng = np.random.default_rng(seed)
    return fl.inspect(layer, [rng.standard_normal((length, features)) for length in lengths])


def heatmaps(figure):
    """Return the axes that hold a heatmap; the others are colour bars, which hold none."""
    return [axes for axes in figure.axes if axes.images]


def shown(axes):
    [image] = axes.images
    return np.asarray(image.get_array())


def rows_of(axes):
    return [int(tick.get_text()) for tick in axes.get_yticklabels()]


def saved(figure):
    """Return the picture, drawn: so that what cannot be drawn is an error here."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


@every_spec
def test_every_quantity_of_every_cell_has_its_heatmap_and_colour_bar(spec):
    trace = trace_of(new_layer(spec, 5, name="memory"), [4, 7])
    found = trace["memory"]
    figure = trace.plot(sequence=1)
    expected = {**found.gates, **({} if found.cell is None else {"c": found.cell}), "h": found.hidden}
    letters = [*GATES[spec.kind].replace("h", ""), *("ch" if spec.kind == "lstm" else "h")]
    assert [*expected] == letters
    panels = heatmaps(figure)
    assert len(panels) == len(letters)
    assert len(figure.axes) == 2 * len(letters)
    for axes, (letter, array) in zip(panels, expected.items(), strict=True):
        assert_bitwise_equal(shown(axes), array[1].T, what=letter)
        assert f"${letter}_t = " in axes.get_title(loc="left")
        low, high = axes.images[0].get_clim()
        assert low <= array[1].min()
        assert high >= array[1].max()
        assert low in (0.0, -high), "0 is white"
    assert figure.get_suptitle() == f"memory ({found.kind}, 5 units), sequence 1"
    assert saved(figure).startswith(b"\x89PNG")


def test_a_sequence_is_shown_as_far_as_it_goes():
    trace = trace_of(fl.GRU(3), [4, 7, 2])
    for sequence, length in enumerate([4, 7, 2]):
        for axes in heatmaps(trace.plot(sequence)):
            assert shown(axes).shape == (3, length)


def test_of_many_units_those_are_shown_that_vary_most():
    steps, rng = 12, np.random.default_rng(0)
    sizes = rng.permutation(40)
    wave = np.cos(np.arange(steps))[:, None]
    hidden = (100 + sizes * wave)[None]
    cell = (100 - sizes * wave)[None] ** 2
    arrays = {"i": rng.random((1, steps, 40))}
    options = fl.LSTM(40).config()
    trace = Trace({"big": LayerTrace("big", "LSTM", arrays, cell, hidden, np.array([steps]), options)})
    expected = np.sort(np.argsort(-sizes)[:MOST_UNITS])
    figure = trace.plot()
    for axes, array in zip(heatmaps(figure), (arrays["i"], cell, hidden), strict=True):
        assert rows_of(axes) == expected.tolist()
        assert_bitwise_equal(shown(axes), array[0].T[expected])
    assert figure.get_suptitle() == "big (LSTM, 40 units)\n16 of 40 units: those whose cell state varies most"


def test_chosen_units_stand_in_the_order_that_was_asked_for():
    trace = trace_of(fl.LSTM(40))
    figure = trace.plot(units=[30, 2, 7])
    assert figure.get_suptitle() == "lstm (LSTM, 40 units)\n3 of 40 units"
    for axes, array in zip(heatmaps(figure), (*trace.gates.values(), trace.cell, trace.hidden), strict=True):
        assert rows_of(axes) == [30, 2, 7]
        assert_bitwise_equal(shown(axes), array[0].T[[30, 2, 7]])


def test_all_units_may_be_asked_for():
    for axes in heatmaps(trace_of(fl.LSTM(100)).plot(units=range(100))):
        assert shown(axes).shape == (100, 7)
        assert rows_of(axes)[:3] == [0, 5, 10], "not every row has room for its number"


def test_a_projected_state_has_features_of_its_own():
    trace = trace_of(fl.LSTM(6, projection=2))
    *others, last = heatmaps(trace.plot(units=[5, 3]))
    assert_bitwise_equal(shown(last), trace.hidden[0].T)
    assert (last.get_ylabel(), others[0].get_ylabel()) == ("feature", "unit")
    assert rows_of(last) == [0, 1]
    assert rows_of(others[0]) == [5, 3]


def test_both_directions_stand_side_by_side():
    trace = trace_of(fl.Bidirectional(fl.GRU(3)), [4, 6])
    figure = trace.plot(1)
    left, right = figure.subfigs
    assert figure.get_suptitle() == "bidirectional, sequence 1"
    assert left.get_suptitle() == "forward (GRU, 3 units)"
    assert right.get_suptitle() == "backward (GRU, 3 units, read from right to left)"
    for part, found in ((left, trace["bidirectional"].forward), (right, trace["bidirectional"].backward)):
        arrays = *found.gates.values(), found.hidden
        for axes, array in zip(heatmaps(part), arrays, strict=True):
            assert_bitwise_equal(shown(axes), array[1].T)
    assert "h_{t-1}" in heatmaps(left)[-1].get_title(loc="left")
    assert "h_{t+1}" in heatmaps(right)[-1].get_title(loc="left")
    saved(figure)


def test_a_layer_is_chosen_by_its_name():
    model = fl.Sequential([fl.GRU(4, return_sequences=True), fl.SimpleRNN(3, go_backwards=True, name="plain")])
    model.build(2)
    trace = fl.inspect(model, np.ones((1, 5, 2)))
    assert len(heatmaps(trace.plot())) == 4
    figure = trace.plot(layer="plain")
    [axes] = heatmaps(figure)
    assert_bitwise_equal(shown(axes), trace["plain"].hidden[0].T)
    assert figure.get_suptitle() == "plain (SimpleRNN, 3 units, read from right to left)"


def test_a_model_that_diverged_can_be_looked_at():
    layer = fl.LSTM(3, "relu")
    trace = trace_of(layer)
    trace.cell[0, 4:] = np.nan
    trace.hidden[0, 3] = np.inf
    figure = trace.plot()
    assert all(np.isfinite(axes.images[0].get_clim()).all() for axes in heatmaps(figure))
    saved(figure)


# --- labels ---------------------------------------------------------------------------------------------------------


def labels_of(figure):
    return [tick.get_text() for tick in heatmaps(figure)[-1].get_xticklabels()]


def test_a_text_stands_below_the_last_heatmap():
    model = fl.LanguageModel(Vocabulary(tuple("ab $\n\t\0")), embedding=3, hidden=5)
    figure = fl.inspect(model, "a $b$\n\t\0").plot()
    assert labels_of(figure) == ["a", "␣", "$", "b", "$", "↵", "→", "·"]
    for axes in heatmaps(figure)[:-1]:
        assert not any(tick.label1.get_visible() for tick in axes.xaxis.get_major_ticks())
    saved(figure)  # dollars are no mathematics


def test_labels_may_be_given():
    figure = trace_of(fl.LSTM(3), [4]).plot(labels=["up", 7, " a\nlong word", ""])
    assert labels_of(figure) == ["up", "7", "a↵long word", ""]
    assert {tick.get_rotation() for tick in heatmaps(figure)[-1].get_xticklabels()} == {90.0}
    saved(figure)


@pytest.mark.parametrize("steps", [1, 5, 200])
def test_without_labels_steps_are_numbered(steps):
    figure = trace_of(fl.LSTM(3), [steps]).plot()
    assert heatmaps(figure)[-1].get_xlabel() == "step"
    saved(figure)
    inside = [float(text.replace("\N{MINUS SIGN}", "-")) for text in labels_of(figure)]
    assert 0.0 in inside
    assert all(number == int(number) for number in inside)


def test_a_text_with_more_characters_than_there_is_room_for_has_numbers():
    model = fl.LanguageModel(Vocabulary(tuple("ab")), embedding=3, hidden=5)
    assert labels_of(fl.inspect(model, "ab" * (MOST_LABELS // 2)).plot()) == [*"ab"] * (MOST_LABELS // 2)
    figure = fl.inspect(model, "ab" * MOST_LABELS).plot()
    assert heatmaps(figure)[-1].get_xlabel() == "step"
    assert not {"a", "b"} & {*labels_of(figure)}


# --- titles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "letter", "text", "number"),
    [
        (fl.LSTM(3), "i", r"input gate   $i_t = \sigma(a_i)$", "(1)"),
        (fl.LSTM(3), "f", r"forget gate   $f_t = \sigma(a_f)$", "(2)"),
        (fl.LSTM(3), "g", r"candidate   $g_t = \tanh(a_g)$", "(3)"),
        (fl.LSTM(3), "o", r"output gate   $o_t = \sigma(a_o)$", "(4)"),
        (fl.LSTM(3), "c", r"cell state   $c_t = f_t\, c_{t-1} + i_t\, g_t$", "(5)"),
        (fl.LSTM(3), "h", r"hidden state   $h_t = o_t\, \tanh(c_t)$", "(6)"),
        (fl.LSTM(3, peephole=True), "i", r"input gate   $i_t = \sigma(a_i + p_i\, c_{t-1})$", "(1p)"),
        (fl.LSTM(3, peephole=True), "o", r"output gate   $o_t = \sigma(a_o + p_o\, c_t)$", "(4p)"),
        (fl.LSTM(3, coupled=True), "f", r"forget gate   $f_t = 1 - i_t$", "(2c)"),
        (fl.LSTM(3, projection=2), "h", r"hidden state   $h_t = W_{hr}\,(o_t\, \tanh(c_t))$", "(6, 7)"),
        (fl.LSTM(3, "linear"), "g", r"candidate   $g_t = a_g$", "(3)"),
        (fl.LSTM(3, recurrent_activation="hard_sigmoid"), "o", r"$o_t = \mathrm{hard\_sigmoid}(a_o)$", "(4)"),
        (fl.GRU(3), "z", r"update gate   $z_t = \sigma(a_z + u_z)$", "(2)"),
        (fl.GRU(3), "n", r"candidate   $n_t = \tanh(a_n + r_t\, u_n)$", "(3)"),
        (fl.GRU(3, reset_after=False), "n", r"$n_t = \tanh(a_n + W_{hn}\,(r_t\, h_{t-1}) + b_{hn})$", "(3r)"),
        (fl.GRU(3), "h", r"hidden state   $h_t = (1 - z_t)\, n_t + z_t\, h_{t-1}$", "(4)"),
        (fl.SimpleRNN(3, "relu"), "h", r"hidden state   $h_t = \mathrm{relu}(a)$", "(1)"),
    ],
)
def test_titles_are_the_equations_of_the_pages(layer, letter, text, number):
    trace = trace_of(layer)
    title = titles_of([*trace.gates, "h"], layer.config(), backwards=False)[letter]
    assert text in title.text
    assert title.number == number
    figure = trace.plot()
    assert (title.text, title.number) in [
        (axes.get_title(loc="left"), axes.get_title(loc="right")) for axes in heatmaps(figure)
    ]
    saved(figure)


def test_a_class_of_the_users_own_has_the_equations_of_its_base():
    class Mine(fl.LSTM):
        def config(self):
            return {"units": self.units}

    figure = trace_of(Mine(3)).plot()
    assert [axes.get_title(loc="right") for axes in heatmaps(figure)] == [f"({number})" for number in range(1, 7)]
    assert figure.get_suptitle() == "mine (Mine, 3 units)"


# --- where it is drawn, and what is refused ---------------------------------------------------------------------------


def test_it_is_drawn_into_a_figure_that_is_given():
    parts = figures.Figure(layout="constrained").subfigures(1, 2)
    trace = trace_of(fl.GRU(3))
    assert trace.plot(figure=parts[1]) is parts[1]
    assert not parts[0].axes
    assert len(heatmaps(parts[1])) == 4


def test_nothing_global_is_touched():
    trace_of(fl.GRU(3)).plot()
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequence": 2}, "plot: sequence=2; the trace has 2, 0 to 1"),
        ({"sequence": -1}, "plot: sequence is -1"),
        ({"layer": "gru"}, "no recurrent layer 'gru'; there are 'lstm'"),
        ({"units": [0, 3]}, "plot: unit 3; lstm has 3, 0 to 2"),
        ({"units": [0.5]}, "plot: units is 0.5"),
        ({"units": []}, "plot: units is empty"),
        ({"labels": "abc"}, "plot: 3 labels for 4 steps"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        trace_of(fl.LSTM(3), [4, 2]).plot(**arguments)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'fastlstm\[plot\]'") as error:
        trace_of(fl.LSTM(3)).plot()
    assert isinstance(error.value, ImportError)
