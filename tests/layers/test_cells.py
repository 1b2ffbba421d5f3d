"""Every recurrent layer with every option: outputs, states and gradients are those of the naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlstm as fl
from tests import gradcheck
from tests.cell_cases import (
    SPECS,
    assert_same_gradients,
    assert_same_outputs,
    cases_of,
    make_case,
    naive_gradients,
    naive_outputs,
    smooth_case,
)
from tests.layers.cells import (
    Trained,
    arrays_of,
    call,
    every_spec,
    layer_of,
    named,
    new_layer,
    one_of_each,
    state_of,
    train,
    training_pass,
)
from tests.layers.harness import forward_backward
from tests.naive.cells import Gradients
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

SHAPES = (
    ([3, 5, 1], 3, 4),
    ([2, 1, 3, 2, 3, 1, 2], 3, 35),
    ([4, 4, 4, 4, 4], 17, 16),  # dense
    ([13], 1, 5),  # one sequence
    ([1, 1, 1], 9, 33),  # one step
)
"""Lengths, features, units: a register full, more, less."""


def shaped(spec, seed=0, shapes=SHAPES):
    return [make_case(spec, *shape, seed + place) for place, shape in enumerate(shapes)]


def turned(case):
    """Return a case whose sequences, and the gradients of its steps' outputs, are turned round."""
    return case._replace(xs=[x[::-1].copy() for x in case.xs], dys=[dy[::-1].copy() for dy in case.dys])


# --- values and gradients -------------------------------------------------------------------------------------------


@every_spec
def test_outputs_states_and_gradients_are_the_naive_loops(spec, dtype):
    for case in shaped(spec):
        outputs, gradients = train(layer_of(case, dtype), case)
        assert_same_outputs(case, outputs, naive_outputs(case))
        assert_same_gradients(case, gradients, naive_gradients(case))


@settings(max_examples=40)
@given(st.sampled_from(SPECS).flatmap(cases_of), st.sampled_from(["float32", "float64"]))
def test_any_shape(case, dtype):
    outputs, gradients = train(layer_of(case, dtype), case)
    assert_same_outputs(case, outputs, naive_outputs(case))
    assert_same_gradients(case, gradients, naive_gradients(case))


@every_spec
def test_a_call_gives_the_naive_outputs(spec, dtype):
    for case in shaped(spec, 10):
        assert_same_outputs(case, call(layer_of(case, dtype), case), naive_outputs(case))


@every_spec
@pytest.mark.parametrize("lengths", [[3], [3, 4, 1]])
def test_every_gradient_is_the_numeric_one(spec, lengths):
    case = smooth_case(spec, lengths, 2, 4)
    layer = layer_of(case)
    _, gradients = train(layer, case)

    def loss():
        layer.changed()
        return case.loss(*call(layer, case))

    gradcheck.assert_gradients(loss, arrays_of(case, layer), named(gradients))


@one_of_each
def test_gradients_of_a_large_shape_along_random_directions(spec, rng):
    case = make_case(spec, [50, 1, 17, 17, 3, 28, 9], 70, 133, 6)
    layer = layer_of(case)
    _, gradients = train(layer, case)

    def loss():
        layer.changed()
        return case.loss(*call(layer, case))

    gradcheck.assert_projected_gradients(loss, arrays_of(case, layer), named(gradients), rng)


@every_spec
def test_going_backwards_reads_each_true_sequence_from_its_end(spec, dtype):
    """Outputs come in the order in which steps were read, as in Keras; the gradient goes back to the step it is of."""
    for case in shaped(spec, 20, SHAPES[:3]):
        other = turned(case)._replace(dys=case.dys)
        expected, gradients = naive_outputs(other), naive_gradients(other)
        gradients = gradients._replace(xs=[dx[::-1] for dx in gradients.xs])
        layer = layer_of(case, dtype, go_backwards=True)
        found, found_gradients = train(layer, case)
        assert_same_outputs(case, found, expected)
        assert_same_gradients(case, found_gradients, gradients)
        assert_same_outputs(case, call(layer, case), expected)


@every_spec
def test_only_the_last_step_goes_out_and_its_gradient_comes_back(spec, dtype):
    case = make_case(spec, [3, 5, 1], 3, 9, 4)
    zeros = tuple(np.zeros_like(part) for part in case.states)
    d_last = case.d_finals[0]
    case = case._replace(
        states=zeros,
        dys=[np.zeros_like(dy) for dy in case.dys],
        d_finals=(d_last, *(np.zeros_like(part) for part in case.d_finals[1:])),
    )
    layer = layer_of(case, dtype, return_sequences=False, return_state=False)
    _, finals = naive_outputs(case)
    assert_outputs_close(layer(case.xs), finals[0], what="a call")
    out, dx, gradients = forward_backward(layer, case.xs, d_last, training_pass())
    assert_outputs_close(out, finals[0])
    expected = naive_gradients(case)
    assert_same_gradients(case, Gradients(dx, (), gradients), expected._replace(states=()))


@every_spec
def test_a_training_pass_without_dropout_has_the_bits_of_a_call(spec, dtype):
    for case in shaped(spec, 30):
        layer = layer_of(case, dtype)
        (ys, finals), (called, ends) = Trained(layer, case).outputs, call(layer, case)
        for n, (y, other) in enumerate(zip(ys, called, strict=True)):
            assert_bitwise_equal(y, other, what=f"sequence {n}")
        for part, other in zip(finals, ends, strict=True):
            assert_bitwise_equal(part, other, what="state")


# --- a layer that runs twice ----------------------------------------------------------------------------------------


@one_of_each
@pytest.mark.parametrize("first_back", [0, 1])
@pytest.mark.parametrize("lengths", [[3, 5, 1], [5, 5]])
def test_a_layer_that_runs_twice_in_one_pass_has_the_gradients_of_each_run(spec, dtype, first_back, lengths):
    one = make_case(spec, [4, 2, 5], 3, 9, 1)
    two = make_case(spec, lengths, 3, 9, 2)._replace(weights=one.weights)
    layer, context = layer_of(one, dtype), training_pass()
    alone = [named(train(layer, case)[1]) for case in (one, two)]
    runs = [Trained(layer, case, context) for case in (one, two)]
    for place in (first_back, 1 - first_back):
        for name, gradient in named(runs[place].backward()).items():
            assert_bitwise_equal(gradient, alone[place][name], what=f"run {place}: {name}")


@one_of_each
def test_memory_is_used_again_without_a_trace(spec):
    """A large batch, then a small one, in one pass after the other: as if each had its own memory."""
    large = make_case(spec, [9, 7, 2, 9], 5, 11, 1)
    small = make_case(spec, [2, 3], 5, 11, 2)._replace(weights=large.weights)
    layer, context = layer_of(large), training_pass()
    alone = named(train(layer, small)[1])
    for _ in range(2):
        train(layer, large, context)
        for name, gradient in named(train(layer, small, context)[1]).items():
            assert_bitwise_equal(gradient, alone[name], what=name)


# --- dropout --------------------------------------------------------------------------------------------------------


@one_of_each
@pytest.mark.parametrize(
    "options", [{"dropout": 0.3}, {"recurrent_dropout": 0.3}, {"dropout": 0.5, "recurrent_dropout": 0.2}]
)
@pytest.mark.parametrize("lengths", [[4, 4], [3, 5, 1]])
def test_gradients_with_dropout_are_the_numeric_ones_of_the_same_masks(spec, options, lengths):
    case = make_case(spec, lengths, 4, 5, 9)
    layer = layer_of(case, **options)
    _, gradients = train(layer, case, training_pass(4))

    def loss():
        layer.changed()
        return case.loss(*Trained(layer, case, training_pass(4)).outputs)

    gradcheck.assert_gradients(loss, arrays_of(case, layer), named(gradients))


@one_of_each
def test_input_dropout_is_a_network_without_those_inputs_and_with_the_others_stronger(spec):
    case = make_case(spec, [6], 20, 5, 3)
    outputs, gradients = train(layer_of(case, dropout=0.4), case, training_pass(8))
    dropped = gradients.xs[0] == 0
    assert (dropped == dropped[0]).all(), "the mask changes from step to step"
    assert 2 <= dropped[0].sum() <= 14
    mask = ~dropped[0] / (1 - 0.4)
    thinned = case._replace(weights=case.weights | {"weight_ih_l0": case.weights["weight_ih_l0"] * mask})
    assert_same_outputs(case, outputs, naive_outputs(thinned))
    expected = naive_gradients(thinned)
    expected.weights["weight_ih_l0"] *= mask  # of W where the naive network has W * mask
    assert_same_gradients(case, gradients, expected)


@one_of_each
def test_recurrent_dropout_is_a_network_without_those_units_in_h_prev(spec):
    spec = spec._replace(projection=12) if spec.projection else spec
    case = make_case(spec, [6], 3, 20, 3)
    outputs, gradients = train(layer_of(case, recurrent_dropout=0.4), case, training_pass(8))
    dropped = ~gradients.weights["weight_hh_l0"].any(axis=0)
    assert 0.05 < dropped.mean() < 0.75
    mask = ~dropped / (1 - 0.4)
    thinned = case._replace(weights=case.weights | {"weight_hh_l0": case.weights["weight_hh_l0"] * mask})
    assert_same_outputs(case, outputs, naive_outputs(thinned))
    expected = naive_gradients(thinned)
    expected.weights["weight_hh_l0"] *= mask
    assert_same_gradients(case, gradients, expected)


@one_of_each
def test_dropout_is_for_training_only(spec):
    case = make_case(spec, [4, 2], 3, 5, 0)
    plain, dropping = layer_of(case), layer_of(case, dropout=0.5, recurrent_dropout=0.5)
    for a, b in zip(plain(case.xs)[0], dropping(case.xs)[0], strict=True):
        assert_bitwise_equal(a, b)


# --- states ---------------------------------------------------------------------------------------------------------


@one_of_each
def test_a_state_may_be_a_tuple_or_where_it_is_one_array_that_array(spec):
    case = make_case(spec, [3, 2], 2, 5, 0)
    layer = layer_of(case)
    expected, final = layer(case.xs, initial_state=state_of(spec, case.states))
    assert type(final) is type(state_of(spec, case.states))
    assert final._fields == tuple("hc" if spec.kind == "lstm" else "h")
    kept = [part.copy() for part in case.states]
    forms = [tuple(case.states), list(case.states)]
    if spec.kind != "lstm":
        forms += [case.states[0], case.states[0].tolist()]
    for form in forms:
        y, again = layer(case.xs, initial_state=form)
        for got, wanted in zip((*y, *again), (*expected, *final), strict=True):
            assert_bitwise_equal(got, wanted)
    for part, before in zip(case.states, kept, strict=True):
        assert_bitwise_equal(part, before, what="a state that was given")


@one_of_each
def test_no_state_is_a_state_of_zeros(spec, dtype):
    case = make_case(spec, [3, 2], 2, 5, 0)
    case = case._replace(states=tuple(np.zeros_like(part) for part in case.states))
    layer = layer_of(case, dtype)
    y, final = layer(case.xs)
    expected, ends = call(layer, case)
    for got, wanted in zip((*y, *final), (*expected, *ends), strict=True):
        assert_bitwise_equal(got, wanted)


@one_of_each
def test_a_state_goes_from_one_layer_to_the_next(spec):
    """As from an encoder to a decoder: the state that one layer returns is one that the other takes."""
    case = make_case(spec, [3, 3], 2, 5, 0)
    encoder, decoder = layer_of(case), layer_of(case)
    _, state = encoder(case.xs)
    y, _ = decoder(case.xs, initial_state=state)
    expected, _ = naive_outputs(case._replace(states=tuple(state)))
    for got, wanted in zip(y, expected, strict=True):
        assert_outputs_close(got, wanted)


# --- training a model -----------------------------------------------------------------------------------------------


@one_of_each
def test_twenty_steps_of_a_model_follow_the_naive_gradients(spec):
    """Plain gradient descent on the mean square of what goes out, after an Embedding."""
    rng, rate = np.random.default_rng(5), 0.5
    ids = rng.integers(0, 6, (4, 5))
    layer = new_layer(spec, 4, return_sequences=False, return_state=False)
    model = fl.Sequential([fl.Embedding(6, 3, dtype="float64"), layer], seed=3)
    model.build()
    case = make_case(spec, [5] * 4, 3, 4, 0)
    layer.load_state_dict(case.weights)
    target = rng.standard_normal((4, layer.features_out))
    table, weights = model.layers[0].state_dict()["weight"], {k: v.copy() for k, v in case.weights.items()}
    model.compile(fl.optimizers.SGD(rate), "mse")
    model.fit(ids, target, batch_size=4, epochs=20, shuffle=False, verbose=0)
    zeros = tuple(np.zeros_like(part) for part in case.states)
    for _ in range(20):
        now = case._replace(xs=list(table[ids]), weights=weights, states=zeros)
        _, finals = naive_outputs(now)
        d_out = 2 * (finals[0] - target) / target.size
        dys = [np.zeros((5, layer.features_out)) for _ in range(4)]
        gradients = naive_gradients(now._replace(dys=dys, d_finals=(d_out, *zeros[1:])))
        for name, gradient in gradients.weights.items():
            weights[name] = weights[name] - rate * gradient
        for row, dx in zip(ids, gradients.xs, strict=True):
            np.subtract.at(table, row, rate * dx)
    for name, value in layer.state_dict().items():
        assert_gradients_close(value, weights[name], what=name)
    assert_gradients_close(model.layers[0].state_dict()["weight"], table, what="the table")
