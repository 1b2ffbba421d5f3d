"""Losses that are a mean over the K outputs of a row: one small formula each, in float64, with its slope."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from .base import EPSILON, KernelLoss, Rows, number_from

__all__ = ["MAE", "MAPE", "MSE", "MSLE", "Elementwise", "Hinge", "Huber", "LogCosh", "Poisson", "SquaredHinge"]


class Elementwise(KernelLoss):
    """Base of losses whose row loss is the mean of ``terms`` over the K outputs."""

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output (M, K)."""
        raise NotImplementedError

    def slopes(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the derivative of each of the terms with respect to its output."""
        raise NotImplementedError

    def rows(self, output: Rows, target: Rows, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each row."""
        return np.asarray(self.terms(output.astype(np.float64), target).mean(axis=1))

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        exact = output.astype(np.float64)
        losses = self.terms(exact, target).mean(axis=1)
        output[...] = self.slopes(exact, target) * (weights / output.shape[1])[:, None]
        return np.asarray(losses)


class MSE(Elementwise):
    """Mean squared error over the K outputs of a row.

    Examples
    --------
    >>> import numpy as np
    >>> MSE().value(np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]))
    2.0
    """

    name = "mse"

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output."""
        return np.square(output - target)

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        losses = self.rows(output, target)
        output -= target
        output *= (2.0 * weights / output.shape[1])[:, None].astype(output.dtype)
        return losses


class MAE(Elementwise):
    """Mean absolute error over the K outputs of a row."""

    name = "mae"

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output."""
        return np.abs(output - target)

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        losses = self.rows(output, target)
        output -= target
        np.sign(output, out=output)
        output *= (weights / output.shape[1])[:, None].astype(output.dtype)
        return losses


class MAPE(Elementwise):
    """Mean absolute error in percent of the target: ``100 * |output - y| / max(|y|, 1e-7)``.

    A target of 0 makes any error a million times as large: leave such rows out, or take `MSLE`.
    """

    name = "mape"

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output."""
        return 100.0 * np.abs(output - target) / self._size(target)

    def slopes(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the derivatives."""
        return 100.0 * np.sign(output - target) / self._size(target)

    @staticmethod
    def _size(target: Rows) -> NDArray[np.float64]:
        return np.maximum(np.abs(target.astype(np.float64)), EPSILON)


class MSLE(Elementwise):
    """Mean squared difference of ``log(1 + y)``; outputs and targets below 1e-7 count as that, and have no slope."""

    name = "msle"

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output."""
        return np.square(self._difference(output, target))

    def slopes(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the derivatives."""
        inside = output > EPSILON
        return np.where(inside, 2.0 * self._difference(output, target) / np.where(inside, 1.0 + output, 1.0), 0.0)

    def example(self, shape: tuple[int, int], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Rows]:
        """Return positive numbers; see `Loss.example`."""
        return rng.uniform(0.1, 3.0, shape), rng.uniform(0.0, 3.0, shape)

    @staticmethod
    def _difference(output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        y = target.astype(np.float64)
        return np.log1p(np.maximum(output, EPSILON)) - np.log1p(np.maximum(y, EPSILON))


class Huber(Elementwise):
    """Squared near 0 and linear from `delta` on (Huber 1964), the mean over the K outputs of a row.

    Parameters
    ----------
    delta : float
        Where the square ends.
    """

    name = "huber"

    def __init__(self, delta: float = 1.0):
        self.delta = number_from("Huber", "delta", delta, 0.0, above=True)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {"delta": self.delta}

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output."""
        size = np.abs(output - target)
        return np.where(size <= self.delta, size**2 / 2, self.delta * (size - self.delta / 2))

    def overwrite(self, output: Rows, target: Rows, weights: NDArray[np.float64], fused: bool) -> NDArray[np.float64]:
        """Overwrite `output` with the gradient; return the losses of the rows."""
        losses = self.rows(output, target)
        output -= target
        np.clip(output, -self.delta, self.delta, out=output)
        output *= (weights / output.shape[1])[:, None].astype(output.dtype)
        return losses


class LogCosh(Elementwise):
    """``log(cosh(output - y))``: half the square near 0, the absolute error less log 2 far off."""

    name = "log_cosh"

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output, in the form that cannot overflow."""
        size = np.abs(output - target)
        return np.asarray(size + np.log1p(np.exp(-2.0 * size)) - np.log(2.0))

    def slopes(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the derivatives."""
        return np.tanh(output - target)


class Poisson(Elementwise):
    """``output - y * log(output + 1e-7)``, for counts y; the model must put out rates, numbers from 0 on.

    End it with ``activation="softplus"`` or ``"exponential"``.
    """

    name = "poisson"

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets of the output's shape; see `Loss.check_targets`."""
        target = super().check_targets(target, output)
        if target.size and target.min() < 0:
            raise DataError(f"{self.name}: a target is {target.min()}; expected counts, 0 or more")
        return target

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output."""
        if (output < 0.0).any():
            raise DataError(
                f"{self.name}: the model puts out {output.min():g}; expected rates, 0 or more: end it with "
                "activation='softplus' or 'exponential'"
            )
        return np.asarray(output - target * np.log(output + EPSILON))

    def slopes(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the derivatives."""
        return 1.0 - target / (output + EPSILON)

    def example(self, shape: tuple[int, int], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Rows]:
        """Return rates and counts; see `Loss.example`."""
        return rng.uniform(0.1, 3.0, shape), rng.integers(0, 5, shape).astype(np.float64)


class Hinge(Elementwise):
    """``max(1 - y * output, 0)`` for targets of -1 and 1; 0 counts as -1."""

    name = "hinge"

    def check_targets(self, target: Rows, output: Rows) -> Rows:
        """Return targets of -1 and 1, of the output's shape; see `Loss.check_targets`."""
        target = super().check_targets(target, output)
        if not np.isin(target, (-1.0, 0.0, 1.0)).all():
            raise DataError(
                f"{self.name}: targets reach from {target.min()} to {target.max()}; expected -1 (or 0) and 1"
            )
        return np.where(target > 0, target, target.dtype.type(-1))

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output."""
        return np.asarray(np.maximum(1.0 - target * output, 0.0))

    def slopes(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the derivatives."""
        return np.where(target * output < 1.0, -target, 0.0)

    def example(self, shape: tuple[int, int], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Rows]:
        """Return any numbers, and targets of -1 and 1; see `Loss.example`."""
        return rng.standard_normal(shape), rng.integers(0, 2, shape).astype(np.float64)


class SquaredHinge(Hinge):
    """The square of `Hinge`."""

    name = "squared_hinge"

    def terms(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the loss of each output."""
        return np.square(super().terms(output, target))

    def slopes(self, output: NDArray[np.float64], target: Rows) -> NDArray[np.float64]:
        """Return the derivatives."""
        return -2.0 * target * super().terms(output, target)
