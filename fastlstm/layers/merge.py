"""How two layers go together as directions: their outputs become one, whose gradient is split."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed
from ..engine.training import RecurrentCache
from ..errors import OptionError
from ..runtime.workspace import Frame
from .recurrent import RecurrentLayer

__all__ = ["BothCache", "Merge", "check_pair", "merge", "merge_both", "split", "split_kept"]

Merge = Literal["concat", "sum", "ave", "mul"]


class BothCache(NamedTuple):
    """What going back through both directions needs."""

    x: Packed
    forward: RecurrentCache
    backward: RecurrentCache
    one: NDArray[Any]  # outputs of both, for "mul"
    other: NDArray[Any]
    frame: Frame


def check_pair(ahead: object, back: object, mode: str) -> None:
    """Raise OptionError unless `back` can read backwards beside `ahead` (None: a copy of it), merged by `mode`."""
    who, expected = "Bidirectional: backward_layer", "expected a recurrent layer such as LSTM"
    if not isinstance(ahead, RecurrentLayer):
        raise OptionError(f"Bidirectional: layer is {type(ahead).__name__}; {expected}")
    if ahead.go_backwards:
        raise OptionError("Bidirectional: the layer has go_backwards=True; pass one that reads forwards")
    if mode not in get_args(Merge):
        raise OptionError(f"Bidirectional: merge_mode={mode!r}; expected one of {', '.join(get_args(Merge))}")
    if back is None:
        return
    if not isinstance(back, RecurrentLayer):
        raise OptionError(f"{who} is {type(back).__name__}; {expected}")
    if not back.go_backwards:
        raise OptionError(f"{who} reads forwards; make it with go_backwards=True")
    for word in ("return_sequences", "return_state", "dtype"):
        one, other = getattr(ahead, word), getattr(back, word)
        if one != other:
            raise OptionError(f"{who} has {word}={other}, layer {one}; make them alike")
    one, other = ahead.features_out, back.features_out
    if mode != "concat" and one != other:
        raise OptionError(f"{who} has {other} features, layer {one}; merge_mode={mode!r} needs as many from both")


def merge(mode: str, one: NDArray[Any], other: NDArray[Any], frame: Frame | None) -> NDArray[Any]:
    """Return the merged outputs (M, K) of `one` (M, H) and `other`, which may be (T, N, H)."""
    if mode == "concat":
        count, units = one.shape
        shape = count, units + other.shape[-1]
        joined = np.empty(shape, one.dtype) if frame is None else frame.take("merged", shape, one.dtype)
        joined[:, :units] = one
        joined.reshape(*other.shape[:-1], shape[1])[..., units:] = other
        return joined
    other = other.reshape(one.shape)
    merged: NDArray[Any] = one * other if mode == "mul" else one + other
    return merged * one.dtype.type(0.5) if mode == "ave" else merged


def split(mode: str, dy: NDArray[Any], one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of both outputs, given that of what they were merged to."""
    if mode == "concat":
        units = one.shape[1]
        return dy[:, :units], dy[:, units:]
    if mode == "mul":
        return dy * other, dy * one
    half = dy * dy.dtype.type(0.5) if mode == "ave" else dy
    return half, half


def merge_both(
    mode: str, rows: NDArray[Any], finals: Callable[[], Any], features: int, returns_steps: bool
) -> NDArray[Any]:
    """Return the merged output of one call that ran both directions, whose outputs (M, 2P) stand side by side."""
    if not returns_steps:
        final, final_back = finals()
        return merge(mode, final[0], final_back[0], None)
    return rows if mode == "concat" else merge(mode, rows[:, :features], rows[:, features:], None)


def split_kept(mode: str, dy: NDArray[Any], cache: BothCache, returns_steps: bool) -> list[NDArray[Any]]:
    """Return the gradients of both outputs, each in the order of its direction, in the frame's memory."""
    kept = []
    for place, part in enumerate(split(mode, dy, cache.one, cache.other)):
        given = cache.x.with_rows(part).reversed().in_place if place and returns_steps else part
        kept.append(cache.frame.take(("dy", place), part.shape, part.dtype))
        kept[-1].reshape(given.shape)[...] = given
    return kept
