"""Conv1D: a kernel that slides over the steps of each sequence."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..data.packed import Packed
from ..engine.convolution import RowRing, convolve, gradient_of_input, gradient_of_kernel, kernel_panels
from ..engine.products import padded_bias
from ..engine.rows import activate, activate_and_keep, through_activation
from ..engine.sliding import SlidingWindow, Taps
from ..errors import OptionError
from ..runtime.workspace import Frame
from .activation import checked_activation
from .base import Gradients, PassContext, size
from .initializers import checked_initializer, initial
from .regularizers import L2, checked_regularizer
from .sliding import SlidingLayer, one_of, single

__all__ = ["Conv1D", "ConvStepper"]


class _Cache(NamedTuple):
    x: Packed
    rows: NDArray[Any]  # of x, as kernels take them
    taps: Taps
    kept: NDArray[Any] | None  # for the way back through the activation; None: the caller took the values before it
    frame: Frame


class _Weights(NamedTuple):
    """The kernel packed for the rows that its taps see, and the bias with zeros up to whole panels."""

    panels: NDArray[Any]
    bias: NDArray[Any]


class Conv1D(SlidingLayer):
    """Return ``activation(b + sum over k of W[:, :, k] x[s * strides + k * dilation_rate])`` for each step s.

    Parameters
    ----------
    filters : int
        Features of the output.
    kernel_size : int
        K, the taps of the kernel.
    strides : int
        Steps from one window to the next.
    padding : {"valid", "same", "causal"}
        Zeros around the true steps of each sequence. "valid" has none: ``(T - reach) // strides + 1`` steps go out,
        where the kernel reaches over ``(kernel_size - 1) * dilation_rate + 1``. "same" and "causal" give
        ``ceil(T / strides)``; "same" pads on both sides (an odd zero comes last), "causal" only before, so that no
        step sees a later one.
    dilation_rate : int
        Steps from one tap to the next; more than 1 only with `strides` of 1.
    activation : str or None
        One of those that `Activation` takes; None is "linear".
    use_bias : bool
        Whether ``b`` is added.
    kernel_initializer, bias_initializer : str
        Start values by Keras's names, as for `Dense`; the fans are those of all taps together.
    kernel_regularizer, bias_regularizer : L2, float, "l2" or None
        A penalty on the weight, on the bias; see `L2`.
    name, dtype
        See `Layer`.

    Raises
    ------
    OptionError
        An argument has a value that is not listed here.
    ShapeError
        When called: with "valid" padding, a sequence is shorter than the kernel reaches.

    Notes
    -----
    Takes ``(N, T, F)``. Parameters, as torch names and shapes them: ``weight (filters, F, kernel_size)``, Glorot
    uniform at first, and ``bias (filters,)``. As everywhere, the kernel is not flipped. A ragged batch is padded
    around the true steps of each sequence: each has the bits that it has alone.

    References
    ----------
    Waibel et al. 1989, "Phoneme recognition using time-delay neural networks"; dilated and causal: van den Oord et al.
    2016, "WaveNet".

    Examples
    --------
    >>> import numpy as np, fastlstm as fl
    >>> conv = fl.Conv1D(1, 2, padding="causal")
    >>> conv.load_state_dict({"weight": [[[-1.0, 1.0]]], "bias": [0.0]})  # what a step has more than the one before
    >>> conv(np.array([[[1.0], [4.0], [9.0], [16.0]]])).ravel().tolist()
    [1.0, 3.0, 5.0, 7.0]
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int],
        strides: int | tuple[int] = 1,
        padding: Literal["valid", "same", "causal"] = "valid",
        *,
        dilation_rate: int | tuple[int] = 1,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: str = "glorot_uniform",
        bias_initializer: str = "zeros",
        kernel_regularizer: L2 | float | str | None = None,
        bias_regularizer: L2 | float | str | None = None,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ):
        kind = type(self).__name__
        window = SlidingWindow(
            single(kind, "kernel_size", kernel_size),
            single(kind, "strides", strides),
            single(kind, "dilation_rate", dilation_rate),
            one_of(kind, "padding", padding, "valid", "same", "causal"),
        )
        super().__init__(window, "kernel_size", name=name, dtype=dtype)
        if window.stride > 1 and window.dilation > 1:
            raise OptionError(
                f"{kind}: strides={window.stride} and dilation_rate={window.dilation}; only one of them may be above 1"
            )
        if kernel_initializer == "identity":
            raise OptionError(f"{kind}: kernel_initializer='identity'; a kernel of several taps has no identity")
        self.filters = size(kind, "filters", filters)
        self.activation = checked_activation(kind, activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = checked_initializer(kind, "kernel_initializer", kernel_initializer)
        self.bias_initializer = checked_initializer(kind, "bias_initializer", bias_initializer)
        self.kernel_regularizer = checked_regularizer(kind, "kernel_regularizer", kernel_regularizer)
        self.bias_regularizer = checked_regularizer(kind, "bias_regularizer", bias_regularizer)
        self._weights: list[_Weights] = []  # none, or the one that all calls use

    @property
    def kernel_size(self) -> int:
        """K, the taps of the kernel."""
        return self.window.size

    @property
    def fused_by(self) -> str:
        return self.activation

    @property
    def features_out(self) -> int:
        return self.filters

    def config(self) -> dict[str, Any]:
        kernel, bias = self.kernel_regularizer, self.bias_regularizer
        return {
            "filters": self.filters,
            "kernel_size": self.window.size,
            "strides": self.window.stride,
            "padding": self.window.padding,
            "dilation_rate": self.window.dilation,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "kernel_regularizer": kernel and kernel.l2,
            "bias_regularizer": bias and bias.l2,
            "name": self.name,
            "dtype": self.dtype.name,
        }

    def create(self, features: int, rng: np.random.Generator | None) -> dict[str, NDArray[Any]]:
        params = {"weight": initial(self.kernel_initializer, rng, (self.filters, features, self.window.size))}
        if self.use_bias:
            params["bias"] = initial(self.bias_initializer, rng, (self.filters,))
        return params

    def features_from(self, tensors: dict[str, NDArray[Any]]) -> int:
        return int(tensors["weight"].shape[1]) if "weight" in tensors and tensors["weight"].ndim == 3 else 0

    def changed(self) -> None:
        self._weights = []  # who packs the old ones just now leaves them in the old list
        regularizers = {"weight": self.kernel_regularizer, "bias": self.bias_regularizer}
        self.penalties = {
            name: regularizer.l2
            for name, regularizer in regularizers.items()
            if regularizer is not None and name in self.arrays
        }

    def packed(self) -> _Weights:
        """Return the packed parameters, which are kept until they change."""
        kept = self._weights
        if not kept:
            bias = self.arrays["bias"] if self.use_bias else None
            kept.append(_Weights(kernel_panels(self.arrays["weight"]), padded_bias(bias, self.filters, self.dtype)))
        return kept[0]

    def forward(self, x: Packed, context: PassContext, *, linear: bool = False) -> tuple[Packed, _Cache | None]:
        """Return the output; with `linear`, the values before the activation, for a loss that fuses with it."""
        frame = context.workspace.frame(self) if context.training else None
        (rows, taps), weights = self.look(x, frame), self.packed()
        shape = taps.rows.shape[1], self.filters
        y = np.empty(shape, self.dtype) if frame is None else frame.take("y", shape, self.dtype)
        convolve(rows, taps.rows, weights.panels, weights.bias, y)
        if frame is None:
            if not linear:
                activate(y, self.activation)
            return taps.output(y, x), None
        kept = None if linear else activate_and_keep(y, self.activation, frame)
        return taps.output(y, x), _Cache(x, rows, taps, kept, frame)

    def backward(self, dy: NDArray[Any], cache: _Cache, context: PassContext) -> tuple[NDArray[Any], Gradients]:
        kept, frame, taps = cache.kept, cache.frame, cache.taps
        dz = np.ascontiguousarray(dy if kept is None else through_activation(dy, kept, self.activation))
        weight, bias = gradient_of_kernel(dz, cache.rows, taps.rows, frame, context.workspace, bias=self.use_bias)
        dx = gradient_of_input(dz, self.arrays["weight"], cache.x, taps, self.window, frame)
        context.workspace.release(self, frame)
        return dx, {"weight": weight, "bias": bias} if self.use_bias else {"weight": weight}

    @property
    def steps_alone(self) -> bool:
        """Whether each step of the output comes from steps of the input up to it, and there is one for each."""
        window = self.window
        return window.keeps_lengths and (window.padding == "causal" or window.size == 1)


class ConvStepper:
    """A causal convolution, stepwise: rows in, rows out. Its state is the rows that the kernel still sees."""

    def __init__(self, layer: Conv1D, batch: int):
        self.layer = layer
        window = layer.window
        self._ring = RowRing(window, batch, layer.features_in, layer.dtype)

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays that hold it, first axis the sequences; all zeros before the first step."""
        return {"x": self._ring.rows, "place": self._ring.place} if self._ring.rows.size else {}

    def __call__(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return one row of each sequence (N, filters) for one (N, F)."""
        layer = self.layer
        weights = layer.packed()
        y = np.empty((len(rows), layer.filters), layer.dtype)
        activate(self._ring.step(rows, weights.panels, weights.bias, y), layer.activation)
        return y
