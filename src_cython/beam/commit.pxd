"""Commit what was picked for a lane: ends against continuations, the finished list, the stopping rule, diversity."""

from libc.math cimport pow
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from beam.state cimport Ended, Live, Search, log_p
from common.heap cimport Candidate, better


cdef inline double rank_score(const Search* search, double total, double bonus, Py_ssize_t length) noexcept nogil:
    """total / lp(length) + bonus, with lp = ((5 + length) / 6)^alpha (Wu et al. 2016, eq. 14) or length^alpha."""
    if search.alpha == 0.0:
        return total + bonus
    if search.power_length:
        return total / pow(<double>length, search.alpha) + bonus
    return total / pow((5.0 + length) / 6.0, search.alpha) + bonus


cdef inline void finish(
    Search* search, Py_ssize_t lane, double score, double logprob, int64_t node, int64_t end
) noexcept nogil:
    """Keep the best ``width`` finished hypotheses; among equals, those that came first."""
    cdef Ended* ended = search.ended + lane * search.width
    cdef Py_ssize_t at = search.n_ended[lane]
    if at == search.width:
        at -= 1
        if not score > ended[at].score:
            return
    search.n_ended[lane] = at + 1
    while at > 0 and score > ended[at - 1].score:
        ended[at] = ended[at - 1]
        at -= 1
    ended[at].score, ended[at].logprob, ended[at].node, ended[at].id = score, logprob, node, end


cdef inline bint should_stop(const Search* search, Py_ssize_t lane, Py_ssize_t length) noexcept nogil:
    """The stopping rule, once ``width`` hypotheses are finished (early_stopping False, True, "never").

    At the last step it does not apply: what is cut off there has the same claim as what ends there.
    """
    if search.n_ended[lane] < search.width or length == search.max_length:
        return False
    if search.stopping == 1:
        return True
    # No live beam ends above its total, divided by the kindest length penalty: a long one where alpha > 0.
    if search.stopping == 2 and search.alpha > 0.0:
        length = search.max_length
    return (rank_score(search, search.beams[lane * search.width].total, 0.0, length)
            <= search.ended[(lane + 1) * search.width - 1].score)


cdef inline void commit(Search* search, Py_ssize_t lane, bint every_end) noexcept nogil:
    """Ends that rank among the best ``width`` of all candidates finish; the best others live on."""
    cdef Py_ssize_t c = 0, e = 0, rank = 0, first = lane * search.width
    cdef const Candidate* take
    cdef const Live* parent
    cdef Live* new
    cdef double bonus
    while c < search.n_candidates or e < search.n_end_candidates:
        if e < search.n_end_candidates and (
            c == search.n_candidates or better(&search.end_candidates[e], &search.candidates[c])
        ):
            take = &search.end_candidates[e]
            parent = &search.beams[first + take.slot]
            bonus = search.bonus[parent.row] if search.bonus != NULL else 0.0
            if rank < search.width or every_end:
                finish(search, lane, rank_score(search, take.score, bonus, search.step + 1),
                       parent.logprob + log_p(search, parent.row, take.id), parent.node, take.id)
            e += 1
        else:
            take = &search.candidates[c]
            parent = &search.beams[first + take.slot]
            new = &search.following[c]
            new.total = take.score
            new.logprob = parent.logprob + log_p(search, parent.row, take.id)
            new.bonus = search.bonus[parent.row] if search.bonus != NULL else 0.0
            new.row = new.parent = parent.row
            new.node = search.n_nodes
            search.node_parent[search.n_nodes], search.node_id[search.n_nodes] = parent.node, take.id
            search.n_nodes += 1
            if search.ngram:
                memcpy(search.next_history + (first + c) * search.history_room,
                       search.history + (first + take.slot) * search.history_room, search.step * sizeof(int64_t))
                search.next_history[(first + c) * search.history_room + search.step] = take.id
            c += 1
        rank += 1
    memcpy(search.beams + first, search.following, search.n_candidates * sizeof(Live))
    search.n_live[lane] = search.n_candidates
    if search.n_candidates == 0 or should_stop(search, lane, search.step + 1):
        search.done[lane], search.n_live[lane] = True, 0


cdef inline void charge(Search* search, Py_ssize_t lane) noexcept nogil:
    """Diverse groups: what this lane chose costs the later groups of its sequence ``diversity`` each.

    To be called for every lane, done or not, in order: the last group of a sequence wipes the slate.
    """
    cdef Py_ssize_t c, other
    if search.groups == 1:
        return
    if (lane + 1) % search.groups:
        for c in range(search.n_live[lane]):
            search.penalty[search.node_id[search.beams[lane * search.width + c].node]] += search.diversity
    else:
        for other in range(lane + 1 - search.groups, lane):
            for c in range(search.n_live[other]):
                search.penalty[search.node_id[search.beams[other * search.width + c].node]] = 0.0
