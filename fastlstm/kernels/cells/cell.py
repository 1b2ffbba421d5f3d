"""What the loops ask of a cell.

Kernels see the gates of a unit as columns of a row ``gates``: ``W_ih x + b``, to which most cells add ``W_hh h_prev``.
Columns stand in blocks of L units, in a block gate after gate, so that a register holds one gate of L units. After the
step a training row holds what `pointwise` kept for BPTT; after BPTT the gradients of the pre-activations.

The pointwise functions take one block of one sequence. What travels together is a tuple:

==========  ======================================  ====================================================================
at          ``(gates, g, half)``                    the block's gates from ``gates[g]`` on; of `half` a block, two to a
                                                    register, the upper lanes of all else are of no use
apart       ``(apart, e)``                          the block's recurrent products where they are not added to `gates`;
                                                    going back ``(apart, out, e)``: their gradients go to `out`
carry       ``(cells, c_from, c_to)``               c before and after
hidden      ``(hidden, h_from, h_to, left)``        h before and after; only `left` units of it exist
kept        ``(save_gates, kept, k)``               where, if `save_gates`, the values for BPTT go
diagonals   ``(values, p, padded_units)``           the block's peephole weights: vector v at ``p + v * padded_units``
back        ``(dc, d, dc_to, e, da, a, dh)``        the gradients of the carry after and before; of the gates; of h
==========  ======================================  ====================================================================
"""

from typing import Any, NamedTuple

__all__ = ["Cell"]


class Cell(NamedTuple):
    """A recurrent cell with its options: a value."""

    name: str
    """Its kind and options: names the machine code that is made for it."""
    gates: tuple[str, ...]
    """The gates in the order of the weights' rows."""
    scales: tuple[float, ...]
    """What the forward weights of each gate are multiplied by when they are packed."""
    pointwise: Any
    """``pointwise(at, apart, carry, hidden, kept, diagonals)``: one block of one sequence, one step on."""
    pointwise_backward: Any
    """``pointwise_backward(at, apart, carry, hidden, diagonals, back)``: the same a step back."""
    has_cell: bool = False
    """Whether a second state c goes from step to step."""
    has_carry: bool = False
    """Whether BPTT carries a gradient besides what comes through the gates: of c, or of h that passes them by."""
    is_apart: bool = False
    """Whether recurrent products, with a bias of their own, stand beside the gates and not in them."""
    diagonals: tuple[str, ...] = ()
    """Peephole weights, by the gates that read them."""
    project: bool = False
    """Whether h is a product of what `pointwise` puts out with projection weights."""
    reset_before: bool = False
    """Whether the last gate's recurrent product reads what the others put out: it is a second stage of the step."""
    second: Any = None
    """``second(at, product, hidden, save_gates)``: the second stage's part of `pointwise`."""
    second_backward: Any = None
    """``second_backward(at, product, hidden, back)``: the same a step back, before `pointwise_backward`."""

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Cell) and self.name == other.name)

    @property
    def plain(self) -> bool:
        """Whether its packed weights are the input weights, the biases and the recurrent weights, and no more."""
        return not (self.is_apart or self.project or self.reset_before or self.diagonals)

    @property
    def columns(self) -> int:
        """Registers of a packed panel: all gates of one block of units, or one gate of four blocks."""
        return 3 if len(self.gates) == 3 else 4

    @property
    def blocks(self) -> int:
        """Blocks of L units in a panel."""
        return self.columns // len(self.gates)

    @property
    def halves(self) -> bool:
        """Whether a last block of L / 2 units is stored as half a block."""
        return len(self.gates) == 4

    @property
    def single_stage(self) -> bool:
        """Whether all units of a step depend on the step before alone: then cores may share the units."""
        return not (self.project or self.reset_before)
