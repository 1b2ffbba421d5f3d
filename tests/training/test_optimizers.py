"""Optimizers over many steps: against float64 loops and torch, clipping, hostile gradients, going on from a state."""

import math

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError, ShapeError
from fastlstm.training import optimizers
from fastlstm.training.optimizers import SGD, Adam, AdamW, RMSprop, global_norm
from tests.naive import optim as naive
from tests.tolerances import assert_bitwise_equal, assert_outputs_close

SHAPES = ((7, 5), (33,), (2, 3, 4))

ALL = {
    "sgd": lambda **k: SGD(0.05, **k),
    "momentum": lambda **k: SGD(0.05, momentum=0.9, **k),
    "nesterov": lambda **k: SGD(0.05, momentum=0.9, nesterov=True, **k),
    "rmsprop": lambda **k: RMSprop(0.01, **k),
    "rmsprop_momentum": lambda **k: RMSprop(0.01, momentum=0.7, **k),
    "adam": lambda **k: Adam(0.01, **k),
    "adamw": lambda **k: AdamW(0.01, weight_decay=0.1, **k),
}

TORCH = {
    "sgd": lambda torch, p: torch.optim.SGD(p, 0.05),
    "momentum": lambda torch, p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "nesterov": lambda torch, p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda torch, p: torch.optim.RMSprop(p, 0.01, alpha=0.9, eps=1e-7),
    "rmsprop_momentum": lambda torch, p: torch.optim.RMSprop(p, 0.01, alpha=0.9, eps=1e-7, momentum=0.7),
    "adam": lambda torch, p: torch.optim.Adam(p, 0.01, eps=1e-7),
    "adamw": lambda torch, p: torch.optim.AdamW(p, 0.01, eps=1e-7, weight_decay=0.1),
}


def arrays(rng, dtype="float64"):
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("clipnorm", [None, 3.0])
def test_a_hundred_steps_of_torch(name, clipnorm, dtype, rng):
    torch = pytest.importorskip("torch")
    ours = arrays(rng, dtype)
    theirs = [torch.nn.Parameter(torch.tensor(value.copy())) for value in ours]
    optimizer, oracle = ALL[name](clipnorm=clipnorm), TORCH[name](torch, theirs)
    bound = 2e-5 if dtype == "float32" else 1e-6 if clipnorm else 1e-10  # torch clips by bound / (norm + 1e-6)
    for _ in range(100):
        grads = arrays(rng, dtype)
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = torch.tensor(grad.copy())
        expected = torch.nn.utils.clip_grad_norm_(theirs, clipnorm or math.inf)
        assert optimizer.update(ours, grads) == pytest.approx(float(expected), rel=1e-5)
        oracle.step()
        for mine, parameter in zip(ours, theirs, strict=True):
            assert_outputs_close(mine, parameter.detach().numpy(), bound=bound)


def test_defaults_are_keras_ones():
    for made, rule in (
        (Adam(), naive.Adam(1e-3, 0.9, 0.999, 1e-7)),
        (RMSprop(), naive.RmsProp(1e-3, 0.9, 1e-7)),
        (SGD(), naive.Sgd(0.01)),
        (AdamW(), naive.Adam(1e-3, 0.9, 0.999, 1e-7, decay=0.004)),
    ):
        value, exact = np.array([1.0]), 1.0
        for g in (1e-6, -3e-6, 2e-6):  # so small that epsilon shows
            made.update([value], [np.array([g])])
            exact = rule.step(exact, g)
        assert value[0] == pytest.approx(exact, rel=1e-12)
        assert value[0] != 1.0


def test_the_norm_is_of_all_arrays_and_clipping_keeps_the_direction(rng):
    params, grads = arrays(rng), arrays(rng)
    before = [value.copy() for value in params]
    norm = math.sqrt(sum((g**2).sum() for g in grads))
    assert global_norm(grads) == pytest.approx(norm, rel=1e-14)
    assert SGD(1.0, global_clipnorm=0.5).update(params, grads) == pytest.approx(norm, rel=1e-14)
    for value, old, grad in zip(params, before, grads, strict=True):
        np.testing.assert_allclose(old - value, grad * 0.5 / norm, rtol=1e-10, atol=1e-14)


def test_a_norm_below_the_bound_clips_nothing(rng):
    grads = arrays(rng)
    clipped, free = arrays(np.random.default_rng(1)), arrays(np.random.default_rng(1))
    SGD(0.1, clipnorm=1e6).update(clipped, grads)
    SGD(0.1).update(free, grads)
    for one, other in zip(clipped, free, strict=True):
        assert_bitwise_equal(one, other)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(name, bad, rng):
    params, grads = arrays(rng), arrays(rng)
    optimizer = ALL[name]()
    optimizer.update(params, grads)
    before, state = [value.copy() for value in params], optimizer.state_dict()
    grads[1][3] = bad
    assert not math.isfinite(optimizer.update(params, grads))
    for value, old in zip(params, before, strict=True):
        assert_bitwise_equal(value, old)
    assert optimizer.state_dict().keys() == state.keys()
    for key, value in optimizer.state_dict().items():
        assert_bitwise_equal(value, state[key])


@pytest.mark.parametrize("name", ALL)
def test_threads_change_no_bit(name, dtype, share_everything):
    results = []
    for threads in (1, 2, 3):
        fl.set_num_threads(threads)
        rng = np.random.default_rng(3)
        params, optimizer = arrays(rng, dtype), ALL[name](clipnorm=1.0)
        for _ in range(3):
            optimizer.update(params, arrays(rng, dtype))
        results.append(params)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert_bitwise_equal(two, one)


@pytest.mark.parametrize("name", ALL)
def test_a_new_optimizer_goes_on_from_saved_state(name, rng, tmp_path):
    from fastlstm.training.checkpoint import load_file, save_file

    params = arrays(rng)
    optimizer = ALL[name]()
    for _ in range(3):
        optimizer.update(params, arrays(rng))
    save_file(tmp_path / "state", optimizer.state_dict(), {})
    copied, resumed = [value.copy() for value in params], ALL[name]()
    resumed.load_state_dict(load_file(tmp_path / "state")[0])
    for _ in range(3):
        grads = arrays(rng)
        optimizer.update(params, grads)
        resumed.update(copied, grads)
    for one, other in zip(params, copied, strict=True):
        assert_bitwise_equal(other, one)


def test_state_of_another_kind_is_refused(rng):
    optimizer = RMSprop()
    optimizer.update(arrays(rng), arrays(rng))
    with pytest.raises(ShapeError, match="another optimizer"):
        Adam().load_state_dict(optimizer.state_dict())


def test_an_optimizer_that_knows_other_shapes_is_refused_before_it_writes_past_their_ends(rng):
    optimizer = Adam()
    optimizer.update([np.zeros(3)], [np.ones(3)])
    big = np.zeros(1000)
    with pytest.raises(ShapeError, match=r"parameter 0 is float64 \(1000,\), its mean float64 \(3,\)"):
        optimizer.update([big], [np.ones(1000)])
    with pytest.raises(ShapeError, match="its gradient float32"):
        optimizer.update([np.zeros(3)], [np.ones(3, np.float32)])
    with pytest.raises(ShapeError, match="2 parameters and 1 gradients"):
        optimizer.update([np.zeros(3)] * 2, [np.ones(3)])
    with pytest.raises(ShapeError, match="not contiguous"):
        optimizer.update([np.zeros(6)[::2]], [np.ones(3)])
    assert not big.any()


@pytest.mark.parametrize("name", ALL)
def test_config_makes_the_same_optimizer_again(name):
    optimizer = ALL[name](clipnorm=2.0)
    made = optimizers.get(type(optimizer).__name__, optimizer.config())
    assert type(made) is type(optimizer)
    assert made.config() == optimizer.config()
    assert made.slots == optimizer.slots
    assert optimizers.known(made)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Adam(learning_rate=-1), "learning_rate=-1"),
        (lambda: Adam(learning_rate=math.nan), "learning_rate=nan"),
        (lambda: Adam(clipnorm=0.0), "clipnorm=0.0"),
        (lambda: Adam(clipnorm=1.0, global_clipnorm=2.0), "pass one"),
        (lambda: Adam(beta_2=1.0), "beta_2=1.0"),
        (lambda: SGD(momentum=1.0), "momentum=1.0"),
        (lambda: RMSprop(rho=1.5), "rho=1.5"),
        (lambda: AdamW(weight_decay=-1), "weight_decay=-1"),
        (lambda: optimizers.get("adagrad"), "adagrad"),
    ],
)
def test_options_out_of_range(make, words):
    with pytest.raises(OptionError, match=words):
        make()
