"""Bits of attention: a pair alone and in any batch, a query step alone and in its sequence, threads, two passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.layers import PassContext
from fastlstm.runtime.workspace import Workspace
from tests import strategies
from tests.layers.attending import KINDS, fits, layer_for, random_case, train
from tests.layers.callers import call_from_threads
from tests.tolerances import assert_bitwise_equal

every_kind = pytest.mark.parametrize("kind", KINDS)


@st.composite
def cases(draw, max_steps=60):
    """A kind of layer, and ragged pairs: up to more query steps than are taken at once."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    queries = draw(st.lists(st.integers(1, max_steps), min_size=2, max_size=5))
    memories = [draw(st.integers(1, 20)) for _ in queries]
    features = draw(st.tuples(st.integers(1, 90), st.integers(1, 90)) | st.tuples(*[st.integers(1, 90)] * 3))
    if not fits(kind, features):
        features = (features[-1], *features[1:])
    return kind, random_case(np.random.default_rng(draw(strategies.seeds())), queries, memories, features)


def assert_same_bits(got, wanted, what):
    for n, (one, other) in enumerate(zip(got, wanted, strict=True)):
        assert_bitwise_equal(one, other, what=f"{what} {n}")


@given(cases(), st.booleans(), strategies.float_types())
def test_a_pair_has_the_same_bits_alone_and_in_a_ragged_batch(kind_and_case, causal, dtype):
    kind, case = kind_and_case
    layer = layer_for(kind, case, dtype, use_causal_mask=causal)
    together = train(layer, case)
    called, scores = layer(case.inputs, return_attention_scores=True)
    assert_same_bits(called, together.context, "inference of pair")
    assert_same_bits(scores, together.weights, "scores of pair")
    for n in range(len(case.dcontext)):
        alone = train(layer, case.only(n))
        steps = len(case.inputs[1][n])
        assert_bitwise_equal(alone.context[0], together.context[n], what=f"context of pair {n}")
        assert_bitwise_equal(alone.weights[0], together.weights[n][:, :steps], what=f"weights of pair {n}")
        assert not together.weights[n][:, steps:].any()
        for place, parts in enumerate(alone.inputs):
            assert_bitwise_equal(parts[0], together.inputs[place][n], what=f"gradient of input {place} of pair {n}")


@given(cases(max_steps=9), strategies.float_types())
def test_a_query_step_alone_has_the_bits_that_it_has_in_its_sequence(kind_and_case, dtype):
    """A decoder that is run step by step, with one row a sequence, gets what it was trained on."""
    kind, case = kind_and_case
    layer = layer_for(kind, case, dtype)
    contexts, weights = layer(case.inputs, return_attention_scores=True)
    for step in range(max(len(query) for query in case.inputs[0])):
        alive = [n for n, query in enumerate(case.inputs[0]) if len(query) > step]
        rows = np.stack([case.inputs[0][n][step] for n in alive])
        own, own_weights = layer(
            [rows, *([part[n] for n in alive] for part in case.inputs[1:])], return_attention_scores=True
        )
        for place, n in enumerate(alive):
            assert_bitwise_equal(own[place], contexts[n][step], what=f"step {step} of pair {n}")
            steps = len(case.inputs[1][n])
            assert_bitwise_equal(own_weights[place, :steps], weights[n][step, :steps], what=f"weights, step {step}")


@every_kind
def test_a_dense_batch_has_the_bits_of_a_list(kind, rng):
    case = random_case(rng, [7] * 5, [9] * 5, (33, 33))
    layer = layer_for(kind, case, "float32")
    query, value = (np.stack(part) for part in case.inputs)
    expected = np.stack(layer(case.inputs))
    assert_bitwise_equal(layer([query, value]), expected)
    by_step = np.ascontiguousarray(query.swapaxes(0, 1)).swapaxes(0, 1)  # as a recurrent layer returns it
    assert_bitwise_equal(layer([by_step, value]), expected)


@every_kind
@pytest.mark.usefixtures("share_everything")
def test_threads_change_nothing(kind, rng, dtype):
    case = random_case(rng, [5, 50, 3, 20, 7, 1, 9], [9, 2, 30, 5, 1, 8, 4], (20, 20))
    layer = layer_for(kind, case, dtype, dropout=0.3)
    results = []
    for threads in (1, 2, 3):
        fl.set_num_threads(threads)
        results.append(train(layer, case, PassContext(True, np.random.default_rng(1))))
    for other in results[1:]:
        assert_same_bits(other.context, results[0].context, "context of pair")
        assert_same_bits(other.weights, results[0].weights, "weights of pair")
        for place, parts in enumerate(other.inputs):
            assert_same_bits(parts, results[0].inputs[place], f"gradient of input {place}, pair")
        for name, value in other.parameters.items():
            assert_bitwise_equal(value, results[0].parameters[name], what=name)


@pytest.mark.usefixtures("share_everything")
def test_several_threads_may_call_one_layer_at_once(rng):
    fl.set_num_threads(2)
    case = random_case(rng, [9, 30], [7, 12], (20, 20))
    layer = layer_for("additive, projected", case, "float32")
    expected = layer(case.inputs)

    def call(n):
        for _ in range(10):
            assert_same_bits(layer(case.inputs), expected, "pair")

    call_from_threads(call, 4)


@every_kind
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first first", "last first"])
def test_two_passes_before_either_goes_back(kind, order, rng):
    cases = [
        random_case(rng, [3, 5], [4, 2], (6, 6)),
        random_case(rng, [7, 1, 4], [5, 3, 6], (6, 6)),
    ]
    layer = layer_for(kind, cases[0], "float32", dropout=0.3)
    workspace = Workspace()

    def forward(place, workspace):
        context = PassContext(True, np.random.default_rng(place), workspace)
        inputs = tuple(pack(part, features=True, dtype=layer.dtype)[0] for part in cases[place].inputs)
        outputs, cache = layer.run(inputs, context)
        return context, outputs, cache

    def back(place, context, outputs, cache):
        dys = tuple(np.random.default_rng(9).standard_normal(y.rows.shape).astype(np.float32) for y in outputs)
        dxs, gradients = layer.run_back(dys, cache, context)
        return [*dxs, *gradients.values()]

    alone = []
    for place in (0, 1):
        passed = forward(place, Workspace())
        outputs = [y.rows.copy() for y in passed[1]]
        alone.append((outputs, [array.copy() for array in back(place, *passed)]))
    for _ in range(2):  # the second time in memory that was used before
        passes = [forward(place, workspace) for place in (0, 1)]
        for passed, (outputs, _) in zip(passes, alone, strict=True):
            assert_same_bits([y.rows for y in passed[1]], outputs, "output")
        found = {place: back(place, *passes[place]) for place in order}
        for place, gradients in found.items():  # what the first returned is valid after the second
            assert_same_bits(gradients, alone[place][1], f"gradient of pass {place},")
            assert_no_shared_memory(gradients)


def assert_no_shared_memory(arrays):
    for n, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[n + 1 :])
