"""check_gradients accepts what is right, whatever its form, and finds what is wrong: by name, place and numbers."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.packed import Packed
from fastlstm.errors import ContractError, GradientError, OptionError
from fastlstm.layers.several import SeveralInputs
from fastlstm.testing import check_gradients
from fastlstm.testing.numeric import derivative

LENGTHS = [5, 2, 4]
STEPS = {"return_sequences": True}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: fl.Dense(3, "tanh"), (3, 5, 4)),
        (lambda: fl.Dense(3, "softmax"), (3, 4)),
        (lambda: fl.LSTM(3, **STEPS), (3, 5, 4)),
        (lambda: fl.LSTM(3, projection=2, peephole=True, dropout=0.3, recurrent_dropout=0.2), (3, 5, 4)),
        (lambda: fl.GRU(3, reset_after=False, **STEPS), (3, 5, 4)),
        (lambda: fl.SimpleRNN(3, go_backwards=True), (3, 5, 4)),
        (lambda: fl.Bidirectional(fl.LSTM(3, **STEPS)), (3, 5, 4)),
        (lambda: fl.Bidirectional(fl.GRU(3), merge_mode="mul"), (3, 5, 4)),
        (lambda: fl.Embedding(7, 3), (3, 5)),
        (lambda: fl.Dropout(0.4), (3, 5, 4)),
        (lambda: fl.LastStep(), (3, 5, 4)),
        (lambda: fl.GlobalMaxPooling1D(), (3, 5, 4)),
        (lambda: fl.GlobalAveragePooling1D(), (3, 5, 4)),
    ],
)
@pytest.mark.parametrize("ragged", [False, True])
def test_layers_of_ours_are_right(layer, shape, ragged):
    lengths = LENGTHS if ragged and not (len(shape) == 2 and shape[1] == 4) else None
    assert 0.0 <= check_gradients(layer(), shape, lengths=lengths) < 1e-8


def test_a_built_layer_is_left_as_it_is(rng):
    layer = fl.LSTM(3)
    x = rng.standard_normal((2, 4, 5)).astype(np.float32)
    before, weights = layer(x), layer.state_dict()
    assert check_gradients(layer, (2, 4, 5)) < 1e-8
    assert (layer(x) == before).all()
    assert all((layer.state_dict()[name] == value).all() for name, value in weights.items())
    assert layer.dtype == np.float32


def test_large_arrays_are_sampled():
    calls = []

    class Counts(fl.Dense):
        def forward(self, x, context, **more):
            calls.append(1)
            return super().forward(x, context, **more)

    assert check_gradients(Counts(30), (2, 40)) < 1e-8  # 1,200 weights
    assert len(calls) < 4 * (300 + 80 + 30) + 20


class Scale(fl.Layer):
    """``x ** 2 * gain``: right, but for what a subclass breaks."""

    takes_samples = True

    def create(self, features, rng):
        return {"gain": np.ones(features)}

    def forward(self, x, context):
        return x.with_rows(x.rows**2 * self.params["gain"]), x.rows

    def backward(self, dy, cache, context):
        return 2 * dy * cache * self.params["gain"], {"gain": (dy * cache**2).sum(axis=0)}


class HalfInput(Scale):
    def backward(self, dy, cache, context):
        return dy * cache * self.params["gain"], super().backward(dy, cache, context)[1]


class OneParameter(Scale):
    def backward(self, dy, cache, context):
        dx, gradients = super().backward(dy, cache, context)
        gradients["gain"][1] *= 1.001
        return dx, gradients


class Zero(Scale):
    def backward(self, dy, cache, context):
        return np.zeros_like(dy), super().backward(dy, cache, context)[1]


class NotANumber(Scale):
    def backward(self, dy, cache, context):
        return dy * np.nan, super().backward(dy, cache, context)[1]


class Remembers(Scale):
    def forward(self, x, context):
        self.x = x.rows
        return super().forward(x, context)

    def backward(self, dy, cache, context):
        return super().backward(dy, self.x, context)


class SharesMemory(Scale):
    """Its cache is an array that the next forward overwrites."""

    kept = None

    def forward(self, x, context):
        if self.kept is None or self.kept.shape != x.rows.shape:
            self.kept = np.empty_like(x.rows)
        self.kept[...] = x.rows
        return super().forward(x, context)[0], self.kept


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_a_layer_of_the_users_own_that_is_right(lengths):
    assert check_gradients(Scale(), (3, 5, 4), lengths=lengths) < 1e-8
    assert check_gradients(Scale(), (3, 4)) < 1e-8


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            HalfInput,
            r"HalfInput: the gradient of input 0 at sequence \d, step \d, feature \d is -?[\d.e-]+, central diff",
        ),
        (
            OneParameter,
            r"OneParameter: the gradient of parameter gain at \[1\] is .* give .* relative difference of .*e-0",
        ),
        (Zero, "Zero: the gradient of input 0 at .* is 0, central differences give"),
        (NotANumber, "NotANumber: the gradient of input 0 at .* is nan"),
        (Remembers, r"Remembers: the gradient of .* right when the layer runs once.*twice.*not in the layer"),
        (SharesMemory, "SharesMemory: the gradient of .* when it runs twice before it goes back"),
    ],
)
def test_layers_that_are_wrong(kind, words):
    with pytest.raises(GradientError, match=words) as caught:
        check_gradients(kind(), (3, 5, 4), lengths=LENGTHS)
    assert isinstance(caught.value, AssertionError)


def test_the_place_in_an_input_is_that_of_the_users_batch():
    class OneWrong(Scale):
        def backward(self, dy, cache, context):
            dx, gradients = super().backward(dy, cache, context)
            dx[0, 3] += 1.0  # the first step of the longest sequence, which is the user's third
            return dx, gradients

    with pytest.raises(GradientError, match="input 0 at sequence 2, step 0, feature 3"):
        check_gradients(OneWrong(), (3, 5, 4), lengths=[2, 1, 5])


class Nothing(Scale):
    def backward(self, dy, cache, context):
        super().backward(dy, cache, context)


class NoParameter(Scale):
    def backward(self, dy, cache, context):
        return super().backward(dy, cache, context)[0], {}


class Summed(Scale):
    def backward(self, dy, cache, context):
        return dy.sum(axis=0), super().backward(dy, cache, context)[1]


class NoInput(Scale):
    def backward(self, dy, cache, context):
        return None, super().backward(dy, cache, context)[1]


class Narrow(Scale):
    def forward(self, x, context):
        return x.with_rows(x.rows.astype(np.float16)), x.rows


class Doubles(Scale):
    def forward(self, x, context):
        return x.with_rows(np.hstack([x.rows, x.rows])), x.rows


class NoBatch(Scale):
    def forward(self, x, context):
        return x.rows**2, x.rows


class Writes(Scale):
    def forward(self, x, context):
        x.rows[...] = 0.0
        return super().forward(x, context)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Nothing, r"Nothing: backward returned NoneType; expected \(dx, gradients\).*return statement"),
        (NoParameter, r"NoParameter: backward returned gradients of \[\]; expected .*\['gain'\]"),
        (Summed, r"Summed: the gradient of input 0 is float32 \(4,\); expected float32 \(15, 4\)"),
        (NoInput, "NoInput: the gradient of input 0 is NoneType"),
        (Narrow, "Narrow: output 0 is float16, the layer's dtype float32"),
        (Doubles, "Doubles: output 0 has 8 features, features_out says 4"),
        (NoBatch, r"NoBatch: forward returned ndarray as output 0; expected a Packed: x\.with_rows"),
        (Writes, "Writes: forward wrote into the rows of input 0"),
    ],
)
def test_layers_that_return_something_else(kind, words):
    with pytest.raises(ContractError, match=words):
        check_gradients(kind(), (3, 5, 4))


class Wide(Scale):
    """Returns float64 whatever its dtype: only a float32 layer shows it."""

    def create(self, features, rng):
        return {"gain": np.ones(features)}

    def forward(self, x, context):
        return x.with_rows(x.rows.astype(np.float64) ** 2 * self.params["gain"]), x.rows


def test_a_layer_of_float32_that_returns_float64():
    with pytest.raises(ContractError, match="Wide: output 0 is float64, the layer's dtype float32"):
        check_gradients(Wide(), (3, 5, 4))
    assert check_gradients(Wide(dtype="float64"), (3, 5, 4)) < 1e-8


class Gated(SeveralInputs):
    """``(a * b, a + gain)`` of two inputs of the same steps: two outputs."""

    inputs = (2, 2)
    wrong = False

    def create(self, features, rng):
        return {"gain": np.ones(features[0])}

    def run(self, inputs, context):
        a, b = (one.rows for one in inputs)
        return (inputs[0].with_rows(a * b), inputs[0].with_rows(a + self.params["gain"])), (a, b)

    def run_back(self, dys, cache, context):
        (a, b), (product, total) = cache, (np.zeros_like(cache[0]) if dy is None else dy for dy in dys)
        db = product * (b if self.wrong else a)
        return (product * b + total, db), {"gain": total.sum(axis=0)}


def test_a_layer_of_several_inputs_and_outputs():
    assert check_gradients(Gated(), [(3, 5, 4), (3, 5, 4)], lengths=[LENGTHS, LENGTHS]) < 1e-8
    broken = Gated()
    broken.wrong = True
    with pytest.raises(GradientError, match="Gated: the gradient of input 1 at sequence"):
        check_gradients(broken, [(3, 5, 4), (3, 5, 4)])


class NeedsBoth(Gated):
    def run_back(self, dys, cache, context):
        product, total = (np.ones_like(cache[0]) if dy is None else dy for dy in dys)
        return super().run_back((product, total), cache, context)


def test_an_output_that_the_loss_does_not_see_has_no_gradient():
    with pytest.raises(GradientError, match=r"NeedsBoth: .* is given None for all outputs but 0"):
        check_gradients(NeedsBoth(), [(3, 5, 4), (3, 5, 4)])


@pytest.mark.parametrize(
    "layer", [fl.LSTM(3, return_state=True), fl.Bidirectional(fl.LSTM(3, return_state=True, return_sequences=True))]
)
def test_states_are_inputs_and_outputs(layer):
    parts = 4 if layer.kind == "Bidirectional" else 2
    shapes, lengths = [(3, 5, 4)] + [(3, 3)] * parts, [LENGTHS] + [None] * parts
    assert check_gradients(layer, shapes, lengths=lengths) < 1e-8


class FirstSteps(fl.Layer):
    """Ids in, no parameters, no gradient of the input."""

    takes_ids = True
    features_out = 1

    def forward(self, x, context):
        return Packed(x.rows.astype(self.dtype)[:, None], x.batch_sizes, x.order), len(x.rows)

    def backward(self, dy, cache, context):
        return None, {}


def test_ids_have_no_gradient():
    assert check_gradients(FirstSteps(), (3, 5), lengths=LENGTHS) == 0.0


# --- losses -------------------------------------------------------------------------------------------------------


class Twice(fl.Loss):
    """Its gradient is half of what it should be."""

    def rows(self, output, target):
        return ((output - target) ** 2).mean(axis=1)

    def gradient_rows(self, output, target):
        return (output - target) / output.shape[1]


class Averaged(Twice):
    """The mean over the batch is taken twice: a classic."""

    def gradient_rows(self, output, target):
        return 2 * super().gradient_rows(output, target) / len(output)


@pytest.mark.parametrize("kind", [Twice, Averaged])
def test_losses_that_are_wrong(kind):
    with pytest.raises(GradientError, match=rf"{kind.__name__}: the gradient of the output at row \d, output \d is"):
        check_gradients(kind(), (5, 3))


def test_a_loss_of_a_kernel_that_does_not_keep_to_the_contract():
    class Changes(fl.losses.KernelLoss):
        def rows(self, output, target, fused=False):
            output -= target
            return (output**2).mean(axis=1)

        def overwrite(self, output, target, weights, fused):
            return self.rows(output, target)

    class Disagrees(fl.losses.MSE):
        def overwrite(self, output, target, weights, fused):
            return 2 * super().overwrite(output, target, weights, fused)

    with pytest.raises(GradientError, match="Changes: value changed the output"):
        check_gradients(Changes(), (5, 3))
    with pytest.raises(GradientError, match="Disagrees: gradient says that the loss is"):
        check_gradients(Disagrees(), (5, 3))


def test_kinks_are_stepped_around():
    """A difference that crosses one is taken closer by."""
    output = np.array([[0.5 + 5e-5, -1.0]])
    assert check_gradients(fl.losses.MAE(), output, targets=np.array([[0.5, 0.0]])) < 1e-6


# --- requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: check_gradients(3, (2, 3)), "int is neither a Layer nor a Loss"),
        (lambda: check_gradients(fl.Dense(2), (2, 3), targets=[1]), "targets= goes with a loss"),
        (lambda: check_gradients(fl.losses.MSE(), (2, 3), lengths=[1, 2]), "this one sees rows"),
        (lambda: check_gradients(fl.losses.MSE(), np.ones((2, 3))), "pass targets="),
        (lambda: check_gradients(Gated(), [(3, 4), (3, 4)], lengths=[None]), "2 inputs, but lengths for 1"),
    ],
)
def test_bad_requests(call, words):
    with pytest.raises(OptionError, match=words):
        call()


def test_derivatives_of_functions_that_are_known():
    x = np.array([0.7, 2.0])
    assert derivative(lambda: float(np.sin(x[0]) * x[1]), x, 0) == pytest.approx(2.0 * np.cos(0.7), rel=1e-10)
    assert derivative(lambda: float(x[1] ** 3), x, 1) == pytest.approx(12.0, rel=1e-10)
    assert x.tolist() == [0.7, 2.0]
