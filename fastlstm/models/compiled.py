"""How a model is trained and judged: an optimizer, and a loss and metrics for each output."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ..errors import OptionError
from ..training import losses, metrics, optimizers
from ..training.metrics import get as get_metric

__all__ = ["Compiled", "OutputTask", "by_name", "compile_for", "several"]

T = TypeVar("T")


class OutputTask(NamedTuple):
    """What one output is trained for; words as of `Output`."""

    name: str
    loss: losses.Loss
    weight: float
    plain: list[metrics.Metric]
    weighted: list[metrics.Metric]


class Compiled(NamedTuple):
    """An optimizer, and a task for each output."""

    optimizer: optimizers.Optimizer
    tasks: list[OutputTask]


def several(given: Any) -> list[Any]:
    """Return a list of what was passed as none, one, or several."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def by_name(given: Any, names: Sequence[str], who: str, missing: Callable[[str], T] | None = None) -> list[Any]:
    """Return, for each name, what was passed for it: as a list in their order, a dict, or the thing itself for one.

    Parameters
    ----------
    given : dict, list, tuple or anything
        One for each name; where there is one name, also the thing itself.
    names : sequence of str
    who : str
        Named in errors: the call and the argument.
    missing : callable, optional
        What stands for a name that a dict does not have; by default that is an error.

    Raises
    ------
    OptionError
        A name is unknown or missing, or there are not as many as names.
    """
    if isinstance(given, Mapping):
        if unknown := sorted(map(str, given.keys() - set(names))):
            raise OptionError(f"{who}: {unknown[0]!r} is not among {', '.join(names)}")
        lacking = [name for name in names if name not in given]
        if lacking and missing is None:
            raise OptionError(f"{who}: nothing for {lacking[0]!r}; expected {', '.join(names)}")
        return [given[name] if name in given else missing(name) for name in names]  # type: ignore[misc]
    if len(names) == 1:
        return [given]
    if not isinstance(given, list | tuple) or len(given) != len(names):
        count = f"{len(given)} things" if isinstance(given, list | tuple) else type(given).__name__
        raise OptionError(f"{who}: {count}; expected a list of {len(names)}, or a dict: {', '.join(names)}")
    return list(given)


def compile_for(
    names: Sequence[str],
    optimizer: Any,
    loss: Any,
    plain: Any,
    loss_weights: Any,
    weighted: Any,
) -> Compiled:
    """Return what `compile` says for a model with outputs of these names.

    Raises
    ------
    OptionError
        A name that is not known, or not one for each output.
    """
    if loss is None:
        raise OptionError("compile: no loss; pass one, such as loss='binary_crossentropy'")
    if isinstance(loss, str | losses.Loss | type) and len(names) > 1:
        loss = [loss] * len(names)  # the same for each, as in Keras
    if len(names) == 1 and isinstance(loss, list | tuple) and len(loss) == 1:
        loss = loss[0]
    if len(names) == 1 and isinstance(plain, list | tuple) and len(plain) == 1 and isinstance(plain[0], list | tuple):
        plain = plain[0]
    if len(names) == 1 and isinstance(weighted, list | tuple) and len(weighted) == 1:
        weighted = weighted[0]
    if len(names) == 1 and isinstance(loss_weights, list | tuple) and len(loss_weights) == 1:
        loss_weights = loss_weights[0]
    kinds = [losses.get(one) for one in by_name(loss, names, "compile: loss")]
    weights = [1.0] * len(names)
    if loss_weights is not None:
        weights = [_weight(one) for one in by_name(loss_weights, names, "compile: loss_weights", lambda _: 1.0)]
    sets = []
    for word, given in (("metrics", plain), ("weighted_metrics", weighted)):
        if given is None:
            own: list[Any] = [None] * len(names)
        elif len(names) == 1 and not isinstance(given, Mapping):
            own = [given]
        else:
            own = by_name(given, names, f"compile: {word}", lambda _: None)
        sets.append([[get_metric(one, kind) for one in several(some)] for some, kind in zip(own, kinds, strict=True)])
    for plain_ones, weighted_ones in zip(*sets, strict=True):
        for metric in weighted_ones:
            if any(metric.name == other.name for other in plain_ones):
                metric.name = f"weighted_{metric.name}"
    tasks = [OutputTask(*one) for one in zip(names, kinds, weights, *sets, strict=True)]
    return Compiled(optimizers.get(optimizer), tasks)


def _weight(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < float("inf"):
        raise OptionError(f"compile: loss_weights holds {given!r}; expected finite numbers, 0 or more")
    return float(given)
