"""Whose best strings are ours, and why not: 300 matrices, peaky, flat and long, at beam 25 with nothing pruned.

``python -m bench.ctc --agreement`` prints the table (minutes: pyctcdecode). Where pyctcdecode finds another string, the
textbook search below is made to do as pyctcdecode does, one point at a time: the fewest points that turn our string
into its string are why it differs. Then both strings get their whole log-probability, over all paths, which owes
nothing to any search.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastlstm.decode.ctc import CTCDecoder, CTCUnits

LETTERS = "abcdefghijklmnopqrstuvwxyzABC"
POINTS = {
    "apart": "ranks a prefix that ends in blank and the same one that ends in its label apart",
    "floor": "raises every probability below 1e-15 to it",
    "single": "adds up in single precision",
}
"""Where pyctcdecode 0.5 (``_decode_logits``) leaves the textbook, besides pruning, words and language models."""

Prefix = tuple[int, ...]
Path = tuple[Prefix, bool]
"""What is still to be known of a path: the string it spells, and whether it ends in blank."""


def peer(name: str) -> Any:
    """Return a module, None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def log_probs(frames: int, labels: int, sharp: float, blank: float, seed: int = 0) -> NDArray[np.float32]:
    """Return random log-probabilities; ``sharp`` spreads them, ``blank`` favours label 0."""
    scores = np.random.default_rng(seed).normal(size=(frames, labels)) * sharp
    scores[:, 0] += blank
    normed: NDArray[np.float64] = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return normed.astype(np.float32)


def matrices(count: int = 300) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield (kind, log-probabilities), the kinds in turn."""
    rng = np.random.default_rng(7)
    for number in range(count):
        frames, labels = (int(rng.integers(5, 40)), int(rng.integers(3, 12))) if number % 3 < 2 else (120, 29)
        kind, sharp, blank = (("peaky", 6.0, 2.0), ("flat", 0.7, 0.0), ("long", 3.0, 4.0))[number % 3]
        yield kind, log_probs(frames, labels, sharp, blank, seed=number)


def add(a: float, b: float) -> float:
    """Return ln(e^a + e^b); a sum of -inf and -inf is not asked for."""
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def prefix_search(x: NDArray[np.floating[Any]], width: int, points: Collection[str] = ()) -> dict[Prefix, float]:
    """Prefix beam search, blank 0, in float64 (Hannun et al. 2014, algorithm 1); with ``points``, as pyctcdecode does.

    Returns
    -------
    dict
        The strings of the last beam with the log-probabilities of their paths that stayed in it.
    """
    rows = x.astype(np.float64)
    if "floor" in points:
        rows = rows.clip(math.log(1e-15), 0.0)
    number = np.float32 if "single" in points else float
    beam: dict[Path, Any] = {((), True): number(0.0)}
    for row in rows.tolist():
        after: dict[Path, Any] = {}
        for ((prefix, blank), mass), (label, log_prob) in itertools.product(beam.items(), enumerate(row)):
            repeats = not blank and label == prefix[-1]
            path = (prefix if label == 0 or repeats else (*prefix, label), label == 0)
            reached = mass + number(log_prob)
            after[path] = number(add(after[path], reached)) if path in after else reached
        beam = best_paths(after, width) if "apart" in points else best_prefixes(after, width)
    return strings(beam)


def strings(paths: dict[Path, float]) -> dict[Prefix, float]:
    """Add up what spells the same."""
    found: dict[Prefix, float] = {}
    for (prefix, _), mass in paths.items():
        found[prefix] = add(found[prefix], mass) if prefix in found else mass
    return found


def best_prefixes(paths: dict[Path, float], width: int) -> dict[Path, float]:
    """Keep as the textbook does: a prefix is ranked by all its paths, and holds one place of the beam."""
    found = strings(paths)
    kept = set(sorted(found, key=lambda prefix: -found[prefix])[:width])
    return {path: mass for path, mass in paths.items() if path[0] in kept}


def best_paths(paths: dict[Path, float], width: int) -> dict[Path, float]:
    """Keep by point "apart": a prefix's paths that end in blank and those that do not compete for the beam's places."""
    return dict(sorted(paths.items(), key=lambda item: -item[1])[:width])


def total(x: NDArray[np.floating[Any]], ids: Prefix) -> float:
    """Return the log-probability of a string over all its paths (forward algorithm, Graves et al. 2006, eq. 6 to 8)."""
    path = [0, *itertools.chain.from_iterable((label, 0) for label in ids)]  # a blank around each label
    alpha = np.full(len(path), -np.inf)
    alpha[0] = 0.0  # before the first frame: on the first blank, from where a frame may stay or step
    skips = [s > 1 and label not in (0, path[s - 2]) for s, label in enumerate(path)]
    for row in x.astype(np.float64):
        step = np.append(-np.inf, alpha[:-1])
        skip = np.where(skips, np.append([-np.inf, -np.inf], alpha)[: len(path)], -np.inf)
        alpha = np.logaddexp(np.logaddexp(alpha, step), skip) + row[path]
    return float(np.logaddexp(alpha[-1], alpha[-2])) if ids else float(alpha[-1])


class Verdict(NamedTuple):
    """What was found out about one matrix."""

    kind: str
    textbook: bool
    """Whether the textbook finds our string."""
    rust: bool
    """Whether fast-ctc-decode does."""
    restated: bool
    """Whether the textbook with every point finds pyctcdecode's."""
    causes: tuple[str, ...] | None
    """The fewest points with which it does; () where pyctcdecode's string is ours, None where no points give it."""
    gain: float
    """Log-probability of our string, less that of pyctcdecode's."""
    width: int
    """The least beam, by doubling ours up to 11 times, whose string is as likely as pyctcdecode's; 0 if none is."""
    kept: tuple[float, float]
    """The shares of their probability that our string and pyctcdecode's had left in the beam."""


def judge(kind: str, x: NDArray[np.float32], width: int, rust: Any, python: Any) -> Verdict:
    """Decode a matrix by all, and find out why pyctcdecode's string differs."""
    names = ["", *LETTERS[: x.shape[1] - 1]]
    [ours] = CTCDecoder(width, units=CTCUnits(names)).decode(x)
    [text, *_, mass] = python.build_ctcdecoder(names).decode_beams(
        x, beam_width=width, beam_prune_logp=-1e9, token_min_logp=-1e9
    )[0]
    theirs = tuple(map(names.index, text))

    def found(points: Collection[str]) -> Prefix:
        strings = prefix_search(x, width, points)
        return max(strings, key=strings.__getitem__)

    sets = [points for size in range(1, len(POINTS) + 1) for points in itertools.combinations(POINTS, size)]
    whole = total(x, theirs)
    widths = (width << doublings for doublings in range(12))
    return Verdict(
        kind,
        textbook=found(()) == ours.ids,
        rust=rust.beam_search(np.exp(x), names, width, 0.0)[0] == ours.text,
        restated=found(POINTS) == theirs,
        causes=() if ours.ids == theirs else next((points for points in sets if found(points) == theirs), None),
        gain=total(x, ours.ids) - whole,
        width=next((wide for wide in widths if total(x, CTCDecoder(wide).decode(x)[0].ids) >= whole), 0),
        kept=(math.exp(ours.logprob - total(x, ours.ids)), math.exp(mass - whole)),
    )


def only(point: str) -> Callable[[Verdict], bool]:
    """Return the question whether a point alone is why pyctcdecode's string differs."""
    return lambda verdict: verdict.causes == (point,)


def table(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the counts as a Markdown table, a column for each kind, and what else there is to say."""
    verdicts = list(verdicts)
    facts: dict[str, Callable[[Verdict], bool]] = {
        "matrices": lambda v: True,
        "our best string is the textbook's": lambda v: v.textbook,
        "... is fast-ctc-decode's": lambda v: v.rust,
        "... is pyctcdecode's": lambda v: v.causes == (),
        **{f"... is not: pyctcdecode {why}": only(point) for point, why in POINTS.items()},
        "... is not, by more than one of these points": lambda v: v.causes is not None and len(v.causes) > 1,
        "... is not, and no point explains it": lambda v: v.causes is None,
        "pyctcdecode's is the textbook's with all its points": lambda v: v.restated,
        "ours is likelier than pyctcdecode's, summed over all paths": lambda v: v.gain > 0,
        "ours is less likely": lambda v: v.gain < 0,
    }
    kinds = [*dict.fromkeys(verdict.kind for verdict in verdicts), "all"]
    lines = [f"| beam 25, nothing pruned | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for name, holds in facts.items():
        counts = (sum(holds(v) for v in verdicts if kind in (v.kind, "all")) for kind in kinds)
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    unlucky = [verdict.width for verdict in verdicts if verdict.gain < 0]
    widths = ", ".join(f"{unlucky.count(width)} at {width}" for width in sorted(set(unlucky)))
    ours, theirs = np.mean([verdict.kept for verdict in verdicts], axis=0)
    return [
        *lines,
        "",
        (f"Where ours is less likely, a wider beam of ours finds a string as likely: {widths}. " if unlucky else "")
        + f"Of its best string's probability our beam has kept {ours:.0%} on average, pyctcdecode's {theirs:.0%}.",
    ]


def agreement() -> list[str]:
    """Return the table for the 300 matrices, or what is missing."""
    rust, python = peer("fast_ctc_decode"), peer("pyctcdecode")
    if not (rust and python):
        return ["The 300 matrices need fast-ctc-decode and pyctcdecode."]
    return table(judge(kind, x, 25, rust, python) for kind, x in matrices())
