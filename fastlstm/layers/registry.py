"""Classes of the user's own in model files: the name that a file knows them by, and the way from there to the class.

A file never says what to import. It holds a name, and `find` looks for it among the classes that the program has
registered (`register`) or passed to `load` (`custom_objects`, which hold while the load runs).
"""

import inspect
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar, overload

import numpy as np

from ..errors import ModelFileError, OptionError

__all__ = [
    "checked_config",
    "custom_objects",
    "depth_of_caller",
    "find",
    "make",
    "name_to_save",
    "register",
    "registered_name",
    "snake_case",
]

_Class = TypeVar("_Class", bound=type)

_REGISTERED: dict[str, type] = {}
_NAMES: dict[type, str] = {}
_PASSED: ContextVar[Mapping[str, type]] = ContextVar("custom_objects", default=MappingProxyType({}))
_OF_EVERY_LAYER = ("name", "dtype")
"""What `Layer.config` returns; a constructor that does not take them gets them as attributes."""


def snake_case(kind: str) -> str:
    """Return a class name in lower case, its words apart, as Keras names what has no name.

    Examples
    --------
    >>> snake_case("LSTM"), snake_case("SimpleRNN"), snake_case("GlobalMaxPooling1D")
    ('lstm', 'simple_rnn', 'global_max_pooling1d')
    """
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", kind)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


@overload
def register(package: _Class, name: None = None) -> _Class: ...
@overload
def register(package: str = "Custom", name: str | None = None) -> Callable[[_Class], _Class]: ...
def register(package: Any = "Custom", name: str | None = None) -> Any:
    """Let model files hold a layer, loss, metric or optimizer class of your own: a decorator.

    A file knows the class as ``package>name``. A program that loads the file must have run the decorator before, which
    importing the module of the class does; or it passes ``custom_objects`` to `load`.

    Parameters
    ----------
    package : str
        Keeps classes of the same name apart: the name of your project.
    name : str, optional
        Default: the class's own.

    Raises
    ------
    OptionError
        What is decorated is no class, or another class has that name already.

    Examples
    --------
    >>> import fastlstm as fl
    >>> @fl.register("examples")
    ... class Negative(fl.Layer):
    ...     pass
    >>> fl.layers.registry.registered_name(Negative)
    'examples>Negative'
    """
    if isinstance(package, type):  # @register without brackets
        return register("Custom")(package)
    if not isinstance(package, str) or ">" in package:
        raise OptionError(
            f"register: package={package!r}; expected a str without '>', such as the name of your project"
        )

    def decorate(cls: _Class) -> _Class:
        if not isinstance(cls, type):
            raise OptionError(f"register: {cls!r} is no class; write @fastlstm.register above a class")
        key = f"{package}>{name or cls.__name__}"
        other = _REGISTERED.get(key)
        if other is not None and _path(other) != _path(cls):  # the same class defined once more is welcome: notebooks
            raise OptionError(
                f"register: {_path(other)} is registered as {key!r} already; pass another package or name for "
                f"{_path(cls)}"
            )
        _REGISTERED[key] = cls
        _NAMES[cls] = key
        return cls

    return decorate


def registered_name(cls: type) -> str | None:
    """Return the name that `register` gave a class (its subclasses have none by it); None for others."""
    return _NAMES.get(cls)


@contextmanager
def custom_objects(classes: Mapping[str, type] | None) -> Iterator[None]:
    """Let `find` know these classes, by their names, too, for as long as the context lasts.

    Raises
    ------
    OptionError
        It is no mapping of names to classes.
    """
    given = {} if classes is None else classes
    if not isinstance(given, Mapping):
        raise OptionError(f"custom_objects is {type(given).__name__}; expected a dict such as {{'Scale': Scale}}")
    for name, cls in given.items():
        if not isinstance(name, str) or not isinstance(cls, type):
            raise OptionError(f"custom_objects maps {name!r} to {cls!r}; expected the name of a class, and the class")
    token = _PASSED.set({**_PASSED.get(), **given})
    try:
        yield
    finally:
        _PASSED.reset(token)


def find(kind: str, base: type) -> type | None:
    """Return the class that files call `kind`, a subclass of `base`; None where the program has not told of any.

    `custom_objects` come first: by the whole kind, or by the class's name, which is what follows the package or module.
    """
    passed = _PASSED.get()
    for name in (kind, re.split("[>:]", kind)[-1]):
        if name in passed:
            return _checked(passed[name], kind, base)
    if kind in _REGISTERED:
        return _checked(_REGISTERED[kind], kind, base)
    return None


def _checked(cls: type, kind: str, base: type) -> type:
    if not issubclass(cls, base):
        raise OptionError(f"{kind!r} is {_path(cls)}, which is no {base.__name__}; pass the class that was saved")
    return cls


def make(kind: str, base: type, config: Mapping[str, Any]) -> Any:
    """Return an object of the user's class that a file calls `kind`, from the `config` in the file.

    Raises
    ------
    ModelFileError
        The program has not told of the class.
    """
    cls: Any = find(kind, base)
    if cls is None:
        name = re.split("[>:]", kind)[-1]
        word = base.__name__.lower()
        raise ModelFileError(
            f"no {word} of kind {kind!r} is known; if it is of your own, import the module that registers it before "
            f"loading, or pass custom_objects={{{name!r}: {name}}}"
            + ("" if word == "layer" else "; with compile=False the model loads without it")
        )
    given = dict(config)
    if hasattr(cls, "from_config"):
        return cls.from_config(given)
    named, open_ended = _takes(cls)
    later = {word: given.pop(word) for word in _OF_EVERY_LAYER if word in given and not (word in named or open_ended)}
    made = cls(**given)
    if "name" in later:
        made.name = later["name"]
    if "dtype" in later:
        made.dtype = np.dtype(later["dtype"])
    return made


def _constructor_is_ours(cls: type) -> bool:
    """Tell whether a class has the constructor of one of the library's, whose `config` goes with it."""
    return next(one for one in cls.__mro__ if "__init__" in one.__dict__).__module__.startswith("fastlstm.")


def _takes(cls: type) -> tuple[set[str], bool]:
    """Return the names of the constructor's arguments, and whether it takes any others."""
    kinds = inspect.Parameter
    takes = [one for one in inspect.signature(cls).parameters.values() if one.kind is not kinds.VAR_POSITIONAL]
    named = {one.name for one in takes if one.kind is not kinds.VAR_KEYWORD}
    return named, len(named) < len(takes)


def name_to_save(thing: object, what: str) -> str:
    """Return what a file calls the class of `thing`, which is the user's own.

    A registered class has its registered name. Of one that is not, but that can be imported, the module and name are
    noted, and a warning says how the file can be loaded.

    Parameters
    ----------
    thing : object
    what : str
        The kind of thing, named in errors: "layer", "loss", ...

    Raises
    ------
    OptionError
        The class was made inside a function, and is not registered: another program could not have it.
    """
    cls = type(thing)
    if (known := registered_name(cls)) is not None:
        return known
    if "<locals>" in cls.__qualname__ or "<lambda>" in cls.__qualname__:
        raise OptionError(
            f"save: the {what} is of class {_path(cls)}, which was made inside a function, so no other program could "
            "load the file; move the class to the top of a module, or put @fastlstm.register above it"
        )
    warnings.warn(
        f"save: the {what} class {_path(cls)} is your own and not registered: load the file with "
        f"fastlstm.load(path, custom_objects={{{cls.__name__!r}: {cls.__name__}}}), or put @fastlstm.register above "
        "the class and import its module before loading",
        stacklevel=depth_of_caller(),
    )
    return f"{cls.__module__}:{cls.__qualname__}"


def checked_config(thing: Any, what: str) -> dict[str, Any]:
    """Return ``thing.config()``, checked to make the thing again; `thing` is of a class of the user's own.

    Raises
    ------
    OptionError
        It is no dict that JSON can hold, or it lacks arguments of the constructor or has others.
    """
    cls = type(thing)
    config = thing.config()
    try:
        whole = json.loads(json.dumps(config))
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"save: {cls.__name__}.config() returned what JSON cannot hold ({error}); expected a dict of numbers, "
            "strings, lists and dicts"
        ) from None
    if not isinstance(whole, dict):
        raise OptionError(f"save: {cls.__name__}.config() returned {type(config).__name__}; expected a dict")
    if hasattr(cls, "from_config") or _constructor_is_ours(cls):
        return whole
    named, open_ended = _takes(cls)
    if missing := sorted(named - whole.keys()):
        raise OptionError(
            f"save: {cls.__name__}.config() lacks {', '.join(missing)}, which its constructor takes: the {what} would "
            f"be loaded without; define config() as `return super().config() | {{{missing[0]!r}: self.{missing[0]}}}`"
        )
    unknown = sorted(whole.keys() - named - {*_OF_EVERY_LAYER})
    if unknown and not open_ended:
        raise OptionError(
            f"save: {cls.__name__}.config() has {', '.join(unknown)}, which its constructor does not take; add "
            f"`{unknown[0]}` to __init__, or leave it out of config()"
        )
    return whole


def depth_of_caller() -> int:
    """Return the `stacklevel` by which a warning names the line of the user's program that led to it."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fastlstm."):
        depth, frame = depth + 1, frame.f_back
    return depth


def _path(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
