"""CTC: the loss of sequences whose labels are known but not where in time they are."""

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...data.labels import Labels, pack_labels
from ...data.packed import BatchLike, Packed, pack, writeable
from ...errors import DataError, OptionError, ShapeError
from ...kernels.ctc_loss import ctc_gradients, ctc_losses, memory_for
from ...runtime import config
from ...runtime.pool import num_chunks, parallel_for
from ...runtime.workspace import temporary
from ...simd.host import REGISTERS
from .base import Rows, SequenceLoss

__all__ = ["CTC", "ctc_loss"]

_NS_PER_CLASS, _NS_PER_LABEL = 0.5, 6.0
"""Estimates: a step takes so long for each class, and for each label and a few more."""
_MORE_LABELS = 16

_DOUBLE = np.dtype(np.float64)
_LANES = REGISTERS.lanes(_DOUBLE.itemsize)


class CTC(SequenceLoss):
    """Connectionist temporal classification: ``-log p(labels)``, summed over all their alignments with the steps.

    The model puts out K classes a step, one of which is the blank. An alignment names a class for each step; its
    repeats are merged and its blanks dropped, and what is left are the labels. So a sequence needs a step for each
    label, and one more wherever a label repeats the one before it. ``docs/ctc_loss.md`` has the equations.

    Targets are the labels of each sequence, of any length, also none: a list of ``(L_n,)`` arrays, or one array
    ``(N, L)`` padded by -1.

    The value of a batch is the mean over its sequences of ``-log p``, times their weights. (torch's
    ``reduction="mean"`` divides each sequence's by its number of labels first; its ``"sum"`` is N times this.)

    Parameters
    ----------
    blank : int
        The class that is the blank; a negative one counts from the end: -1 is the last class, as in Keras 2 and
        TensorFlow. Default: 0, as in Keras 3 and torch.
    zero_infinity : bool
        What labels without an alignment, such as more labels than steps, do. False: they are an error. True: the
        sequence has loss 0 and gradient 0, and is counted in the mean, as in torch.
    from_logits : bool
        The model ends without a softmax: this loss applies it. (Where a Dense ends with one, both are fused anyway.)

    References
    ----------
    A. Graves, S. Fernández, F. Gomez, J. Schmidhuber. Connectionist temporal classification. ICML 2006.

    Examples
    --------
    Two steps that give each of three classes 1/3: the label 1 is spelled by the alignments 1 1, 1 0 and 0 1.

    >>> import numpy as np
    >>> from fastlstm.data.packed import pack
    >>> output, _ = pack(np.full((1, 2, 3), 1 / 3), features=True)
    >>> loss = CTC()
    >>> round(loss.value(output, loss.check_targets([[1]], output)), 4), round(float(-np.log(3 / 9)), 4)
    (1.0986, 1.0986)
    """

    name = "ctc"
    fuses = "softmax"
    own_lengths = True

    def __init__(self, blank: int = 0, zero_infinity: bool = False, from_logits: bool = False):
        if isinstance(blank, bool) or not isinstance(blank, int | np.integer):
            raise OptionError(f"ctc: blank={blank!r}; expected the number of a class, such as 0, or -1 for the last")
        self.blank = int(blank)
        self.zero_infinity = bool(zero_infinity)
        self.from_logits = bool(from_logits)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {"blank": self.blank, "zero_infinity": self.zero_infinity, "from_logits": self.from_logits}

    def check_targets(self, target: Any, output: Packed) -> Labels:  # type: ignore[override]
        """Return the labels as the loss computes with them.

        Parameters
        ----------
        target : Labels, or what `pack_labels` takes
            The labels of each sequence.
        output : Packed
            What they are for; only its shape is looked at.

        Raises
        ------
        ShapeError
            Not one string of labels for each sequence, or an output of one row a sequence.
        DataError
            A label that is no class, or the blank; and without `zero_infinity`, more labels than the steps can spell.
            The sequence that is named is that of the user's batch.
        OptionError
            The blank is no class of the output.
        """
        if not output.steps:
            raise ShapeError(
                f"{self.name} needs an output for each step, but the model puts out one row a sequence; set "
                "return_sequences=True on the last recurrent layer"
            )
        blank = self._blank_of(output.features)
        labels = (
            target if isinstance(target, Labels) else pack_labels(target, output.order, output.sequences, self.name)
        )
        if len(labels.starts) != output.sequences + 1:
            raise ShapeError(
                f"{self.name}: {len(labels.starts) - 1} strings of labels for {output.sequences} sequences; expected "
                "one for each"
            )
        self._check_labels(labels, output, blank)
        if not self.zero_infinity:
            self._check_steps(labels, output)
        return labels

    def _check_labels(self, labels: Labels, output: Packed, blank: int) -> None:
        values, classes = labels.values, output.features
        wrong = np.flatnonzero((values < 0) | (values >= classes) | (values == blank))
        if not len(wrong):
            return
        sequences = np.searchsorted(labels.starts, wrong, side="right") - 1
        first, label = min(
            (_number(labels, output, n), label) for n, label in zip(sequences, values[wrong], strict=True)
        )
        given = "the blank" if label == blank else f"no class: the model has {classes}"
        raise DataError(
            f"{self.name}: sequence {first} has label {label}, which is {given}; expected 0 to {classes - 1}, but for "
            f"the blank {blank}"
        )

    def _check_steps(self, labels: Labels, output: Packed) -> None:
        repeats = _repeats(labels)
        impossible = np.flatnonzero(output.lengths < labels.lengths + repeats)
        if not len(impossible):
            return
        place, n = min((_number(labels, output, n), n) for n in impossible)
        count, again = labels.lengths[n], repeats[n]
        needed = f"{count} labels" + (f", {again} of them like the one before," if again else "")
        raise DataError(
            f"{self.name}: sequence {place} has {needed} which need {count + again} steps; the output has "
            f"{output.lengths[n]}. Give it more steps, leave it out, or take zero_infinity=True, which counts such "
            "sequences as 0"
        )

    def _blank_of(self, classes: int) -> int:
        if not -classes <= self.blank < classes:
            raise OptionError(
                f"{self.name}: blank={self.blank}; the model has {classes} classes: expected 0 to {classes - 1}, or "
                f"-1 to {-classes}, counted from the end"
            )
        return self.blank % classes

    def example(self, shape: tuple[int, ...], rng: np.random.Generator, fused: bool = False) -> tuple[Rows, Any]:
        """Return logits or probabilities (N, T, K); see `SequenceLoss.example`."""
        output, targets = super().example(shape, rng)
        e = np.exp(output)
        return output if fused else e / e.sum(axis=-1, keepdims=True), targets

    def sequences(self, output: Packed, target: Labels, fused: bool = False) -> NDArray[np.float64]:
        """Return the loss of each sequence (N,), in packed order; `output` stays as it is."""
        losses = np.empty(output.sequences)
        self._compute(output, target, fused, losses)
        return losses

    def value(  # type: ignore[override]
        self, output: Packed, target: Labels, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss of checked targets; `output` stays as it is."""
        return _mean(self.sequences(output, target, fused), _by_sequence(weights, output.sequences))

    def gradient(  # type: ignore[override]
        self, output: Packed, target: Labels, weights: NDArray[np.float64] | None = None, fused: bool = False
    ) -> float:
        """Return the loss of checked targets, and overwrite ``output.rows`` with its gradient."""
        by_sequence = _by_sequence(weights, output.sequences)
        losses = np.empty(output.sequences)
        self._compute(output, target, fused, losses, by_sequence)
        return _mean(losses, by_sequence)

    def _compute(
        self,
        output: Packed,
        target: Labels,
        fused: bool,
        losses: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Write the losses, and with weights the gradient over the output's rows."""
        lengths, counts = output.lengths, target.lengths
        cost = lengths * (_NS_PER_CLASS * output.features + _NS_PER_LABEL * (counts + _MORE_LABELS))
        parts = num_chunks(float(cost.sum()), output.sequences)
        size = max(
            memory_for(steps, count, weights is not None, _LANES, config.TUNED.ctc_kept)
            for steps, count in set(zip(lengths.tolist(), counts.tolist(), strict=True))
        )
        kernel, own = (ctc_losses, (losses,)) if weights is None else (ctc_gradients, (weights, losses))
        rows = writeable(np.ascontiguousarray(output.rows)) if weights is None else output.rows
        shape = output.offsets, lengths, target.values, target.starts, self._blank_of(output.features), bool(fused)
        with ExitStack() as stack:
            each = [stack.enter_context(temporary(size, _DOUBLE)) for _ in range(parts)]
            parallel_for(kernel, rows, *shape, *own, count=len(losses), cost=0.0, each=each, weights=cost)
        if self.zero_infinity:
            losses[np.isposinf(losses)] = 0.0


def ctc_loss(
    target: BatchLike,
    output: BatchLike,
    target_length: ArrayLike | None = None,
    output_length: ArrayLike | None = None,
    mask_index: int = 0,
) -> NDArray[np.float64]:
    """Return the CTC loss of each sequence, from logits; the arguments are those of ``keras.ops.ctc_loss``.

    Parameters
    ----------
    target : array (N, L) or list of arrays (L_n,)
        Labels of each sequence; an array is padded by -1, or by anything where `target_length` is given.
    output : array (N, T, K) or list of arrays (T_n, K)
        Logits, float32 or float64: what a softmax over K classes would take.
    target_length : array of int, shape (N,), optional
        Number of labels of each sequence.
    output_length : array of int, shape (N,), optional
        Number of steps of each sequence.
    mask_index : int
        The class that is the blank; -1 is the last one.

    Returns
    -------
    ndarray of float64, shape (N,)
        ``-log p(labels)``; infinity where labels have no alignment.

    Raises
    ------
    ShapeError, DataError, OptionError
        Arguments that do not go together: see `CTC.check_targets`.

    Examples
    --------
    >>> import numpy as np
    >>> ctc_loss([[1], [2, 2]], np.zeros((2, 3, 4))).round(4)
    array([2.3671, 4.1589])
    """
    packed, _ = pack(output, output_length, features=True, who="ctc_loss: output")
    if packed.rows.dtype not in (np.float32, np.float64):
        packed = packed.with_rows(packed.rows.astype(np.float64))
    labels = pack_labels(target, packed.order, packed.sequences, "ctc_loss", target_length)
    CTC(mask_index, zero_infinity=True).check_targets(labels, packed)
    return packed.to_user_order(CTC(mask_index).sequences(packed, labels, fused=True))


def _repeats(labels: Labels) -> NDArray[np.int64]:
    """Return how many labels of each sequence repeat the one before."""
    values, starts, _ = labels
    same = np.zeros(len(values) + 1, np.int64)
    same[1:-1] = values[1:] == values[:-1]
    same[starts] = 0  # the first of a sequence follows none
    before = np.concatenate(([0], np.cumsum(same)))
    repeats: NDArray[np.int64] = before[starts[1:]] - before[starts[:-1]]
    return repeats


def _number(labels: Labels, output: Packed, n: Any) -> int:
    """Return what errors call sequence n of the packed order."""
    if labels.numbers is not None:
        return int(labels.numbers[n])
    return int(n if output.order is None else output.order[n])


def _by_sequence(weights: NDArray[np.float64] | None, count: int) -> NDArray[np.float64]:
    """Return what each sequence's loss counts in the value."""
    if weights is None:
        return np.full(count, 1.0 / count)
    if weights.shape != (count,):
        raise ShapeError(
            f"ctc: the batch has {count} sequences, its weights have shape {weights.shape}; expected one each"
        )
    return weights / count


def _mean(losses: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the weighted sum; a sequence of weight 0 adds nothing, even where its loss is infinite."""
    return float(np.where(weights == 0.0, 0.0, losses * np.where(weights == 0.0, 1.0, weights)).sum())
