"""A linear-chain CRF by enumeration of every path, in float64; imports nothing of ours.

Of one sequence: emissions x (T, K), transitions (K, K) from row to column, start (K,), end (K,).
"""

from itertools import pairwise
from math import exp, inf, log
from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """What a sequence's paths score."""

    x: np.ndarray
    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray


class Gradient(NamedTuple):
    """Of the loss, with respect to what has the same name in `Scores`."""

    x: np.ndarray
    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray


def score(scores, path):
    """Return what one path scores."""
    total = scores.start[path[0]] + scores.end[path[-1]]
    for t, tag in enumerate(path):
        total += scores.x[t, tag]
    for before, after in pairwise(path):
        total += scores.transitions[before, after]
    return total


def all_paths(scores):
    """Return every path that is not forbidden, with its score."""
    steps, tags = scores.x.shape
    begun = [(tag,) for tag in range(tags) if scores.start[tag] > -inf]
    for _ in range(1, steps):
        begun = [(*path, tag) for path in begun for tag in range(tags) if scores.transitions[path[-1], tag] > -inf]
    scored = ((path, score(scores, path)) for path in begun)
    return [(path, value) for path, value in scored if value > -inf]


def log_partition(scores):
    """Return log Z; -inf where every path is forbidden."""
    values = [value for _, value in all_paths(scores)]
    if not values:
        return -inf
    highest = max(values)
    return highest + log(sum(exp(value - highest) for value in values))


def loss(scores, tags):
    return log_partition(scores) - score(scores, tags)


def counts(path, tags):
    """Return where a path goes: the `Gradient` of its score."""
    where = Gradient(np.zeros((len(path), tags)), np.zeros((tags, tags)), np.zeros(tags), np.zeros(tags))
    for t, tag in enumerate(path):
        where.x[t, tag] += 1
    for before, after in pairwise(path):
        where.transitions[before, after] += 1
    where.start[path[0]] += 1
    where.end[path[-1]] += 1
    return where


def expected_counts(scores):
    """Return the mean of `counts` over all paths by their probability: ``x`` holds the marginals."""
    total, tags = log_partition(scores), scores.x.shape[1]
    mean = counts((0,) * len(scores.x), tags)
    mean = Gradient(*(0.0 * part for part in mean))
    for path, value in all_paths(scores):
        for part, where in zip(mean, counts(path, tags), strict=True):
            part += exp(value - total) * where
    return mean


def gradient(scores, path):
    """Return the gradient of the loss."""
    expected, gold = expected_counts(scores), counts(path, scores.x.shape[1])
    return Gradient(*(mean - one for mean, one in zip(expected, gold, strict=True)))


def best_path(scores):
    """Return the path of the highest score, and that score."""
    return max(all_paths(scores), key=lambda found: found[1])
