"""What tells one recurrent layer from another, and the shapes of its weights: torch's names, torch's shapes."""

from math import sqrt
from typing import NamedTuple

GATES = {"lstm": "ifgo", "gru": "rzn", "rnn": "h"}


class Spec(NamedTuple):
    """A kind of cell and its options; those that a kind lacks are left at their defaults."""

    kind: str = "lstm"
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    peephole: bool = False
    coupled: bool = False
    projection: int | None = None
    reset_after: bool = True
    use_bias: bool = True

    def __str__(self):
        changed = [f"{word}={value}" for word, value in self.options().items() if value != DEFAULTS[word]]
        return " ".join([self.kind, *changed])

    def options(self):
        """Return the constructor's arguments for a layer of this kind."""
        of_kind = {
            "lstm": ("recurrent_activation", "peephole", "coupled", "projection"),
            "gru": ("recurrent_activation", "reset_after"),
            "rnn": (),
        }[self.kind]
        return {word: getattr(self, word) for word in ("activation", *of_kind, "use_bias")}

    @property
    def gates(self):
        """A letter for each gate that has weights, in the order of their rows."""
        return "igo" if self.coupled else GATES[self.kind]

    @property
    def peepholes(self):
        """A letter for each gate that sees the cell state."""
        return "".join(gate for gate in self.gates if gate in "ifo") if self.peephole else ""

    def state_widths(self, units):
        """Return the features of each part of the state: (P, H) or (H, H) of an LSTM, (H,) of the others."""
        return ((self.projection or units), units) if self.kind == "lstm" else (units,)

    def shapes(self, features, units):
        """Return the shape of every weight."""
        rows, out = len(self.gates) * units, self.state_widths(units)[0]
        shapes = {"weight_ih_l0": (rows, features), "weight_hh_l0": (rows, out)}
        if self.use_bias:
            shapes |= {"bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
        shapes |= {f"weight_c{gate}_l0": (units,) for gate in self.peepholes}
        if self.projection:
            shapes["weight_hr_l0"] = (self.projection, units)
        return shapes


DEFAULTS = Spec()._asdict()


def random_weights(spec, rng, features, units):
    """Return weights of about the size that torch starts from, so that gates are neither flat nor open."""
    bound = 1.0 / sqrt(units)
    return {name: rng.uniform(-bound, bound, shape) for name, shape in spec.shapes(features, units).items()}


def random_states(spec, rng, count, units):
    """Return a state of each sequence: (N, P) and (N, H), or (N, H) alone."""
    return tuple(rng.standard_normal((count, width)) for width in spec.state_widths(units))
