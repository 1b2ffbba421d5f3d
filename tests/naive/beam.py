"""Beam search as a textbook would write it: float64, lists and loops, one sequence. Imports nothing of ours.

``next_logits(ids)`` gives the logits after the tuple ``ids``; ``next_attention(ids)`` the attention that came with
them. Options bear the names of the library's. A hypothesis is a tuple (ids with its end id, score, logprob, finished).
"""

import math
from itertools import product


class NothingLeft(Exception):
    """No hypothesis satisfies the constraints."""


def log_softmax(logits):
    top = max(logits)
    if top == -math.inf:
        return [-math.inf] * len(logits)
    total = math.fsum(math.exp(x - top) for x in logits)
    return [x - top - math.log(total) for x in logits]


def rank_score(total, length, alpha, power):
    return total / (length**alpha if power else ((5 + length) / 6) ** alpha)


def contains(ids, phrase):
    return any(ids[k : k + len(phrase)] == phrase for k in range(len(ids) - len(phrase) + 1))


def matched(ids, phrase):
    """How many ids of the phrase are in place: all if it occurs, else the longest prefix that ends ``ids``."""
    if contains(ids, phrase):
        return len(phrase)
    return max(n for n in range(len(phrase)) if n == 0 or ids[-n:] == phrase[:n])


def permitted(ids, v, *, ends=(), min_length=0, ngram=0, prefix=(), banned=(), required=(), allowed=None):
    longer = (*ids, v)
    if v in ends and (len(ids) < min_length or not all(contains(ids, phrase) for phrase in required)):
        return False
    if ngram and contains(longer[:-1], longer[-ngram:]) and len(longer) > ngram:
        return False
    if len(ids) < len(prefix):
        if v != prefix[len(ids)]:
            return False
    elif allowed is not None and v not in allowed(ids):
        return False
    return not any(longer[-len(phrase) :] == phrase for phrase in banned)


def beam_search(
    next_logits, *, width, max_length, ends=(), alpha=0.0, power=False, stopping=False, beta=0.0, next_attention=None,
    groups=1, diversity=0.0, normalized=False, required=(), **rules,
):  # fmt: skip
    width //= groups
    rules.update(ends=ends, required=required)

    def coverage(ids):
        """The penalty of a hypothesis whose ids were chosen with the attention of every prefix of ``ids``."""
        if not beta:
            return 0.0
        rows = [next_attention(ids[:k]) for k in range(len(ids))]
        return beta * sum(math.log(min(max(sum(column), 1e-9), 1.0)) for column in zip(*rows, strict=True))

    live = [[((), 0.0, 0.0)] for _ in range(groups)]  # (ids, total with penalties, logprob), best first
    finished = [[] for _ in range(groups)]
    done = [False] * groups
    for t in range(max_length):
        chosen_before = []
        for g in range(groups):
            if done[g]:
                continue
            go_on, end = [], []  # (-score, parent, id, logprob)
            for parent, (ids, total, logprob) in enumerate(live[g]):
                logits = next_logits(ids)
                for v, log_p in enumerate(logits if normalized else log_softmax(logits)):
                    if log_p == -math.inf or not permitted(ids, v, **rules):
                        continue
                    cost = 0.0 if v in ends else diversity * chosen_before.count(v)
                    (end if v in ends else go_on).append((-(total + log_p - cost), parent, v, logprob + log_p))
            go_on.sort()
            if required:
                go_on, contest = share_beam(go_on, end, [ids for ids, _, _ in live[g]], required, width)
            else:
                contest = sorted(go_on + end)[:width]
                go_on = go_on[:width]
            for cost, parent, v, logprob in (c for c in contest if c in end):
                ids = (*live[g][parent][0], v)
                score = rank_score(-cost, t + 1, alpha, power) + coverage(ids)
                finished[g].append((ids, score, logprob, True))
            finished[g] = sorted(finished[g], key=lambda h: -h[1])[:width]
            live[g] = [((*live[g][parent][0], v), -cost, logprob) for cost, parent, v, logprob in go_on]
            if not live[g]:
                done[g] = True
            elif len(finished[g]) == width and t + 1 < max_length:
                longest = max_length if stopping == "never" and alpha > 0 else t + 1
                attainable = rank_score(live[g][0][1], longest, alpha, power)
                done[g] = stopping is True or attainable <= finished[g][-1][1]
            if done[g]:
                live[g] = []
            chosen_before += [ids[-1] for ids, _, _ in live[g]]
        if not any(live) and not any(finished):
            raise NothingLeft
    for g in range(groups):
        for ids, total, logprob in live[g]:
            if all(contains(ids, phrase) for phrase in required):
                finished[g].append((ids, rank_score(total, max_length, alpha, power) + coverage(ids), logprob, False))
        finished[g] = sorted(finished[g], key=lambda h: -h[1])[:width]
    if not any(finished):
        raise NothingLeft
    unique = {}
    for hypothesis in sorted((h for group in finished for h in group), key=lambda h: -h[1]):
        unique.setdefault((hypothesis[0], hypothesis[3]), hypothesis)
    return list(unique.values())


def share_beam(go_on, end, parents, required, width):
    """Dynamic beam allocation: the next beam, and the complete candidates an end id competes with."""

    def bank(candidate):
        ids = (*parents[candidate[1]], candidate[2])
        return sum(matched(ids, phrase) for phrase in required)

    pool = set(go_on[:width])
    for parent, ids in enumerate(parents):
        own = [c for c in go_on if c[1] == parent]
        pool.update(own[:1])
        wanted = {phrase[matched(ids, phrase)] for phrase in required if not contains(ids, phrase)}
        pool.update(c for c in own if c[2] in wanted)
    whole = sum(map(len, required))
    banks = [sorted(c for c in pool if bank(c) == level) for level in range(whole, -1, -1)]
    taken = [row[turn] for turn in range(len(pool)) for row in banks if turn < len(row)][:width]
    return sorted(taken), sorted(banks[0] + end)[:width]


def exhaustive(next_logits, vocab, *, max_length, ends=(), alpha=0.0, power=False, required=(), **rules):
    """Every permitted sequence, scored, best first."""
    rules.update(ends=ends, required=required)
    found = []
    for length in range(1, max_length + 1):
        for ids in product(range(vocab), repeat=length):
            if any(v in ends for v in ids[:-1]) or (length < max_length and ids[-1] not in ends):
                continue
            if not all(permitted(ids[:k], ids[k], **rules) for k in range(length)):
                continue
            if ids[-1] not in ends and not all(contains(ids, phrase) for phrase in required):
                continue
            logprob = sum(log_softmax(next_logits(ids[:k]))[ids[k]] for k in range(length))
            if logprob > -math.inf:
                found.append((ids, rank_score(logprob, length, alpha, power), logprob, ids[-1] in ends))
    return sorted(found, key=lambda h: -h[1])


def greedy(next_logits, *, max_length, ends=()):
    ids, logprob = (), 0.0
    while len(ids) < max_length and not (ids and ids[-1] in ends):
        log_p = log_softmax(next_logits(ids))
        best = log_p.index(max(log_p))
        ids, logprob = (*ids, best), logprob + log_p[best]
    return ids, logprob
