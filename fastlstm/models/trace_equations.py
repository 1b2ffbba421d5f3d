"""What is written above the heatmaps of a trace: each quantity's name, its equation and that equation's number.

The numbers are those of ``docs/lstm.md``, ``docs/gru.md`` and ``docs/rnn.md``.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["Title", "titles_of"]

_FUNCTIONS = {"sigmoid": r"\sigma", "tanh": r"\tanh", "linear": ""}
"""How activations are written in mathematics; the others by their names."""

_DEFAULTS = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "peephole": False,
    "coupled": False,
    "projection": None,
    "reset_after": True,
}
"""Options that the ``config()`` of a class of the user's own may lack."""


class Title(NamedTuple):
    """Of one quantity."""

    text: str
    """Name and equation, with mathematics as matplotlib takes it."""
    number: str
    """Of the equation: ``(5)``."""
    activation: str | None
    """What the values went through last, so that their range is known; None for a state."""


def titles_of(letters: Iterable[str], options: Mapping[str, Any], *, backwards: bool) -> dict[str, Title]:
    """Return the titles of a layer's quantities by their letters, from these letters and the layer's ``config()``.

    Of one that reads `backwards`, the state before step t is that of step t + 1.
    """
    letters = set(letters)
    titles = (_lstm if "i" in letters else _gru if "r" in letters else _rnn)({**_DEFAULTS, **options})
    if not backwards:
        return titles
    return {letter: title._replace(text=title.text.replace("t-1", "t+1")) for letter, title in titles.items()}


def _of(activation: str, argument: str) -> str:
    """Return an activation of an argument, in mathematics."""
    function = _FUNCTIONS.get(activation, rf"\mathrm{{{activation}}}".replace("_", r"\_"))
    return f"{function}({argument})" if function else argument


def _title(name: str, equation: str, number: str, activation: str | None = None) -> Title:
    return Title(f"{name}   ${equation}$", f"({number})", activation)


def _lstm(options: Mapping[str, Any]) -> dict[str, Title]:
    gate, act = options["recurrent_activation"], options["activation"]
    peephole, p = options["peephole"], "p" * options["peephole"]

    def gate_of(letter: str, seen: str) -> str:
        more = rf" + p_{letter}\, {seen}" if peephole else ""
        return f"{letter}_t = {_of(gate, f'a_{letter}{more}')}"

    m = rf"o_t\, {_of(act, 'c_t')}"
    return {
        "i": _title("input gate", gate_of("i", "c_{t-1}"), f"1{p}", gate),
        "f": _title("forget gate", "f_t = 1 - i_t", "2c", gate)
        if options["coupled"]
        else _title("forget gate", gate_of("f", "c_{t-1}"), f"2{p}", gate),
        "g": _title("candidate", f"g_t = {_of(act, 'a_g')}", "3", act),
        "o": _title("output gate", gate_of("o", "c_t"), f"4{p}", gate),
        "c": _title("cell state", r"c_t = f_t\, c_{t-1} + i_t\, g_t", "5"),
        "h": _title("hidden state", rf"h_t = W_{{hr}}\,({m})", "6, 7")
        if options["projection"]
        else _title("hidden state", f"h_t = {m}", "6"),
    }


def _gru(options: Mapping[str, Any]) -> dict[str, Title]:
    gate, act = options["recurrent_activation"], options["activation"]
    if options["reset_after"]:
        number, seen = "3", r"r_t\, u_n"
    else:
        number, seen = "3r", r"W_{hn}\,(r_t\, h_{t-1}) + b_{hn}"
    return {
        "r": _title("reset gate", f"r_t = {_of(gate, 'a_r + u_r')}", "1", gate),
        "z": _title("update gate", f"z_t = {_of(gate, 'a_z + u_z')}", "2", gate),
        "n": _title("candidate", f"n_t = {_of(act, f'a_n + {seen}')}", number, act),
        "h": _title("hidden state", r"h_t = (1 - z_t)\, n_t + z_t\, h_{t-1}", "4"),
    }


def _rnn(options: Mapping[str, Any]) -> dict[str, Title]:
    return {"h": _title("hidden state", f"h_t = {_of(options['activation'], 'a')}", "1")}
