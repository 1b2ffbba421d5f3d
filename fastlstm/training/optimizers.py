"""Optimizers: Keras's words, torch's arithmetic, one fused pass over each parameter."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError
from ..kernels import optim
from ..layers import registry
from ..runtime.pool import parallel_for

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "get", "global_norm", "known"]

Arrays = Sequence[NDArray[Any]]


def global_norm(arrays: Arrays) -> float:
    """Return the Euclidean norm of all arrays taken together, accumulated in float64."""
    total = 0.0
    for array in arrays:
        flat = array.reshape(-1)
        partials = np.empty(-(-flat.size // optim.NORM_BLOCK))
        parallel_for(optim.squared_norm, flat, partials, count=len(partials), cost=0.2 * flat.size)
        total += float(partials.sum())
    return math.sqrt(total)


class Optimizer:
    """Base of the optimizers: clips by the global norm and updates parameters in place.

    Parameters
    ----------
    learning_rate : float
        May be set at any time; callbacks and schedules do.
    clipnorm, global_clipnorm : float, optional
        Two words for one thing: gradients are scaled down together when their global norm is larger (Pascanu et al.
        2013). Keras's ``clipnorm``, one norm a tensor, is not offered.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays that are kept for each parameter."""

    def __init__(self, learning_rate: float, *, clipnorm: float | None = None, global_clipnorm: float | None = None):
        if clipnorm is not None and global_clipnorm is not None:
            raise OptionError(f"{type(self).__name__}: clipnorm and global_clipnorm are the same here; pass one")
        clipnorm = global_clipnorm if clipnorm is None else clipnorm
        if not (math.isfinite(learning_rate) and learning_rate >= 0):
            raise OptionError(f"{type(self).__name__}: learning_rate={learning_rate}; expected a finite number >= 0")
        if clipnorm is not None and not clipnorm > 0:
            raise OptionError(f"{type(self).__name__}: clipnorm={clipnorm}; expected a number > 0, or None")
        self.learning_rate = float(learning_rate)
        self.clipnorm = clipnorm
        self.steps = 0
        self._state: list[dict[str, NDArray[Any]]] = []

    def update(self, params: Arrays, grads: Arrays) -> float:
        """Take one step.

        Parameters
        ----------
        params, grads : sequences of arrays
            Alike in number and shapes, in the same order at every call; float, contiguous. `params` is overwritten.

        Returns
        -------
        float
            The global norm of `grads`, before clipping. If it is NaN or infinite, nothing was changed.
        """
        if not self._state:
            self._state = [{slot: np.zeros_like(param) for slot in self.slots} for param in params]
        self._check(params, grads)
        norm = global_norm(grads)
        if not math.isfinite(norm):
            return norm
        scale = 1.0 if self.clipnorm is None or norm <= self.clipnorm else self.clipnorm / norm
        self.steps += 1
        for param, grad, state in zip(params, grads, self._state, strict=True):
            self._step(param.reshape(-1), grad.reshape(-1), scale, {k: v.reshape(-1) for k, v in state.items()})
        return norm

    def _check(self, params: Arrays, grads: Arrays) -> None:
        """Raise ShapeError unless everything fits: kernels look at no bounds."""
        if not len(params) == len(grads) == len(self._state):
            raise ShapeError(
                f"{type(self).__name__}: {len(params)} parameters and {len(grads)} gradients; expected "
                f"{len(self._state)} of each, as at the first step"
            )
        for place, (param, grad, state) in enumerate(zip(params, grads, self._state, strict=True)):
            for word, array in (("gradient", grad), *state.items()):
                if array.shape != param.shape or array.dtype != param.dtype:
                    raise ShapeError(
                        f"{type(self).__name__}: parameter {place} is {param.dtype} {param.shape}, its {word} "
                        f"{array.dtype} {array.shape}; each model needs an optimizer of its own"
                    )
            if not param.flags.c_contiguous:
                raise ShapeError(f"{type(self).__name__}: parameter {place} is not contiguous")

    def _step(self, param: NDArray[Any], grad: NDArray[Any], scale: float, state: dict[str, NDArray[Any]]) -> None:
        raise NotImplementedError

    @staticmethod
    def _share(kernel: Callable[..., Any], param: NDArray[Any], *args: Any) -> None:
        parallel_for(kernel, param, *args, count=param.size, cost=0.6 * param.size)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as they stand now."""
        return {"learning_rate": float(self.learning_rate), "clipnorm": self.clipnorm}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return copies of the step count and of what is kept for each parameter, to go on later."""
        state = {f"{i}.{slot}": value.copy() for i, kept in enumerate(self._state) for slot, value in kept.items()}
        return {"steps": np.array(self.steps)} | state

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over what `state_dict` of the same kind of optimizer returned."""
        count = 1 + max((int(name.split(".")[0]) for name in state if name != "steps"), default=-1)
        expected = {"steps"} | {f"{i}.{slot}" for i in range(count) for slot in self.slots}
        if expected != set(state):
            raise ShapeError(
                f"{type(self).__name__}: the state holds {sorted(state)}; expected {sorted(expected)}: "
                "is it another optimizer's?"
            )
        self.steps = int(np.asarray(state["steps"]).item())
        self._state = [{slot: np.array(state[f"{i}.{slot}"]) for slot in self.slots} for i in range(count)]


class SGD(Optimizer):
    """Gradient descent, with momentum on request.

    Parameters
    ----------
    learning_rate, clipnorm, global_clipnorm
        See `Optimizer`.
    momentum : float
        Share of the last step that is taken again.
    nesterov : bool
        Look ahead along the momentum (Sutskever et al. 2013).
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ):
        super().__init__(learning_rate, clipnorm=clipnorm, global_clipnorm=global_clipnorm)
        if not 0.0 <= momentum < 1.0:
            raise OptionError(f"SGD: momentum={momentum}; expected 0 <= momentum < 1")
        self.momentum = momentum
        self.nesterov = nesterov
        self.slots = ("velocity",) if momentum else ()  # type: ignore[misc]

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as they stand now."""
        return super().config() | {"momentum": self.momentum, "nesterov": self.nesterov}

    def _step(self, param: NDArray[Any], grad: NDArray[Any], scale: float, state: dict[str, NDArray[Any]]) -> None:
        if not self.momentum:
            self._share(optim.sgd, param, grad, scale, self.learning_rate)
        else:
            rest = scale, self.learning_rate, self.momentum, self.nesterov
            self._share(optim.momentum, param, grad, state["velocity"], *rest)


class RMSprop(Optimizer):
    """Divide each gradient by a running root mean square of its size (Tieleman and Hinton 2012).

    Parameters
    ----------
    learning_rate, clipnorm, global_clipnorm
        See `Optimizer`.
    rho : float
        How much of the running mean is kept at each step.
    momentum : float
        As for `SGD`, on the quotients.
    epsilon : float
        Added to the root.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ):
        super().__init__(learning_rate, clipnorm=clipnorm, global_clipnorm=global_clipnorm)
        for word, value in (("rho", rho), ("momentum", momentum)):
            if not 0.0 <= value < 1.0:
                raise OptionError(f"RMSprop: {word}={value}; expected 0 <= {word} < 1")
        self.rho, self.momentum, self.epsilon = rho, momentum, epsilon
        self.slots = ("square", "velocity") if momentum else ("square",)  # type: ignore[misc]

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as they stand now."""
        return super().config() | {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon}

    def _step(self, param: NDArray[Any], grad: NDArray[Any], scale: float, state: dict[str, NDArray[Any]]) -> None:
        rest = scale, self.learning_rate, self.rho, self.epsilon
        if self.momentum:
            kept = state["square"], state["velocity"]
            self._share(optim.rmsprop_momentum, param, grad, *kept, *rest, self.momentum)
        else:
            self._share(optim.rmsprop, param, grad, state["square"], *rest)


class Adam(Optimizer):
    """Steps from running means of the gradient and of its square (Kingma and Ba 2015).

    Parameters
    ----------
    learning_rate, clipnorm, global_clipnorm
        See `Optimizer`.
    beta_1, beta_2 : float
        How much of the two means is kept at each step.
    epsilon : float
        Added to the root. 1e-7 is Keras's default; torch's is 1e-8.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.ones(2)
    >>> float(Adam(0.25, epsilon=0.0).update([weights], [np.array([3.0, -4.0])]))
    5.0
    >>> weights.round(6)
    array([0.75, 1.25])
    """

    slots = ("mean", "square")

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ):
        super().__init__(learning_rate, clipnorm=clipnorm, global_clipnorm=global_clipnorm)
        for word, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0.0 <= beta < 1.0:
                raise OptionError(f"{type(self).__name__}: {word}={beta}; expected 0 <= {word} < 1")
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as they stand now."""
        return super().config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

    def _shrink(self) -> float:
        """Return what each parameter is multiplied by before the step."""
        return 1.0

    def _step(self, param: NDArray[Any], grad: NDArray[Any], scale: float, state: dict[str, NDArray[Any]]) -> None:
        step_size = self.learning_rate / (1.0 - self.beta_1**self.steps)
        root = math.sqrt(1.0 - self.beta_2**self.steps)
        factors = np.array([scale, step_size, root, self.epsilon, self.beta_1, self.beta_2, self._shrink(), 0.0])
        self._share(optim.adam, param, grad, state["mean"], state["square"], factors)


class AdamW(Adam):
    """Adam whose parameters also decay towards zero, apart from the gradient (Loshchilov and Hutter 2019).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, clipnorm, global_clipnorm
        See `Adam`.
    weight_decay : float
        Share of each parameter, times the learning rate, that a step takes off. Keras's default is 0.004, torch's 0.01.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, clipnorm=clipnorm, global_clipnorm=global_clipnorm)
        if weight_decay < 0:
            raise OptionError(f"AdamW: weight_decay={weight_decay}; expected 0 or more")
        self.weight_decay = weight_decay

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as they stand now."""
        return super().config() | {"weight_decay": self.weight_decay}

    def _shrink(self) -> float:
        return 1.0 - self.learning_rate * self.weight_decay


_BY_NAME: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW}


def known(optimizer: Optimizer) -> bool:
    """Tell whether `get` makes this optimizer again from its name and `config`, in any program."""
    return _BY_NAME.get(type(optimizer).__name__.lower()) is type(optimizer)


def get(optimizer: str | type[Optimizer] | Optimizer, config: Mapping[str, Any] | None = None) -> Optimizer:
    """Return the optimizer of a name or class, with the arguments in `config`; or the optimizer itself.

    Raises
    ------
    OptionError
        No optimizer has this name.
    ModelFileError
        It is the name of a class of someone's own, which this program has not told of.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        return optimizer(**(config or {}))
    kind = _BY_NAME.get(str(optimizer).lower())
    if kind is not None:
        return kind(**(config or {}))
    if isinstance(optimizer, str) and (">" in optimizer or ":" in optimizer):
        made: Optimizer = registry.make(optimizer, Optimizer, config or {})
        return made
    raise OptionError(f"optimizer={optimizer!r}; expected an Optimizer or one of {', '.join(_BY_NAME)}")
