"""Bitwise equal, for every recurrent layer: alone or in any batch, whole, in chunks or streamed, on any cores."""

import numpy as np
import pytest

import fastlstm as fl
from tests.cell_cases import make_case
from tests.layers.cells import Trained, call, every_spec, layer_of, named, one_of_each, state_of, train
from tests.tolerances import assert_bitwise_equal

RAGGED = ([7, 3, 12, 1, 7, 5], 19, 37)
DENSE = ([8] * 9, 19, 37)
LARGE = (([60] * 24, 48, 96), ([40, 7, 90, 33, 1, 60, 60, 12], 48, 160), ([50], 30, 260), ([30, 30], 20, 300))
"""Enough work for several cores: many sequences, ragged ones, and few with many units."""


@pytest.fixture
def on_threads():
    """Return a function that calls another on 1, 2 and 3 threads; the count is put back afterwards."""
    before = fl.get_num_threads()

    def run(function):
        results = []
        for threads in (1, 2, 3):
            fl.set_num_threads(threads)
            results.append(function())
        return results

    yield run
    fl.set_num_threads(before)


def large_case(spec, lengths, features, units, seed):
    """Build a case whose projection, if it has one, is large too."""
    spec = spec._replace(projection=units // 3) if spec.projection else spec
    return make_case(spec, lengths, features, units, seed)


def assert_same_bits(found, expected, what):
    """Compare (ys, finals) of both."""
    for n, (y, other) in enumerate(zip(found[0], expected[0], strict=True)):
        assert_bitwise_equal(y, other, what=f"{what}: sequence {n}")
    for k, (part, other) in enumerate(zip(found[1], expected[1], strict=True)):
        assert_bitwise_equal(part, other, what=f"{what}: state {k}")


# --- any batch ------------------------------------------------------------------------------------------------------


@every_spec
@pytest.mark.parametrize("shape", [RAGGED, DENSE], ids=["ragged", "dense"])
def test_a_sequence_has_the_same_bits_alone_and_in_a_batch(spec, dtype, shape):
    case = make_case(spec, *shape, 0)
    layer = layer_of(case, dtype)
    dense = np.stack(case.xs) if shape is DENSE else None
    ys, finals = call(layer, case, dense)
    for n in range(len(case.xs)):
        one = slice(n, n + 1)
        for form in (None, case.xs[n][None].astype(dtype)):
            alone = call(layer, case.keep(one), form)
            assert_same_bits(alone, (ys[one], [part[one] for part in finals]), f"alone, {type(form).__name__}")


@one_of_each
def test_the_order_of_a_batch_does_not_matter(spec, dtype):
    case = make_case(spec, *RAGGED, 1)
    layer, order = layer_of(case, dtype), [3, 0, 5, 2, 1, 4]
    ys, finals = call(layer, case)
    mixed = case._replace(xs=[case.xs[n] for n in order], states=tuple(part[order] for part in case.states))
    assert_same_bits(call(layer, mixed), ([ys[n] for n in order], [part[order] for part in finals]), "mixed")


@one_of_each
def test_gradients_of_a_sequence_do_not_depend_on_its_batch(spec, dtype):
    case = make_case(spec, *RAGGED, 2)
    layer = layer_of(case, dtype)
    _, together = train(layer, case)
    for n in range(len(case.xs)):
        _, alone = train(layer, case.keep(slice(n, n + 1)))
        assert_bitwise_equal(together.xs[n], alone.xs[0], what="dx")
        for part, other in zip(together.states, alone.states, strict=True):
            assert_bitwise_equal(part[n], other[0], what="gradient of a state")


@one_of_each
def test_a_list_and_a_padded_array_are_the_same_batch(spec, dtype):
    case = make_case(spec, *RAGGED, 3)
    layer = layer_of(case, dtype)
    ys, finals = call(layer, case)
    padded = np.full((len(ys), max(case.lengths) + 2, case.features), np.nan)  # nothing is computed on padding
    for row, x in zip(padded, case.xs, strict=True):
        row[: len(x)] = x
    y, final = layer(padded, lengths=case.lengths, initial_state=state_of(spec, case.states))
    for row, length in zip(y, case.lengths, strict=True):
        assert not row[length:].any()
    assert_same_bits(
        ([row[:length] for row, length in zip(y, case.lengths, strict=True)], final), (ys, finals), "padded"
    )


@one_of_each
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_one_sequence_touch_no_other(spec, value):
    case = make_case(spec, *RAGGED, 4)
    layer = layer_of(case)
    clean, _ = call(layer, case)
    case.xs[2][4, 0] = value
    spoilt, _ = call(layer, case)
    if np.isnan(value):
        assert np.isnan(spoilt[2][4:]).all()
    assert_bitwise_equal(spoilt[2][:4], clean[2][:4])
    del clean[2], spoilt[2]
    assert_same_bits((spoilt, ()), (clean, ()), "the others")


# --- whole, in chunks, streamed -------------------------------------------------------------------------------------


@every_spec
def test_whole_is_chunks_with_carried_state(spec, dtype):
    case = make_case(spec, *DENSE, 5)
    layer, x = layer_of(case, dtype), np.stack(case.xs).astype(dtype)
    y, final = call(layer, case, x)
    state, parts = state_of(spec, case.states), []
    for begin, end in ((0, 1), (1, 5), (5, 8)):
        part, state = layer(x[:, begin:end], initial_state=state)
        parts.append(part)
    assert_same_bits((np.concatenate(parts, axis=1), state), (y, final), "chunks")


@one_of_each
def test_whole_is_chunks_in_training(spec, dtype):
    """Outputs and states; gradients of windows are truncated, so they are compared with nothing."""
    case = make_case(spec, *DENSE, 6)
    layer = layer_of(case, dtype)
    whole = Trained(layer, case)
    first = Trained(layer, case._replace(xs=[x[:3] for x in case.xs]))
    second = Trained(layer, case._replace(xs=[x[3:] for x in case.xs], states=first.finals))
    joined = [np.concatenate(parts) for parts in zip(first.ys, second.ys, strict=True)]
    assert_same_bits((joined, second.finals), whole.outputs, "chunks")


@every_spec
def test_a_stream_has_the_bits_of_the_whole(spec, dtype):
    for lengths, features, units in (DENSE, ([6], 3, 5), ([5] * 2, 19, 160)):
        case = make_case(spec, lengths, features, units, 7)
        layer, x = layer_of(case, dtype, return_state=False), np.stack(case.xs).astype(dtype)
        whole, stream = layer(x), fl.Stream([layer], len(x))
        for t in range(x.shape[1]):
            assert_bitwise_equal(stream.step(x[:, t]), np.ascontiguousarray(whole[:, t]), what=f"step {t}")


@one_of_each
def test_a_streams_state_is_kept_set_back_and_cloned(spec):
    case = make_case(spec, [6, 6, 6], 3, 5, 8)
    layer, x = layer_of(case, return_state=False), np.stack(case.xs)
    stream, fresh = fl.Stream([layer], 3), fl.Stream([layer], 3)
    for t in range(3):
        stream.step(x[:, t])
    state, twin = stream.state_dict(), stream.clone()
    assert {name.rpartition(".")[2] for name in state} == set("hc" if spec.kind == "lstm" else "h")
    going_on = stream.step(x[:, 3])
    assert_bitwise_equal(twin.step(x[:, 3]), going_on, what="a clone")
    fresh.load_state_dict(state)
    assert_bitwise_equal(fresh.step(x[:, 3]), going_on, what="a saved state")
    stream.load_state_dict(state)
    stream.reset(1)
    mixed, start = stream.step(x[:, 3]), layer(x[:, 3:4])[:, 0]
    assert_bitwise_equal(mixed[[0, 2]], going_on[[0, 2]])
    assert_bitwise_equal(mixed[1], start[1])


@one_of_each
def test_ids_have_the_bits_of_rows_that_were_looked_up(spec, dtype):
    """Where the table is shorter than the batch, its rows are multiplied rather than those of the batch."""
    case = make_case(spec, [2], 7, 19, 9)
    layer = layer_of(case, dtype, return_state=False)
    model = fl.Sequential([fl.Embedding(5, 7, dtype=dtype), layer], seed=1)
    model.build()
    ids = np.random.default_rng(0).integers(0, 5, (6, 9))
    embedding = model.layers[0]
    expected = layer(embedding(ids))
    assert_bitwise_equal(model.predict(ids), expected)
    stream = model.stream(6)
    for t in range(9):
        assert_bitwise_equal(stream.step(ids[:, t]), np.ascontiguousarray(expected[:, t]))


# --- any number of cores --------------------------------------------------------------------------------------------


@one_of_each
@pytest.mark.parametrize("shape", LARGE, ids=["many", "ragged", "one", "few"])
def test_a_call_has_the_same_bits_on_any_number_of_threads(spec, dtype, shape, on_threads):
    case = large_case(spec, *shape, 10)
    forms = [case.xs] if len(set(case.lengths)) > 1 else [case.xs, np.stack(case.xs).astype(dtype)]
    for form in forms:
        results = on_threads(lambda form=form: [call(layer_of(case, dtype), case, form) for _ in range(3)])
        for found in (found for several in results for found in several):
            assert_same_bits(found, results[0][0], "threads")


@one_of_each
@pytest.mark.parametrize("shape", LARGE, ids=["many", "ragged", "one", "few"])
def test_training_has_the_same_bits_on_any_number_of_threads(spec, shape, on_threads):
    case = large_case(spec, *shape, 11)
    first, *others = on_threads(lambda: train(layer_of(case, "float32"), case))
    for outputs, gradients in others:
        assert_same_bits(outputs, first[0], "threads")
        for name, gradient in named(gradients).items():
            assert_bitwise_equal(gradient, named(first[1])[name], what=name)


@one_of_each
def test_a_stream_has_the_same_bits_on_any_number_of_threads(spec, on_threads):
    case = large_case(spec, [3] * 64, 64, 256, 12)
    x = np.stack(case.xs).astype("float32")

    def steps():
        stream = fl.Stream([layer_of(case, "float32", return_state=False)], len(x))
        return [stream.step(x[:, t]) for t in range(3)]

    first, *others = on_threads(steps)
    for other in others:
        assert_same_bits((other, ()), (first, ()), "threads")
