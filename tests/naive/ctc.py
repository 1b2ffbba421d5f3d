"""Textbook CTC in float64: brute force over all paths, dictionaries for beams, n-grams from the definition.

Imports nothing of ours, and is written to be read, not to be fast.
"""

import math
from collections import defaultdict
from itertools import product

import numpy as np


def collapse(path, blank=0):
    """Remove repeats, then blanks: the label string of a path."""
    kept = [label for place, label in enumerate(path) if place == 0 or label != path[place - 1]]
    return tuple(label for label in kept if label != blank)


def add_logs(a, b):
    if a == -math.inf:
        return b
    if b == -math.inf:
        return a
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def path_log_prob(log_probs, path):
    return sum(float(row[label]) for row, label in zip(log_probs, path, strict=True))


def all_strings(log_probs, blank=0):
    """Return {label string: log-probability summed over every one of the V^T paths}."""
    found = {}
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        string = collapse(path, blank)
        found[string] = add_logs(found.get(string, -math.inf), path_log_prob(log_probs, path))
    return found


def best_path(log_probs, ids, blank=0):
    """Return (log-probability, path) of the likeliest of all V^T paths that spell ``ids``; (-inf, None) if none."""
    best = (-math.inf, None)
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if collapse(path, blank) == tuple(ids):
            best = max(best, (path_log_prob(log_probs, path), path))
    return best


def pour(masses, place, amount):
    masses[place] = add_logs(masses[place], amount)


def no_bonus(prefix):
    """Score prefixes by their probability alone."""
    return 0.0


def prefix_beam(log_probs, width, blank=0, bonus=no_bonus, token_min=-math.inf, beam_min=-math.inf):
    """Prefix beam search (Hannun et al. 2014, algorithm 1) in the log domain.

    ``bonus(prefix)`` is the log weight of a prefix besides its probability; -inf forbids it. Returns [(prefix,
    log-probability, log-probability + bonus)], best first.
    """
    beam = {(): (0.0, -math.inf)}  # prefix: (ends in blank, ends in its last label)
    for row in np.asarray(log_probs, dtype=np.float64):
        after = defaultdict(lambda: [-math.inf, -math.inf])

        for prefix, (in_blank, in_label) in beam.items():
            total = add_logs(in_blank, in_label)
            for label, log_prob in enumerate(row):
                if log_prob == -math.inf or (log_prob < token_min and label != row.argmax()):
                    continue
                if label == blank:
                    pour(after[prefix], 0, total + log_prob)
                elif prefix and label == prefix[-1]:
                    pour(after[prefix], 1, in_label + log_prob)
                    pour(after[(*prefix, label)], 1, in_blank + log_prob)
                else:
                    pour(after[(*prefix, label)], 1, total + log_prob)
        scored = {prefix: add_logs(*masses) + bonus(prefix) for prefix, masses in after.items()}
        ranked = sorted((prefix for prefix in scored if scored[prefix] > -math.inf), key=lambda prefix: -scored[prefix])
        kept = [prefix for prefix in ranked if scored[prefix] >= scored[ranked[0]] + beam_min][:width]
        beam = {prefix: tuple(after[prefix]) for prefix in kept}
    found = [(prefix, add_logs(*masses), add_logs(*masses) + bonus(prefix)) for prefix, masses in beam.items()]
    return sorted(found, key=lambda entry: -entry[2])


def katz(ngrams, words, start=("<s>",)):
    """Return the log10 probability of each word by Katz back-off.

    ``ngrams`` maps tuples of words to (log10 probability, back-off weight); a word without a unigram is ``<unk>``, or
    -100 where there is none. Straight from the definition: p(w | h) = p(h w) if the model lists it, otherwise
    backoff(h) p(w | h without its oldest word).
    """

    def conditional(history, word):
        if (*history, word) in ngrams:
            return ngrams[(*history, word)][0]
        if not history:
            return -100.0
        return ngrams.get(history, (0.0, 0.0))[1] + conditional(history[1:], word)

    order = max(map(len, ngrams))
    history = tuple(word for word in start if (word,) in ngrams)
    scores = []
    for word in words:
        word = word if (word,) in ngrams else "<unk>"
        scores.append(conditional(history[max(0, len(history) - order + 1) :], word))
        history = (*history, word)
    return scores


def write_arpa(ngrams, comment=""):
    """Return the text of an ARPA file."""
    order = max(map(len, ngrams))
    lines = [comment] if comment else []
    lines.append("\\data\\")
    by_order = [[gram for gram in ngrams if len(gram) == n] for n in range(1, order + 1)]
    lines += [f"ngram {n}={len(grams)}" for n, grams in enumerate(by_order, 1)]
    for n, grams in enumerate(by_order, 1):
        lines += ["", f"\\{n}-grams:"]
        for gram in grams:
            weight, backoff = ngrams[gram]
            tail = f"\t{backoff!r}" if n < order and backoff else ""
            lines.append(f"{weight!r}\t{' '.join(gram)}{tail}")
    return "\n".join([*lines, "", "\\end\\", ""])


def random_ngrams(rng, vocabulary, order, per_order, closed=True):
    """Return a random model, not normalised: no scorer cares.

    ``closed`` lists every part of a listed n-gram too, as an unpruned model does; otherwise contexts are missing.
    """

    def weights():
        return (-round(float(rng.uniform(0.05, 3.0)), 4), -round(float(rng.uniform(0.0, 1.5)), 4))

    grams = {(word,) for word in vocabulary}
    for n in range(2, order + 1):
        for _ in range(per_order):
            first = ["<s>", *vocabulary][int(rng.integers(len(vocabulary) + 1))]
            middle = [vocabulary[int(i)] for i in rng.integers(len(vocabulary), size=n - 2)]
            last = [*vocabulary, "</s>"][int(rng.integers(len(vocabulary) + 1))]
            gram = (first, *middle, last)
            grams.add(gram)
            if closed:
                grams |= {gram[i:j] for i in range(n) for j in range(i + 1, n + 1)}
    ngrams = {("<unk>",): weights(), ("<s>",): (-99.0, weights()[1]), ("</s>",): weights()}
    for gram in sorted(grams, key=lambda gram: (len(gram), gram)):
        ngrams.setdefault(gram, weights())
    return ngrams
