"""Start values by Keras's names: their spread follows from the fans, and those by default are what they always were."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError
from fastlstm.layers.initializers import INITIALIZERS, initial

ROWS, COLUMNS = 400, 300
FANS = {"glorot": ROWS + COLUMNS, "he": COLUMNS, "lecun": COLUMNS}
VARIANCE = {"glorot": 2.0, "he": 2.0, "lecun": 1.0}


def drawn(name, shape=(ROWS, COLUMNS), seed=0):
    return initial(name, np.random.default_rng(seed), shape)


@pytest.mark.parametrize("family", FANS)
@pytest.mark.parametrize("form", ["uniform", "normal"])
def test_the_variance_follows_from_the_fans(family, form):
    values = drawn(f"{family}_{form}")
    deviation = np.sqrt(VARIANCE[family] / FANS[family])
    assert abs(values.mean()) < 4 * deviation / np.sqrt(values.size)
    assert abs(values.std() / deviation - 1) < 0.01
    beyond = np.abs(values).max() / deviation
    if form == "uniform":
        assert 0.999 * np.sqrt(3) < beyond <= np.sqrt(3)
    else:
        assert beyond > 3, "normal values have tails"


@pytest.mark.parametrize("family", FANS)
def test_the_taps_of_a_convolution_count_among_the_fans(family):
    filters, features, taps = 200, 60, 5
    fans = {"glorot": (filters + features) * taps, "he": features * taps, "lecun": features * taps}
    values = drawn(f"{family}_uniform", (filters, features, taps))
    assert values.shape == (filters, features, taps)
    assert abs(values.std() / np.sqrt(VARIANCE[family] / fans[family]) - 1) < 0.01


def test_the_filters_of_a_convolution_are_orthonormal():
    values = drawn("orthogonal", (10, 4, 5)).reshape(10, 20)
    np.testing.assert_allclose(values @ values.T, np.eye(10), atol=1e-12)


@pytest.mark.parametrize(("name", "deviation"), [("random_uniform", 0.05 / np.sqrt(3)), ("random_normal", 0.05)])
def test_random_values_do_not_look_at_the_fans(name, deviation):
    for shape in ((ROWS, COLUMNS), (50, 2000)):
        assert abs(drawn(name, shape).std() / deviation - 1) < 0.01


@pytest.mark.parametrize("shape", [(40, 10), (10, 40), (10, 10)])
def test_the_shorter_side_is_orthonormal(shape):
    values = drawn("orthogonal", shape)
    product = values.T @ values if shape[0] >= shape[1] else values @ values.T
    np.testing.assert_allclose(product, np.eye(10), atol=1e-12)
    signs = np.sign(np.diag(np.linalg.qr(drawn("orthogonal", (200, 200)))[1]))
    assert 0.3 < (signs > 0).mean() < 0.7, "the signs are drawn, too"


def test_constants():
    assert (drawn("zeros") == 0).all()
    assert (drawn("ones") == 1).all()
    np.testing.assert_array_equal(drawn("identity", (6, 3)), np.tile(np.eye(3), (2, 1)))
    np.testing.assert_array_equal(drawn("identity", (2, 3)), np.eye(3)[:2])


@pytest.mark.parametrize("name", INITIALIZERS)
def test_every_name_is_taken_for_every_parameter(name):
    options = {f"{part}_initializer": name for part in ("kernel", "recurrent", "bias")}
    for kind in (fl.LSTM, fl.GRU, fl.SimpleRNN):
        one, other, next_seed = (kind(6, **options) for _ in range(3))
        for layer, seed in ((one, 1), (other, 1), (next_seed, 2)):
            layer.build(5, seed)
        for key, value in one.params.items():
            assert np.isfinite(value).all()
            np.testing.assert_array_equal(value, other.params[key])
        constant = name in ("zeros", "ones", "identity")
        assert (one.params["weight_ih_l0"] == next_seed.params["weight_ih_l0"]).all() == constant
        assert not one.params["bias_hh_l0"].any()


def test_the_bias_of_forget_gates_is_set_over_the_initializer():
    layer = fl.LSTM(3, bias_initializer="random_normal")
    layer.build(2, 0)
    bias = layer.params["bias_ih_l0"].reshape(4, 3)
    assert (bias[1] == 1).all()
    assert (np.abs(bias[[0, 2, 3]]) < 0.5).all()
    assert bias[[0, 2, 3]].all()


def test_start_values_by_default_are_drawn_as_they_always_were():
    """Glorot's uniform, then an orthogonal matrix, from one generator: a seed gives the weights that it gave before."""
    layer = fl.LSTM(3, dtype="float64")
    layer.build(2, 0)
    rng = np.random.default_rng(0)
    limit = np.sqrt(6 / (2 + 12))
    np.testing.assert_array_equal(layer.params["weight_ih_l0"], rng.uniform(-limit, limit, (12, 2)))
    q, r = np.linalg.qr(rng.standard_normal((12, 3)))
    np.testing.assert_allclose(layer.params["weight_hh_l0"], q * np.sign(np.diag(r)), rtol=1e-12)
    np.testing.assert_allclose(layer.params["weight_hh_l0"][0], [0.238120784, 0.0183987636, -0.264014691], rtol=1e-6)
    both = fl.Bidirectional(fl.LSTM(3, dtype="float64"))
    both.build(2, 0)
    for name, value in layer.params.items():
        np.testing.assert_array_equal(both.params[name], value)
    np.testing.assert_array_equal(both.params["weight_ih_l0_reverse"], rng.uniform(-limit, limit, (12, 2)))


@pytest.mark.parametrize("wrong", ["nought", "", None, 3, np.zeros])
def test_what_is_no_name_is_refused(wrong):
    with pytest.raises(OptionError, match=r"GRU: kernel_initializer=.*expected one of glorot_uniform, "):
        fl.GRU(3, kernel_initializer=wrong)
