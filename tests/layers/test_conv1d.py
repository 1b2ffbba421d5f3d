"""Conv1D against loops, numeric gradients and torch; and the bits that no batch, core or layout changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.errors import OptionError, ShapeError
from fastlstm.layers import PassContext
from fastlstm.runtime import config
from tests import gradcheck, naive, strategies
from tests.layers.harness import forward_backward
from tests.layers.windows import (
    assert_alone_as_in_a_batch,
    gradients_like,
    naive_options,
    options_of_convolutions,
    random_case,
)
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

SHAPES = [  # features below and above the number up to which the gradient of the input goes another way
    {"features": 3, "filters": 5, "kernel_size": 3},
    {"features": 37, "filters": 70, "kernel_size": 2},
]
OPTIONS = [
    {"padding": "valid"},
    {"padding": "same", "strides": 2},
    {"padding": "same", "dilation_rate": 3},
    {"padding": "causal", "dilation_rate": 2},
    {"padding": "causal", "strides": 3},
    {"padding": "valid", "strides": 4},
]


def conv_of(weight, bias, dtype="float64", **options):
    layer = fl.Conv1D(len(weight), weight.shape[2], dtype=dtype, **options)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def built(shape, rng, dtype="float64", **options):
    """Return a layer of this shape, with random biases."""
    layer = fl.Conv1D(shape["filters"], shape["kernel_size"], dtype=dtype, bias_initializer="random_normal", **options)
    layer.build(shape["features"], rng)
    return layer


@given(
    strategies.lengths_n(max_sequences=4, max_steps=9),
    st.integers(1, 20),
    st.integers(1, 36),
    st.integers(1, 4),
    options_of_convolutions(),
    strategies.seeds(),
    strategies.float_types(),
)
def test_outputs_and_gradients_are_the_naive_ones(lengths, features, filters, size, options, seed, dtype):
    reach = (size - 1) * options.get("dilation_rate", 1) + 1
    if options["padding"] == "valid":
        lengths = [length + reach - 1 for length in lengths]
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((filters, features, size)) / np.sqrt(features * size)
    bias = rng.standard_normal(filters)
    x = naive.random_sequences(rng, lengths, features)
    layer, plain = conv_of(weight, bias, dtype, **options), naive_options(options)
    dy = gradients_like(layer, x, filters, rng)
    y, dx, gradients = forward_backward(layer, x, dy)
    expected = np.zeros_like(weight), np.zeros_like(bias)
    for n in range(len(x)):
        assert_outputs_close(y[n], naive.conv1d(x[n], weight, bias, **plain))
        one, *of_parameters = naive.conv1d_backward(x[n], weight, dy[n], **plain)
        if one.any():
            assert_gradients_close(dx[n], one, what=f"dx of sequence {n}")
        else:
            assert not dx[n].any()
        expected = [total + part for total, part in zip(expected, of_parameters, strict=True)]
    assert_gradients_close(gradients["bias"], expected[1], what="bias")
    if expected[0].any():
        assert_gradients_close(gradients["weight"], expected[0], what="weight")


@pytest.mark.parametrize("shape", SHAPES, ids=["narrow", "wide"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("activation", [None, "tanh", "silu", "softmax"])  # relu has no slope at 0
def test_gradients_are_the_numeric_ones(shape, options, activation, rng):
    layer = built(shape, rng, activation=activation, **options)
    x = random_case(rng, [9, 7, 9], shape["features"])
    dy = gradients_like(layer, x, shape["filters"], rng)
    _, dx, gradients = forward_backward(layer, x, dy)

    def value():
        layer.changed()
        return sum((own * y).sum() for own, y in zip(dy, layer(x), strict=True))

    arrays = {f"x{n}": part for n, part in enumerate(x)} | layer.arrays
    exact = {f"x{n}": part for n, part in enumerate(dx)} | gradients
    gradcheck.assert_projected_gradients(value, arrays, exact, rng)


@pytest.mark.parametrize("shape", SHAPES, ids=["narrow", "wide"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2)])
def test_as_torch_computes_it(shape, strides, dilation, dtype, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((4, 30, shape["features"])).astype(dtype)
    layer = built(shape, rng, dtype, strides=strides, dilation_rate=dilation)
    peer = torch.nn.Conv1d(
        shape["features"], shape["filters"], shape["kernel_size"], stride=strides, dilation=dilation
    ).to(getattr(torch, dtype))
    peer.load_state_dict({name: torch.from_numpy(value) for name, value in layer.state_dict().items()})
    steps = torch.from_numpy(x).requires_grad_()
    expected = peer(steps.transpose(1, 2)).transpose(1, 2)
    dy = rng.standard_normal(expected.shape).astype(dtype)
    expected.backward(torch.from_numpy(dy))
    y, dx, gradients = forward_backward(layer, list(x), list(dy))
    assert_outputs_close(np.stack(y), expected.detach().numpy())
    assert_outputs_close(layer(x), expected.detach().numpy(), what="of an array")
    assert_gradients_close(np.stack(dx), steps.grad.numpy(), what="dx")
    for name, parameter in peer.named_parameters():
        assert_gradients_close(gradients[name], parameter.grad.numpy(), what=name)


@pytest.mark.parametrize("shape", SHAPES, ids=["narrow", "wide"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_sequence_has_the_same_bits_in_any_batch(shape, options, dtype, rng):
    layer = built(shape, rng, dtype, activation="tanh", **options)
    x = random_case(rng, [11, 14, 9, 30, 14, 10], shape["features"], dtype)
    assert_alone_as_in_a_batch(layer, x, gradients_like(layer, x, shape["filters"], rng))


@pytest.mark.usefixtures("share_everything")
@pytest.mark.parametrize("shape", SHAPES, ids=["narrow", "wide"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_threads_change_no_bit(shape, options, dtype, rng):
    layer = built(shape, rng, dtype, **options)
    x = random_case(rng, [40, 9, 23], shape["features"], dtype)
    dy = gradients_like(layer, x, shape["filters"], rng)
    results = []
    for threads in (1, 2, 3):
        fl.set_num_threads(threads)
        y, dx, gradients = forward_backward(layer, x, dy)
        results.append([*y, *dx, gradients["weight"].copy(), gradients["bias"].copy()])
    for other in results[1:]:
        for one, expected in zip(other, results[0], strict=True):
            assert_bitwise_equal(one, expected)


@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_both_ways_to_the_gradient_of_the_input_agree(options, dtype, rng):
    layer, x = built(SHAPES[1], rng, dtype, **options), random_case(rng, [9, 30], 37, dtype)
    dy = gradients_like(layer, x, 70, rng)
    _, rows, _ = forward_backward(layer, x, dy)
    with config.tuned(narrow_features=1000):
        _, products, _ = forward_backward(layer, x, dy)
    for one, other in zip(rows, products, strict=True):
        assert_gradients_close(one, other)


def test_the_values_before_the_activation_are_to_be_had_for_a_loss_that_fuses_with_it(rng):
    layer, plain = (built(SHAPES[0], np.random.default_rng(1), activation=name) for name in ("softmax", None))
    x, _ = pack(random_case(rng, [6, 9], 3), features=True)
    context = PassContext(training=True)
    logits, cache = layer.forward(x, context, linear=True)
    expected, other = plain.forward(x, context)
    assert_bitwise_equal(logits.rows, expected.rows)
    assert_bitwise_equal(layer.forward(x, PassContext(), linear=True)[0].rows, expected.rows)
    dz = rng.standard_normal(logits.rows.shape)
    found, wanted = layer.backward(dz.copy(), cache, context), plain.backward(dz, other, context)
    assert_bitwise_equal(found[0], wanted[0])
    assert_bitwise_equal(found[1]["weight"], wanted[1]["weight"])
    assert layer.fused_by == "softmax"


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_layout_of_an_array_changes_no_bit(options, dtype, rng):
    layer, x = built(SHAPES[1], rng, dtype, **options), rng.standard_normal((5, 20, 37)).astype(dtype)
    expected = layer(list(x))
    for relaid in (x, np.asfortranarray(x), x.swapaxes(0, 1).copy().swapaxes(0, 1), x[:, ::-1].copy()[:, ::-1]):
        assert_bitwise_equal(layer(relaid), np.stack(expected))
    x.flags.writeable = False
    assert_bitwise_equal(layer(x), np.stack(expected))


def test_sums_over_many_rows_go_in_blocks(dtype, rng):
    layer = fl.Conv1D(3, 8, dtype=dtype, use_bias=False)
    x = [rng.standard_normal((length, 300)).astype(dtype) for length in (400, 257)]  # 2400 values for each window
    dy = gradients_like(layer, x, 3, rng)
    _, _, gradients = forward_backward(layer, x, dy)
    expected = np.zeros((3, 300, 8))
    for own, steps in zip(dy, x, strict=True):
        for k in range(8):
            expected[:, :, k] += own.T @ steps[k : k + len(own)].astype(np.float64)
    assert gradients.keys() == {"weight"}
    assert_gradients_close(gradients["weight"], expected)


# --- what its words mean ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "size", "options", "expected"),
    [
        ([1, 2, 3, 4, 5], 3, {"padding": "same", "strides": 2}, [3, 9, 9]),
        ([1, 2, 3, 4], 3, {"padding": "same", "strides": 2}, [6, 7]),  # one zero: it comes last
        ([1, 2, 3], 2, {"padding": "same"}, [3, 5, 3]),
        ([1, 2, 3, 4], 2, {"padding": "causal", "dilation_rate": 2}, [1, 2, 4, 6]),
        ([1, 2, 3, 4, 5], 2, {"padding": "causal", "strides": 2}, [1, 5, 9]),
        ([1, 2, 3, 4, 5, 6], 2, {"strides": 3}, [3, 9]),
        ([1, 2, 3, 4, 5], 2, {"dilation_rate": 3}, [5, 7]),
        ([7], 5, {"padding": "same"}, [7]),
    ],
)
def test_padding_strides_and_dilation_as_in_keras(values, size, options, expected):
    layer = conv_of(np.ones((1, 1, size)), np.zeros(1), **options)
    assert layer(np.array(values, float).reshape(1, -1, 1)).ravel().tolist() == expected


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@given(st.lists(st.integers(9, 40), min_size=1, max_size=9))
def test_lengths_go_out_as_said_and_keep_their_order(options, lengths):
    layer = fl.Conv1D(1, 3, **options)
    expected = [len(naive.windows(length, 3, **naive_options(options))) for length in lengths]
    assert layer.lengths_out(np.array(lengths)).tolist() == expected
    y = layer([np.ones((length, 1)) for length in lengths])
    assert [len(part) for part in y] == expected
    assert layer.changes_lengths == (expected != lengths)


def test_a_padded_array_goes_out_as_one(rng):
    x = rng.standard_normal((3, 10, 4)).astype(np.float32)
    layer = fl.Conv1D(2, 3, bias_initializer="ones")
    y = layer(x, lengths=[10, 4, 7])
    assert y.shape == (3, 8, 2)
    for n, length in enumerate((10, 4, 7)):
        assert_bitwise_equal(y[n, : length - 2], layer([x[n, :length]])[0])
        assert not y[n, length - 2 :].any()
    assert layer(x[:, :8], lengths=[5, 4, 7]).shape == (3, 6, 2)


def test_the_steps_of_a_symbol_follow():
    x = fl.layers.symbol.Input((None, 4))
    y = fl.Conv1D(8, 3, strides=2)(x)
    z = fl.Conv1D(8, 3, padding="causal")(y)
    assert z.shape == (None, None, 8)
    assert not y.spec.axis.same_as(x.spec.axis)
    assert z.spec.axis.same_as(y.spec.axis)
    assert z.spec.axis.lengths({x: np.array([9, 4])}, 2).tolist() == [4, 1]


def test_parameters_bear_torchs_names_and_shapes():
    layer = fl.Conv1D(6, 3)
    layer.build(4, 0)
    assert {name: value.shape for name, value in layer.params.items()} == {"weight": (6, 4, 3), "bias": (6,)}
    assert not layer.params["bias"].any()
    limit = np.sqrt(6 / (4 * 3 + 6 * 3))
    assert 0.9 * limit < np.abs(layer.params["weight"]).max() <= limit
    other = fl.Conv1D(6, 3)
    other.load_state_dict(layer.state_dict())
    assert other.features_in == 4


def test_penalties_and_start_values_go_by_keras_words():
    layer = fl.Conv1D(
        4, 2, kernel_initializer="ones", bias_initializer="ones", kernel_regularizer=0.5, bias_regularizer=fl.L2(0.25)
    )
    layer.build(3)
    assert layer.penalties == {"weight": 0.5, "bias": 0.25}
    assert all((value == 1).all() for value in layer.params.values())
    assert fl.Conv1D(**layer.config()).config() == layer.config()
    bare = fl.Conv1D(4, 2, use_bias=False, bias_regularizer=0.1)
    bare.build(3)
    assert bare.penalties == {}
    assert list(bare.params) == ["weight"]


def test_written_weights_take_effect(rng):
    layer, x = fl.Conv1D(3, 2), rng.standard_normal((1, 5, 4)).astype(np.float32)
    before = layer(x)
    with layer.edit() as params:
        params["weight"] *= 2
    np.testing.assert_allclose(layer(x), 2 * before, rtol=1e-6)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fl.Conv1D(0, 3), "filters=0"),
        (lambda: fl.Conv1D(4, 0), "kernel_size=0"),
        (lambda: fl.Conv1D(4, 2.0), r"kernel_size=2\.0"),
        (lambda: fl.Conv1D(4, (3, 3)), r"kernel_size=\(3, 3\)"),
        (lambda: fl.Conv1D(4, 3, strides=0), "strides=0"),
        (lambda: fl.Conv1D(4, 3, strides=True), "strides=True"),
        (lambda: fl.Conv1D(4, 3, dilation_rate=-1), "dilation_rate=-1"),
        (lambda: fl.Conv1D(4, 3, strides=2, dilation_rate=2), "strides=2 and dilation_rate=2; only one"),
        (lambda: fl.Conv1D(4, 3, padding="full"), "padding='full'; expected one of valid, same, causal"),
        (lambda: fl.Conv1D(4, 3, padding=1), "padding=1"),
        (lambda: fl.Conv1D(4, 3, activation="swish2"), "swish2"),
        (lambda: fl.Conv1D(4, 3, kernel_initializer="identity"), "identity"),
        (lambda: fl.Conv1D(4, 3, kernel_initializer="none"), "kernel_initializer='none'"),
        (lambda: fl.Conv1D(4, 3, bias_regularizer="l3"), "bias_regularizer='l3'"),
    ],
)
def test_options_that_make_no_sense(make, match):
    with pytest.raises(OptionError, match=match):
        make()


def test_sizes_may_be_tuples_of_one_and_words_in_capitals_as_in_keras():
    config = fl.Conv1D(4, (3,), (2,), "SAME", dilation_rate=(1,)).config()
    assert [config[word] for word in ("kernel_size", "strides", "padding", "dilation_rate")] == [3, 2, "same", 1]


def test_a_sequence_shorter_than_the_kernel_is_named():
    layer = fl.Conv1D(4, 3, dilation_rate=2)
    with pytest.raises(ShapeError, match=r"has 4 steps, kernel_size=3 with dilation_rate=2 covers 5 steps"):
        layer(np.ones((2, 4, 3)))
    with pytest.raises(ShapeError, match=r"has 1 step, kernel_size=2"):
        fl.Conv1D(4, 2)([np.ones((5, 3)), np.ones((1, 3))])
    with pytest.raises(ShapeError, match="has 1 step, "):
        fl.Conv1D(4, 2).lengths_out(np.array([3, 1]))
    assert fl.Conv1D(4, 9, padding="same")(np.ones((2, 1, 3))).shape == (2, 1, 4)


def test_features_that_do_not_fit_are_named():
    layer = fl.Conv1D(4, 2)
    layer(np.ones((1, 3, 5)))
    with pytest.raises(ShapeError, match="x has 4 features, this layer was built for 5"):
        layer(np.ones((1, 3, 4)))
    with pytest.raises(ShapeError, match=r"expected \(4, 5, 2\)"):
        layer.load_state_dict({"weight": np.ones((4, 5, 3)), "bias": np.ones(4)})
    with pytest.raises(ShapeError, match="rank 2"):
        layer(np.ones((3, 5)))


@pytest.mark.parametrize("shape", SHAPES, ids=["narrow", "wide"])
def test_nan_stays_in_the_windows_that_see_it(shape, rng):
    layer = built(shape, rng, "float32")
    x = rng.standard_normal((2, 9, shape["features"])).astype(np.float32)
    clean = layer(x)
    x[0, 4, 1] = np.nan
    spoilt = layer(x)
    size = shape["kernel_size"]
    assert np.isnan(spoilt[0, 5 - size : 5]).all()
    assert_bitwise_equal(spoilt[1], clean[1])
    assert_bitwise_equal(np.delete(spoilt[0], range(5 - size, 5), 0), np.delete(clean[0], range(5 - size, 5), 0))


def test_a_model_that_convolves_trains_as_torchs(rng):
    torch = pytest.importorskip("torch")
    double = {"dtype": "float64"}
    model = fl.Sequential(
        [
            fl.Conv1D(6, 3, padding="same", activation="relu", **double),
            fl.MaxPooling1D(2, **double),
            fl.Conv1D(5, 2, strides=2, activation="tanh", **double),
            fl.AveragePooling1D(2, strides=1, **double),
            fl.GlobalAveragePooling1D(**double),
            fl.Dense(1, **double),
        ],
        seed=1,
    )
    x, y = rng.standard_normal((6, 12, 4)), rng.standard_normal((6, 1))
    model.build(4)
    first, second = torch.nn.Conv1d(4, 6, 3, padding=1).double(), torch.nn.Conv1d(6, 5, 2, stride=2).double()
    last = torch.nn.Linear(5, 1).double()
    for module, layer in ((first, 0), (second, 2), (last, 5)):
        module.load_state_dict({k: torch.from_numpy(v) for k, v in model.layers[layer].state_dict().items()})
    parameters = [p for module in (first, second, last) for p in module.parameters()]
    optimizer = torch.optim.SGD(parameters, 0.1)
    losses = []
    for _ in range(20):
        h = torch.nn.functional.max_pool1d(torch.relu(first(torch.from_numpy(x).transpose(1, 2))), 2)
        h = torch.nn.functional.avg_pool1d(torch.tanh(second(h)), 2, 1).mean(2)
        loss = ((last(h) - torch.from_numpy(y)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.compile(fl.optimizers.SGD(0.1), "mse")
    history = model.fit(x, y, epochs=20, batch_size=6, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(history, losses, rtol=1e-9)
    assert losses[-1] < 0.9 * losses[0]


def test_a_forward_in_training_has_the_bits_of_inference(rng):
    layer = built(SHAPES[0], rng, "float32")
    x = [rng.standard_normal((length, 3)).astype(np.float32) for length in (8, 5)]
    y, _, _ = forward_backward(layer, x, gradients_like(layer, x, 5, rng), PassContext(training=True))
    for one, other in zip(y, layer(x), strict=True):
        assert_bitwise_equal(one, other)
