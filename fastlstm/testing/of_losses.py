"""Gradients of a loss with respect to the output of a model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.chain import CHAIN_PARAMETERS, Chain, ChainScores
from ..data.packed import Packed, pack
from ..errors import GradientError, OptionError
from ..training.losses import Labels, Loss, SequenceLoss
from .numeric import assert_close

__all__ = ["check_loss"]


def check_loss(loss: Loss, shape: Any, lengths: Any, targets: Any, seed: int, tolerance: float) -> float:
    """Return the largest relative difference; see `check_gradients`."""
    fused = [True] if loss.from_logits else [False] if loss.fuses is None else [False, True]
    return max(_check(loss, shape, lengths, targets, one, np.random.default_rng(seed), tolerance) for one in fused)


def _check(
    loss: Loss, shape: Any, lengths: Any, targets: Any, fused: bool, rng: np.random.Generator, tolerance: float
) -> float:
    who = f"{type(loss).__name__}{' of logits' if fused else ''}"
    output: Any
    if isinstance(loss, SequenceLoss):
        output, target = _of_sequences(loss, shape, lengths, targets, fused, rng)
        rows, count = output.rows, output.sequences
    else:
        if lengths is not None:
            raise OptionError(
                "check_gradients: lengths= goes with a layer or a loss over sequences; this one sees rows"
            )
        output, target = _of_rows(loss, shape, targets, fused, rng)
        rows, count = output, len(output)
    weights = rng.uniform(0.5, 1.5, count)

    def value() -> float:
        return loss.value(output, target, weights, fused)

    kept = rows.copy()
    expected = value()
    if not np.array_equal(rows, kept):
        raise GradientError(f"{who}: value changed the output; only gradient may")
    given = loss.gradient(output, target, weights, fused)
    arrays, gradients = {"the output": rows}, {"the output": rows.copy()}
    if isinstance(output, ChainScores):
        arrays |= dict(zip(CHAIN_PARAMETERS, output.chain, strict=True))
        gradients |= output.gradients
    rows[...] = kept
    if not np.isclose(given, expected, rtol=1e-9, atol=1e-12):
        raise GradientError(f"{who}: gradient says that the loss is {given:.8g}, value says {expected:.8g}")

    def where(name: str, index: tuple[int, ...]) -> str:
        return f"{name} at {index}" if name != "the output" else f"{name} at row {index[0]}, output {index[1]}"

    return assert_close(value, arrays, gradients, who, where, rng, tolerance)


def _of_rows(
    loss: Loss, shape: Any, targets: Any, fused: bool, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return output rows and checked targets; what is not given is the loss's own example."""
    if isinstance(shape, np.ndarray):
        if targets is None:
            raise OptionError("check_gradients: an output is given; pass targets=, too")
        output = shape.astype(np.float64)
    else:
        output, drawn = loss.example(tuple(shape), rng, fused)
        targets = drawn if targets is None else targets
    return output, loss.check_targets(np.asarray(targets), output)


def _of_sequences(
    loss: SequenceLoss, shape: Any, lengths: Any, targets: Any, fused: bool, rng: np.random.Generator
) -> tuple[Packed, Any]:
    """Return an output of sequences, and checked targets, drawn where none are given."""
    x = shape.astype(np.float64) if isinstance(shape, np.ndarray) else loss.example(shape, rng, fused)[0]
    output, _ = pack(x, lengths, features=True, dtype=np.float64, who="check_gradients")
    output = output.with_rows(output.rows.copy())
    if loss.fuses == "crf":
        tags = output.features
        output = ChainScores(output, Chain(*(rng.standard_normal(size) for size in ((tags, tags), tags, tags))))
    classes, order = output.features, np.arange(output.sequences) if output.order is None else output.order
    if loss.own_lengths:
        steps = output.to_user_order(output.lengths)
        each = [rng.integers(1, classes, steps[n] // 2) for n in range(len(steps))] if targets is None else targets
        labels = [np.asarray(each[n], np.int64) for n in order]
        starts = np.concatenate(([0], np.cumsum([len(one) for one in labels]))).astype(np.int64)
        given: Any = Labels(np.concatenate(labels), starts)
    elif targets is None:
        given = rng.integers(0, classes, output.total)
    else:
        ids = np.ndim(targets[0]) == 1
        given = pack(targets, None if isinstance(targets, list) else lengths, features=not ids, who="targets")[0].rows
    return output, loss.check_targets(given, output)  # type: ignore[arg-type]
