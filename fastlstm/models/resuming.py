"""What a file keeps beside the weights so that training goes on as if it had never stopped.

The optimizer's arrays are tensors by the parameter that they belong to, ``optimizer.mean.lstm.weight_ih_l0``, and its
step count is ``optimizer.steps``; the state of the generator that draws orders and dropout masks goes into the
description.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import OptionError
from ..training.optimizers import Optimizer

__all__ = ["describe_generator", "make_generator", "name_state", "restore_state"]

_PREFIX = "optimizer."
_GENERATOR = "PCG64"


def name_state(optimizer: Optimizer, params: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return copies of what the optimizer remembers, as tensors with names.

    Parameters
    ----------
    optimizer : Optimizer
        It may not have taken a step yet.
    params : sequence of str
        Names of the parameters that it moves, in its order.

    Returns
    -------
    dict of str to ndarray
        ``optimizer.steps``, an int64 scalar; and for each slot and parameter an array of its shape and dtype.

    Raises
    ------
    OptionError
        The optimizer has moved another model's parameters, or a parameter bears a name that is needed.
    """
    state, names = optimizer.state_dict(), _names(optimizer, params)
    if taken := sorted(names.keys() & set(params)):
        raise OptionError(f"save: optimizer=True needs the name {taken[0]}, which a layer has; rename that layer")
    named = {name: state.pop(key) for name, key in names.items() if key in state}
    if state or len(named) not in (1, len(names)):  # without a step there is only the count
        raise OptionError(
            f"save: optimizer=True, but the {type(optimizer).__name__} was used with another model before; "
            "compile with an optimizer of this model's own"
        )
    return named


def _names(optimizer: Optimizer, params: Sequence[str]) -> dict[str, str]:
    """Return the keys of `Optimizer.state_dict` by the names that they have in a file."""
    names = {f"{_PREFIX}steps": "steps"}
    for place, name in enumerate(params):
        names |= {f"{_PREFIX}{slot}.{name}": f"{place}.{slot}" for slot in optimizer.slots}
    return names


def restore_state(
    optimizer: Optimizer, params: Sequence[str], tensors: Mapping[str, ArrayLike]
) -> dict[str, ArrayLike]:
    """Give the optimizer back what `name_state` took from it, and return the tensors that are not of it.

    Raises
    ------
    ShapeError
        The tensors are another optimizer's.
    """
    names = _names(optimizer, params)
    optimizer.load_state_dict({names[name]: np.asarray(value) for name, value in tensors.items() if name in names})
    return {name: value for name, value in tensors.items() if name not in names}


def describe_generator(rng: np.random.Generator) -> dict[str, Any]:
    """Return a generator's state as JSON can hold it.

    Raises
    ------
    OptionError
        It is not of the kind that `numpy.random.default_rng` makes.
    """
    state: dict[str, Any] = dict(rng.bit_generator.state)
    if state["bit_generator"] != _GENERATOR:
        raise OptionError(
            f"save: the model's generator is a {state['bit_generator']}, expected {_GENERATOR}: set "
            "model.rng = numpy.random.default_rng(seed), or save without optimizer=True"
        )
    return state


def make_generator(state: Mapping[str, Any]) -> np.random.Generator:
    """Return a generator that goes on where the described one stood."""
    bits = np.random.PCG64()
    bits.state = dict(state)  # type: ignore[assignment]
    return np.random.Generator(bits)
