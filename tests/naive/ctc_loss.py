"""The CTC loss in float64: brute force over all alignments, and Graves's recursions in logarithms, loop by loop.

Imports nothing of ours. Of a string of L labels, position s of 2L + 1 is a blank where s is even, label s // 2 else.
"""

import math

import numpy as np

from tests.naive.ctc import add_logs, all_strings


def log_softmax(z):
    shifted = z - z.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def brute_force(log_probs, labels, blank=0):
    """Return -log of the sum over every one of the V^T alignments; infinity if none spells the labels."""
    return -all_strings(log_probs, blank).get(tuple(labels), -math.inf)


def extended(labels, blank):
    """Return the labels with a blank before, between and behind them."""
    positions = [blank]
    for label in labels:
        positions += [label, blank]
    return positions


def before(positions, s, blank):
    """Return the positions from which a step leads to position s."""
    places = [s]
    if s >= 1:
        places.append(s - 1)
    if s >= 2 and positions[s] != blank and positions[s] != positions[s - 2]:
        places.append(s - 2)
    return places


def forward(log_probs, positions, blank):
    """Return log alpha: of step t and position s, the probability of all that is spelled so far, step t included."""
    steps, count = len(log_probs), len(positions)
    alpha = [[-math.inf] * count for _ in range(steps)]
    for t in range(steps):
        for s in range(count):
            if t == 0:
                total = 0.0 if s <= 1 else -math.inf
            else:
                total = -math.inf
                for place in before(positions, s, blank):
                    total = add_logs(total, alpha[t - 1][place])
            alpha[t][s] = total + float(log_probs[t][positions[s]])
    return alpha


def backward(log_probs, positions, blank):
    """Return log beta: of step t and position s, the probability of all that is still to be spelled, without step t."""
    steps, count = len(log_probs), len(positions)
    beta = [[-math.inf] * count for _ in range(steps)]
    for t in reversed(range(steps)):
        for s in range(count):
            if t == steps - 1:
                beta[t][s] = 0.0 if s >= count - 2 else -math.inf
                continue
            for after in range(s, min(s + 3, count)):
                if s in before(positions, after, blank):
                    step = beta[t + 1][after] + float(log_probs[t + 1][positions[after]])
                    beta[t][s] = add_logs(beta[t][s], step)
    return beta


def ctc(log_probs, labels, blank=0):
    """Return the loss, and (T, V) each class's probability at each step, given the labels (0 if they cannot be)."""
    positions = extended(labels, blank)
    alpha, beta = forward(log_probs, positions, blank), backward(log_probs, positions, blank)
    total = alpha[-1][-1] if len(positions) == 1 else add_logs(alpha[-1][-1], alpha[-1][-2])
    posteriors = np.zeros(np.shape(log_probs))
    if total > -math.inf:
        for t in range(len(log_probs)):
            for s, label in enumerate(positions):
                posteriors[t, label] += math.exp(alpha[t][s] + beta[t][s] - total)
    return -total, posteriors


def ctc_of_logits(z, labels, blank=0):
    """Return the loss and its gradient with respect to logits (T, V); a loss of infinity has gradient 0."""
    log_probs = log_softmax(z)
    loss, posteriors = ctc(log_probs, labels, blank)
    return loss, (np.exp(log_probs) - posteriors if loss < math.inf else np.zeros(z.shape))
