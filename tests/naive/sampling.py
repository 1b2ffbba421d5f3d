"""Sampling as the papers state it: one row at a time, float64, sorts and loops. Imports nothing of ours.

Options bear the names of the library's; ``share`` is how far the last comparison of a filter was from going the other
way, relative to the total probability: below the rounding of a float32 sum, two right implementations may differ.
"""

import numpy as np

INF = float("inf")


def edit(logits, history=(), **options):
    y = [float(v) for v in logits]
    for id, bias in dict(options.get("logit_bias", {})).items():
        y[id] += bias
    for id in set(history):
        penalty = options.get("repetition_penalty", 1.0)
        y[id] = y[id] * penalty if y[id] < 0 else y[id] / penalty
        y[id] -= options.get("frequency_penalty", 0.0) * list(history).count(id) + options.get("presence_penalty", 0.0)
    n = options.get("no_repeat_ngram", 0)
    history = tuple(history)
    if n:
        for id in range(len(y)):
            ngram = (*history[len(history) - n + 1 :], id) if len(history) >= n - 1 else None
            if ngram in [history[i : i + n] for i in range(len(history) - n + 1)]:
                y[id] = -INF
    ends = options.get("end_ids", ())
    for id in options.get("banned_ids", ()):
        y[id] = -INF
    if len(history) < options.get("min_length", 0):
        for id in ends:
            y[id] = -INF
    if options.get("max_length") is not None and len(history) + 1 >= options["max_length"]:
        y = [0.0 if id in ends else -INF for id in range(len(y))]
    if options.get("forced_id", -1) >= 0:
        y = [0.0 if id == options["forced_id"] else -INF for id in range(len(y))]
    return np.array(y)


def softmax(y):
    e = np.exp(y - y.max())
    return e / e.sum()


def by_share(order, p, share):
    """The ids, in this order, that are needed to hold the share, and how clear the decision was."""
    before = np.concatenate([[0.0], np.cumsum(p[order])[:-1]])
    needed = int(np.sum(before < share))
    return max(needed, 1), np.abs(before - share).min()


def top_k(y, k):
    return y >= np.sort(y)[-min(k, len(y))], INF


def top_p(y, share):
    p = softmax(y)
    order = np.lexsort((-np.arange(len(y)), -y))  # by falling score, higher ids first among equals
    needed, clear = by_share(order, p, share)
    stays = np.zeros(len(y), bool)
    stays[order[:needed]] = True
    return stays, clear


def min_p(y, least):
    p = softmax(y)
    return p >= least * p.max(), np.abs(p / p.max() / least - 1).min()


def surprise(y):
    p = softmax(y)
    with np.errstate(divide="ignore"):
        return p, -np.log(p), -sum(q * np.log(q) for q in p if q > 0)


def typical_p(y, share):
    p, surprises, entropy = surprise(y)
    distance = np.abs(surprises - entropy)
    order = np.argsort(distance, kind="stable")
    needed, clear = by_share(order, p, share)
    gaps = np.abs(distance - distance[order[needed - 1]])
    gaps = gaps[gaps > 0]
    return distance <= distance[order[needed - 1]], min(clear, gaps.min(initial=INF))


def epsilon_cutoff(y, least):
    p = softmax(y)
    return (p >= least) | (y == y.max()), np.abs(p / least - 1).min()


def eta_cutoff(y, epsilon):
    entropy = surprise(y)[2]
    return epsilon_cutoff(y, min(epsilon, np.sqrt(epsilon) * np.exp(-entropy)))


FILTERS = {
    "top_k": top_k,
    "top_p": top_p,
    "min_p": min_p,
    "typical_p": typical_p,
    "epsilon_cutoff": epsilon_cutoff,
    "eta_cutoff": eta_cutoff,
}


def log_probabilities(logits, history=(), **options):
    """The log-probabilities to draw from, and how clear the least clear decision was."""
    y = edit(logits, history, **options)
    temperature = options.get("temperature", 1.0)
    clear = INF
    if temperature == 0:
        return np.where(np.arange(len(y)) == np.argmax(y), 0.0, -INF), clear
    y = y / temperature
    for name, keep in FILTERS.items():
        if name in options:
            stays, clarity = keep(y, options[name])
            y = np.where(stays, y, -INF)
            clear = min(clear, clarity)
    return y - y.max() - np.log(np.sum(np.exp(y - y.max()))), clear


def draw(log_probs, u):
    """The first id at which the cumulative probability exceeds u, and how near u was to another id's."""
    cumulative = np.cumsum(np.exp(log_probs))
    return int(np.argmax(cumulative > u)), np.abs(cumulative - u).min()
