"""CTC prefix beam search beside fast-ctc-decode (Rust), one core each, beam 25, nothing pruned, no language model.

`python -m bench.ctc` has pyctcdecode too, whose strings differ (it says why), and language models.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.decode.ctc import CTCDecoder, CTCUnits

from .ctc_agreement import LETTERS, log_probs

WIDTH = 25
INPUTS = {"peaky": (6.0, 2.0), "clear": (3.0, 4.0), "flat": (0.7, 0.0)}
"""How sharp the frames are, and how much likelier blank is."""


class Matrix(NamedTuple):
    """Log-probabilities (T, labels), and the names of the labels, blank first."""

    x: np.ndarray
    names: list[str]


def ours(problem: Matrix, threads: int) -> Runner:
    """Decode with `fastlstm.decode.CTCDecoder`."""
    decoder = CTCDecoder(WIDTH, units=CTCUnits(problem.names))
    return Runner(lambda: decoder.decode(problem.x)[0].text, lambda text: {"text": list(map(ord, text))})


def fast_ctc_decode(problem: Matrix, threads: int) -> Runner:
    """Decode probabilities in Rust."""
    from fast_ctc_decode import beam_search

    probabilities = np.exp(problem.x)
    return Runner(
        lambda: beam_search(probabilities, problem.names, WIDTH, 0.0)[0], lambda text: {"text": list(map(ord, text))}
    )


CONTENDERS = (Contender(OURS, ours), Contender("fast-ctc-decode", fast_ctc_decode, ("fast_ctc_decode",)))


def cells(tiny: bool) -> Iterator[Cell]:
    for frames, labels in [(30, 5)] if tiny else [(1000, 29), (5000, 5)]:
        for name, (sharp, blank) in INPUTS.items():

            def problem(
                frames: int = frames, labels: int = labels, sharp: float = sharp, blank: float = blank
            ) -> Matrix:
                return Matrix(log_probs(frames, labels, sharp, blank), ["", *LETTERS[: labels - 1]])

            yield Cell(f"T={frames}, {labels} labels, {name}", 1, problem, CONTENDERS, kind="", checks=1)


def test_ctc(time_contender):
    time_contender()
