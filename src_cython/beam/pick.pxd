"""Pick the best continuations of a lane.

A row was read once for its maxima and once for its sum; here only those columns of it are read again whose maximum can
still enter the lane's heap. The matrix of beams times V scores is never built.
"""

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t

from beam.state cimport IS_BANNED, IS_END, Live, Search, log_p, offer, offer_end
from common.heap cimport sort_best_first
from common.select cimport real

cdef extern from "beam/rows.h":
    enum: ROW_LANES
    enum: BEAM_CHUNK


cdef inline void ban(Search* search, Py_ssize_t i) noexcept nogil:
    if not search.mask[i] & IS_BANNED:
        search.mask[i] |= IS_BANNED
        search.marked[search.n_marked] = i
        search.n_marked += 1


cdef inline void ban_repeats(Search* search, const int64_t* ids) noexcept nogil:
    """Ban every id that followed an earlier copy of the last ngram - 1 ids."""
    cdef Py_ssize_t tail = search.ngram - 1, start, j
    for start in range(search.step - tail):
        for j in range(tail):
            if ids[start + j] != ids[search.step - tail + j]:
                break
        else:
            ban(search, ids[start + tail])


cdef inline void ban_phrases(Search* search, Py_ssize_t node) noexcept nogil:
    """Ban the last id of every phrase whose other ids are the last ones of this beam."""
    cdef Py_ssize_t phrase, j, at
    for phrase in range(search.n_phrases):
        at = node
        for j in range(search.ban_from[phrase + 1] - 2, search.ban_from[phrase] - 1, -1):
            if at < 0 or search.node_id[at] != search.ban_ids[j]:
                break
            at = search.node_parent[at]
        else:
            ban(search, search.ban_ids[search.ban_from[phrase + 1] - 1])


cdef inline void mark_bans(Search* search, Py_ssize_t lane, Py_ssize_t slot) noexcept nogil:
    """Set in ``mask`` what this beam may not choose now; ``clear_bans`` takes it back."""
    search.n_marked = 0
    ban_phrases(search, search.beams[lane * search.width + slot].node)
    if search.ngram and search.step >= search.ngram:
        ban_repeats(search, &search.history[(lane * search.width + slot) * search.history_room])


cdef inline void clear_bans(Search* search) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(search.n_marked):
        search.mask[search.marked[j]] &= ~IS_BANNED


cdef inline double scan_floor(Search* search, double shift) noexcept nogil:
    """A value of x no entry at or below which can enter the heap.

    Low by more than the rounding of a score, so that ties with the worst of the heap are still offered.
    """
    if search.n_candidates < search.room:
        return -INFINITY
    return search.candidates[0].score - shift - 1e-12 * (1.0 + fabs(search.candidates[0].score) + fabs(shift))


cdef inline void scan_row(
    Search* search, const real* x, const real* maxima, Py_ssize_t r, Py_ssize_t slot, double base
) noexcept nogil:
    """Offer the ids of one row, looking only into columns whose maximum can still enter the heap."""
    cdef Py_ssize_t column, i, stop
    cdef double score, lse = search.lse[r], floor = scan_floor(search, base - lse)
    for column in range(search.n_columns):
        if not maxima[column] > floor:
            continue
        i = column // ROW_LANES * BEAM_CHUNK + column % ROW_LANES
        stop = min(column // ROW_LANES * BEAM_CHUNK + BEAM_CHUNK, search.vocab)
        while i < stop:
            if x[i] > floor and not search.mask[i]:
                score = base + (<double>x[i] - lse) - search.penalty[i]
                if score > -INFINITY:
                    offer(search, score, slot, i)
                    floor = scan_floor(search, base - lse)
            i += ROW_LANES


cdef inline void pick_allowed(
    Search* search, Py_ssize_t r, Py_ssize_t slot, double base, bint may_end
) noexcept nogil:
    cdef Py_ssize_t j, i
    cdef double score
    for j in range(search.allow_from[r], search.allow_to[r]):
        i = search.allow_ids[j]
        score = base + log_p(search, r, i) - search.penalty[i]
        if search.mask[i] & IS_BANNED or not score > -INFINITY:
            continue
        if not search.mask[i] & IS_END:
            offer(search, score, slot, i)
        elif may_end:
            offer_end(search, score, slot, i)


cdef inline void pick(
    Search* search, Py_ssize_t lane, Py_ssize_t first, Py_ssize_t last, Py_ssize_t room
) noexcept nogil:
    """Fill ``candidates`` (ids that go on, the best ``room``) and ``end_candidates``, each best first.

    From the live beams first <= slot < last of the lane.
    """
    cdef Py_ssize_t slot, r, j
    cdef double base
    cdef bint may_end
    cdef const Live* live = search.beams + lane * search.width
    search.n_candidates, search.n_end_candidates, search.room = 0, 0, room
    for slot in range(first, last):
        r, base = live[slot].row, live[slot].total
        may_end = search.step >= search.min_length and (search.may_end == NULL or search.may_end[r])
        mark_bans(search, lane, slot)
        if search.allow_from != NULL and search.allow_from[r] >= 0:
            pick_allowed(search, r, slot, base, may_end)
        else:
            if search.wide:
                scan_row(search, (<const double*>search.data) + r * search.vocab,
                         (<const double*>search.maxima) + r * search.n_columns, r, slot, base)
            else:
                scan_row(search, (<const float*>search.data) + r * search.vocab,
                         (<const float*>search.maxima) + r * search.n_columns, r, slot, base)
            if may_end:
                for j in range(search.n_ends):
                    if not search.mask[search.ends[j]] & IS_BANNED:
                        offer_end(search, base + log_p(search, r, search.ends[j]), slot, search.ends[j])
        clear_bans(search)
    sort_best_first(search.candidates, search.n_candidates)
    sort_best_first(search.end_candidates, search.n_end_candidates)
