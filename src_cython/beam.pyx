"""The core of beam search: from one matrix of logits to the next set of live beams, without the GIL.

Words: a *lane* is one independent beam (a sequence, or one group of a sequence in diverse beam search) of at
most ``width`` live beams; a *row* is a row of the logits the step function returned. Except at the first step,
where all lanes of a sequence share its one row, row ``r`` belongs to exactly one live beam. A *node* is a chosen
id with a link to the node before it; a hypothesis is read back from its last node.

One step is ``measure`` (log-sum-exp of each row), then for each lane ``pick`` (the best continuations) and
``commit`` (ends against continuations, finished list, stopping rule), then ``collect`` (the next batch).
``advance`` does all four. The V-wide score matrix is never built: a row is read once for its maximum, once for
its sum, and then only those columns of it are read again whose maximum can still enter the lane's heap.

Invariants
- live beams of a lane are sorted best first, and rows of the next batch follow lanes, then rank;
- candidates are totally ordered (higher score, then lower parent, then lower id), so what is kept does not depend on
  the order in which a row is scanned;
- totals are finite: a candidate of probability zero is never taken.
"""

cimport cython
from libc.math cimport INFINITY, fabs, log, pow
from libc.stdint cimport int64_t, uint8_t

from _select cimport real
from beam_heap cimport Candidate, better, sift_down, sift_up, sort_best_first

import numpy as np

cdef extern from "_beam_rows.h":
    enum: ROW_LANES
    enum: BEAM_CHUNK
    float row_column_maxima_f32(const float* x, Py_ssize_t n, float* maxima, int* nan) noexcept nogil
    double row_column_maxima_f64(const double* x, Py_ssize_t n, double* maxima, int* nan) noexcept nogil
    double row_long_exp_sum_f32(const float* x, Py_ssize_t n, float top) noexcept nogil
    double row_long_exp_sum_f64(const double* x, Py_ssize_t n, double top) noexcept nogil

cdef enum:
    IS_END = 1       # bits of BeamCore.mask
    IS_BANNED = 2

cpdef enum Fault:
    FINE = 0
    NOT_A_NUMBER = 1
    PLUS_INFINITY = 2
    ABOVE_ONE = 3    # log-probabilities were promised, a row holds one above 0


# ---------------------------------------------------------------- rows

cdef Fault measure_row(const real* x, Py_ssize_t n, bint normalized, real* maxima, double* lse) noexcept nogil:
    """Column maxima (see ``_beam_rows.h``), and log sum_i e**x_i (0 where x is ``normalized`` already)."""
    cdef int nan = 0
    cdef real top
    if real is float:
        top = row_column_maxima_f32(x, n, maxima, &nan)
    else:
        top = row_column_maxima_f64(x, n, maxima, &nan)
    if nan:
        return Fault.NOT_A_NUMBER
    if top == <real>INFINITY:
        return Fault.PLUS_INFINITY
    lse[0] = 0.0
    if normalized:
        return Fault.ABOVE_ONE if top > 1e-3 else Fault.FINE      # a little above 0 is rounding
    if top > <real>-INFINITY:                                     # else a dead end: every entry stays -inf
        if real is float:
            lse[0] = top + log(row_long_exp_sum_f32(x, n, top))
        else:
            lse[0] = top + log(row_long_exp_sum_f64(x, n, top))
    return Fault.FINE


# ---------------------------------------------------------------- lanes

@cython.final
cdef class BeamCore:
    """All lanes of one search.

    Parameters
    ----------
    sequences, vocab : int
        Number of sequences and of ids.
    plan : object
        Checked options as attributes: ``width`` (of a lane), ``groups``, ``max_length``, ``min_length``,
        ``ends`` (sorted distinct ids), ``length_penalty``, ``power_length`` (bool), ``stopping`` (0, 1 or 2 for
        False, True, "never"), ``diversity``, ``ngram``, ``banned`` (tuple of id tuples), ``normalized`` (bool).
        Every id lies in ``[0, vocab)``: nothing is checked here.

    A caller that passes a matrix of another width than ``vocab`` or another height than ``rows`` reads past memory:
    the Python face checks both.
    """

    cdef readonly Py_ssize_t lanes, groups, width, vocab, step, rows
    cdef Py_ssize_t max_length, min_length, ngram, n_ends, n_candidates, n_end_candidates, n_nodes, n_columns, room
    cdef double alpha, diversity
    cdef bint power_length, normalized
    cdef int stopping
    # live beams: (lanes, width)
    cdef int64_t[::1] live                  # (lanes,) how many
    cdef uint8_t[::1] done                  # (lanes,)
    cdef double[:, ::1] total, logprob, bonus
    cdef int64_t[:, ::1] row, node
    # finished: (lanes, width), best first
    cdef int64_t[::1] n_finished
    cdef double[:, ::1] end_score, end_logprob
    cdef int64_t[:, ::1] end_node, end_id    # end_id -1: cut off
    # the next live beams of the lane at hand: (width,)
    cdef double[::1] next_total, next_logprob, next_bonus
    cdef int64_t[::1] next_parent, next_node
    cdef int64_t[:, ::1] parent_row          # (lanes, width), row of the parent in the matrix just used
    # trace
    cdef int64_t[::1] node_parent, node_id
    # rows of the matrix at hand
    cdef object matrix
    cdef const void* data
    cdef void* maxima
    cdef object maxima_store
    cdef bint wide                           # float64 rows
    cdef double[::1] row_lse
    cdef int64_t[::1] row_lane, row_slot
    cdef const uint8_t[::1] row_may_end
    cdef const double[::1] row_bonus
    cdef const int64_t[::1] allow_from, allow_to, allow_ids
    cdef bint has_may_end, has_bonus, has_allowed
    # ids
    cdef int64_t[::1] ends, marked
    cdef Py_ssize_t n_marked
    cdef uint8_t[::1] mask                   # (vocab,) IS_END | IS_BANNED
    cdef double[::1] penalty                 # (vocab,) what earlier groups' choices cost
    cdef int64_t[::1] ban_from, ban_ids      # banned phrases, one after the other
    cdef int64_t[:, ::1] history, next_history
    cdef Candidate[::1] candidates, end_candidates

    def __init__(self, Py_ssize_t sequences, Py_ssize_t vocab, plan):
        cdef Py_ssize_t i
        self.groups, self.width, self.vocab = plan.groups, plan.width, vocab
        self.lanes, self.rows, self.step = sequences * self.groups, sequences, 0
        self.max_length, self.min_length, self.ngram = plan.max_length, plan.min_length, plan.ngram
        self.alpha, self.power_length = plan.length_penalty, plan.power_length
        self.stopping, self.diversity, self.normalized = plan.stopping, plan.diversity, plan.normalized
        lanes, width = self.lanes, self.width

        self.live, self.done = np.ones(lanes, np.int64), np.zeros(lanes, np.uint8)
        self.total, self.logprob, self.bonus = (np.zeros((lanes, width)) for _ in range(3))
        self.node = np.full((lanes, width), -1, np.int64)
        self.row = np.zeros((lanes, width), np.int64)
        for i in range(lanes):
            self.row[i, 0] = i // self.groups
        self.parent_row = np.zeros((lanes, width), np.int64)
        self.n_finished = np.zeros(lanes, np.int64)
        self.end_score, self.end_logprob = np.empty((lanes, width)), np.empty((lanes, width))
        self.end_node, self.end_id = np.empty((lanes, width), np.int64), np.empty((lanes, width), np.int64)
        self.next_total, self.next_logprob, self.next_bonus = (np.empty(width) for _ in range(3))
        self.next_parent, self.next_node = np.empty(width, np.int64), np.empty(width, np.int64)
        self.n_nodes, self.node_parent, self.node_id = 0, np.empty(0, np.int64), np.empty(0, np.int64)

        self.n_columns = (vocab + BEAM_CHUNK - 1) // BEAM_CHUNK * ROW_LANES
        self.row_lane, self.row_slot = np.arange(sequences) * self.groups, np.zeros(sequences, np.int64)
        self.ends, self.n_ends = np.array(plan.ends, np.int64), len(plan.ends)
        self.mask = np.zeros(vocab, np.uint8)
        for i in range(self.n_ends):
            self.mask[self.ends[i]] |= IS_END
        self.marked, self.penalty = np.empty(vocab, np.int64), np.zeros(vocab)
        self.ban_from = np.cumsum([0, *map(len, plan.banned)], dtype=np.int64)
        self.ban_ids = np.array([i for phrase in plan.banned for i in phrase], np.int64)
        self.history = self.next_history = np.empty((lanes * width if self.ngram else 0, 0), np.int64)
        self.candidates = np.empty(width, CANDIDATE)
        self.end_candidates = np.empty(width * max(1, self.n_ends), CANDIDATE)

    # ------------------------------------------------------------ 1. measure

    def measure(self, const real[:, ::1] logits, may_end=None, bonus=None, allowed=None):
        """Take the step's matrix in: log-sum-exp of each row, and room for what the step will add.

        Parameters
        ----------
        logits : (rows, vocab) float32 or float64, C-contiguous
            Kept until the next call, not written.
        may_end : (rows,) uint8, optional
            Zero where a beam must go on.
        bonus : (rows,) float64, optional
            Added to the score of what ends after this step (coverage penalty).
        allowed : (from, to, ids) of int64, optional
            Row r may choose only among the ascending distinct ``ids[from[r]:to[r]]``; ``from[r] < 0``: no limit.

        Returns
        -------
        (Fault, int)
            And the row it was found in.
        """
        cdef Py_ssize_t r, bad_row = 0
        cdef Fault fault = Fault.FINE
        cdef real[:, ::1] maxima
        self.matrix = logits.base if logits.base is not None else logits
        self.data, self.wide = &logits[0, 0], real is double
        dtype = np.float64 if real is double else np.float32
        if self.maxima_store is None or self.maxima_store.dtype != dtype or len(self.maxima_store) < self.rows:
            self.maxima_store = np.empty((self.rows, self.n_columns), dtype)
            self.row_lse = np.zeros(self.rows)
        maxima = self.maxima_store
        self.maxima = &maxima[0, 0]
        self.has_may_end, self.has_bonus, self.has_allowed = (x is not None for x in (may_end, bonus, allowed))
        if self.has_may_end:
            self.row_may_end = may_end
        if self.has_bonus:
            self.row_bonus = bonus
        if self.has_allowed:
            self.allow_from, self.allow_to, self.allow_ids = allowed
        self._make_room()
        with nogil:
            for r in range(self.rows):
                fault = measure_row(&logits[r, 0], self.vocab, self.normalized, &maxima[r, 0], &self.row_lse[r])
                if fault != Fault.FINE:
                    bad_row = r
                    break
        return fault, bad_row

    cdef _make_room(self):
        """Grow trace and history, by doubling, to what one step can add."""
        cdef Py_ssize_t need = self.n_nodes + self.lanes * self.width
        if self.node_id.shape[0] < need:
            self.node_id = _grown(np.asarray(self.node_id), self.n_nodes, 2 * need)
            self.node_parent = _grown(np.asarray(self.node_parent), self.n_nodes, 2 * need)
        if self.ngram and self.history.shape[1] <= self.step:
            new = np.empty((self.lanes * self.width, 2 * self.step + 16), np.int64)
            new[:, : self.step] = self.history[:, : self.step]
            self.history, self.next_history = new, np.empty_like(new)

    # ------------------------------------------------------------ 2. pick

    cdef inline double log_p(self, Py_ssize_t r, Py_ssize_t i) noexcept nogil:
        if self.wide:
            return (<const double*>self.data)[r * self.vocab + i] - self.row_lse[r]
        return <double>(<const float*>self.data)[r * self.vocab + i] - self.row_lse[r]

    cdef inline void offer(self, double score, Py_ssize_t slot, Py_ssize_t i) noexcept nogil:
        """Put a candidate into the heap of the lane if it is among the best ``width`` so far."""
        cdef Candidate candidate
        candidate.score, candidate.slot, candidate.id = score, slot, i
        if self.n_candidates < self.room:
            self.candidates[self.n_candidates] = candidate
            sift_up(&self.candidates[0], self.n_candidates)
            self.n_candidates += 1
        elif better(&candidate, &self.candidates[0]):
            self.candidates[0] = candidate
            sift_down(&self.candidates[0], self.n_candidates, 0)

    cdef inline void offer_end(self, double score, Py_ssize_t slot, Py_ssize_t i) noexcept nogil:
        if score > -INFINITY:
            self.end_candidates[self.n_end_candidates].score = score
            self.end_candidates[self.n_end_candidates].slot = slot
            self.end_candidates[self.n_end_candidates].id = i
            self.n_end_candidates += 1

    cdef void ban(self, Py_ssize_t i) noexcept nogil:
        if not self.mask[i] & IS_BANNED:
            self.mask[i] |= IS_BANNED
            self.marked[self.n_marked] = i
            self.n_marked += 1

    cdef void ban_repeats(self, const int64_t* ids) noexcept nogil:
        """Ban every id that followed an earlier copy of the last ngram - 1 ids."""
        cdef Py_ssize_t tail = self.ngram - 1, start, j
        for start in range(self.step - tail):
            for j in range(tail):
                if ids[start + j] != ids[self.step - tail + j]:
                    break
            else:
                self.ban(ids[start + tail])

    cdef void ban_phrases(self, Py_ssize_t node) noexcept nogil:
        """Ban the last id of every phrase whose other ids are the last ones of this beam."""
        cdef Py_ssize_t phrase, j, at
        for phrase in range(self.ban_from.shape[0] - 1):
            at = node
            for j in range(self.ban_from[phrase + 1] - 2, self.ban_from[phrase] - 1, -1):
                if at < 0 or self.node_id[at] != self.ban_ids[j]:
                    break
                at = self.node_parent[at]
            else:
                self.ban(self.ban_ids[self.ban_from[phrase + 1] - 1])

    cdef void mark_bans(self, Py_ssize_t lane, Py_ssize_t slot) noexcept nogil:
        """Set in ``mask`` what this beam may not choose now; ``clear_bans`` takes it back."""
        self.n_marked = 0
        self.ban_phrases(self.node[lane, slot])
        if self.ngram and self.step >= self.ngram:
            self.ban_repeats(&self.history[lane * self.width + slot, 0])

    cdef void clear_bans(self) noexcept nogil:
        cdef Py_ssize_t j
        for j in range(self.n_marked):
            self.mask[self.marked[j]] &= ~IS_BANNED

    cdef void pick(self, Py_ssize_t lane, Py_ssize_t first, Py_ssize_t last, Py_ssize_t room) noexcept nogil:
        """Fill ``candidates`` (ids that go on, the best ``room``) and ``end_candidates``, each best first.

        From the live beams first <= slot < last of the lane.
        """
        cdef Py_ssize_t slot, r, j
        cdef double base
        cdef bint may_end
        self.n_candidates, self.n_end_candidates, self.room = 0, 0, room
        for slot in range(first, last):
            r, base = self.row[lane, slot], self.total[lane, slot]
            may_end = self.step >= self.min_length and (not self.has_may_end or self.row_may_end[r])
            self.mark_bans(lane, slot)
            if self.has_allowed and self.allow_from[r] >= 0:
                self.pick_allowed(r, slot, base, may_end)
            else:
                if self.wide:
                    scan_row(self, (<const double*>self.data) + r * self.vocab,
                             (<const double*>self.maxima) + r * self.n_columns, r, slot, base)
                else:
                    scan_row(self, (<const float*>self.data) + r * self.vocab,
                             (<const float*>self.maxima) + r * self.n_columns, r, slot, base)
                if may_end:
                    for j in range(self.n_ends):
                        if not self.mask[self.ends[j]] & IS_BANNED:
                            self.offer_end(base + self.log_p(r, self.ends[j]), slot, self.ends[j])
            self.clear_bans()
        sort_best_first(&self.candidates[0], self.n_candidates)
        sort_best_first(&self.end_candidates[0], self.n_end_candidates)

    cdef void pick_allowed(self, Py_ssize_t r, Py_ssize_t slot, double base, bint may_end) noexcept nogil:
        cdef Py_ssize_t j, i
        cdef double score
        for j in range(self.allow_from[r], self.allow_to[r]):
            i = self.allow_ids[j]
            score = base + self.log_p(r, i) - self.penalty[i]
            if self.mask[i] & IS_BANNED or not score > -INFINITY:
                continue
            if not self.mask[i] & IS_END:
                self.offer(score, slot, i)
            elif may_end:
                self.offer_end(score, slot, i)

    # ------------------------------------------------------------ 3. commit

    cdef double rank_score(self, double total, double bonus, Py_ssize_t length) noexcept nogil:
        """total / lp(length) + bonus, with lp = ((5 + length) / 6)^alpha (Wu et al. 2016, eq. 14) or length^alpha."""
        if self.alpha == 0.0:
            return total + bonus
        if self.power_length:
            return total / pow(<double>length, self.alpha) + bonus
        return total / pow((5.0 + length) / 6.0, self.alpha) + bonus

    cdef void finish(self, Py_ssize_t lane, double score, double logprob, int64_t node, int64_t end) noexcept nogil:
        """Keep the best ``width`` finished hypotheses; among equals, those that came first."""
        cdef Py_ssize_t n = self.n_finished[lane], at
        if n == self.width:
            if not score > self.end_score[lane, n - 1]:
                return
            n -= 1
        at = n
        while at > 0 and score > self.end_score[lane, at - 1]:
            self.end_score[lane, at] = self.end_score[lane, at - 1]
            self.end_logprob[lane, at] = self.end_logprob[lane, at - 1]
            self.end_node[lane, at] = self.end_node[lane, at - 1]
            self.end_id[lane, at] = self.end_id[lane, at - 1]
            at -= 1
        self.end_score[lane, at], self.end_logprob[lane, at] = score, logprob
        self.end_node[lane, at], self.end_id[lane, at] = node, end
        self.n_finished[lane] = n + 1

    cdef void commit(self, Py_ssize_t lane, bint every_end) noexcept nogil:
        """Ends that rank among the best ``width`` of all candidates finish; the best others live on."""
        cdef Py_ssize_t c = 0, e = 0, rank = 0, slot, r, t
        cdef Candidate* take
        cdef double bonus
        while c < self.n_candidates or e < self.n_end_candidates:
            if e < self.n_end_candidates and (
                c == self.n_candidates or better(&self.end_candidates[e], &self.candidates[c])
            ):
                take = &self.end_candidates[e]
                slot = take.slot
                r = self.row[lane, slot]
                bonus = self.row_bonus[r] if self.has_bonus else 0.0
                if rank < self.width or every_end:
                    self.finish(lane, self.rank_score(take.score, bonus, self.step + 1),
                                self.logprob[lane, slot] + self.log_p(r, take.id), self.node[lane, slot], take.id)
                e += 1
            else:
                take = &self.candidates[c]
                slot = take.slot
                r = self.row[lane, slot]
                self.next_total[c] = take.score
                self.next_logprob[c] = self.logprob[lane, slot] + self.log_p(r, take.id)
                self.next_bonus[c] = self.row_bonus[r] if self.has_bonus else 0.0
                self.next_parent[c] = r
                self.next_node[c] = self.n_nodes
                self.node_parent[self.n_nodes], self.node_id[self.n_nodes] = self.node[lane, slot], take.id
                self.n_nodes += 1
                if self.ngram:
                    for t in range(self.step):
                        self.next_history[lane * self.width + c, t] = self.history[lane * self.width + slot, t]
                    self.next_history[lane * self.width + c, self.step] = take.id
                c += 1
            rank += 1
        for c in range(self.n_candidates):
            self.total[lane, c], self.logprob[lane, c] = self.next_total[c], self.next_logprob[c]
            self.bonus[lane, c], self.node[lane, c] = self.next_bonus[c], self.next_node[c]
            self.parent_row[lane, c] = self.next_parent[c]
        self.live[lane] = self.n_candidates
        if self.n_candidates == 0 or self.should_stop(lane, self.step + 1):
            self.done[lane], self.live[lane] = True, 0

    cdef bint should_stop(self, Py_ssize_t lane, Py_ssize_t length) noexcept nogil:
        """The stopping rule, once ``width`` hypotheses are finished (early_stopping False, True, "never").

        At the last step it does not apply: what is cut off there has the same claim as what ends there.
        """
        if self.n_finished[lane] < self.width or length == self.max_length:
            return False
        if self.stopping == 1:
            return True
        # No live beam ends above its total, divided by the kindest length penalty: a long one where alpha > 0.
        if self.stopping == 2 and self.alpha > 0.0:
            length = self.max_length
        return self.rank_score(self.total[lane, 0], 0.0, length) <= self.end_score[lane, self.width - 1]

    cpdef void charge(self, Py_ssize_t lane) noexcept nogil:
        """Diverse groups: what this lane chose costs the later groups of its sequence ``diversity`` each.

        To be called for every lane, done or not, in order: the last group of a sequence wipes the slate.
        """
        cdef Py_ssize_t c, other
        if self.groups == 1:
            return
        if (lane + 1) % self.groups:
            for c in range(self.live[lane]):
                self.penalty[self.node_id[self.node[lane, c]]] += self.diversity
        else:
            for other in range(lane + 1 - self.groups, lane):
                for c in range(self.live[other]):
                    self.penalty[self.node_id[self.node[other, c]]] = 0.0

    # ------------------------------------------------------------ 4. collect

    def collect(self):
        """Number the live beams as the rows of the next batch.

        Returns
        -------
        tokens, parents : (rows,) int64
            The id each live beam chose last, and the row of the matrix just used that it came from.
        """
        cdef Py_ssize_t lane, slot, r = 0
        self.rows = 0
        for lane in range(self.lanes):
            self.rows += self.live[lane]
        tokens, parents = np.empty(self.rows, np.int64), np.empty(self.rows, np.int64)
        cdef int64_t[::1] token_view = tokens, parent_view = parents
        self.row_lane, self.row_slot = np.empty(self.rows, np.int64), np.empty(self.rows, np.int64)
        with nogil:
            for lane in range(self.lanes):
                for slot in range(self.live[lane]):
                    token_view[r] = self.node_id[self.node[lane, slot]]
                    parent_view[r] = self.parent_row[lane, slot]
                    self.row[lane, slot], self.row_lane[r], self.row_slot[r] = r, lane, slot
                    r += 1
            self.step += 1
            self.history, self.next_history = self.next_history, self.history
        return tokens, parents

    def advance(self):
        """Pick and commit every lane that is not done, then collect."""
        cdef Py_ssize_t lane
        with nogil:
            for lane in range(self.lanes):
                if not self.done[lane]:
                    self.pick(lane, 0, self.live[lane], self.width)
                    self.commit(lane, False)
                self.charge(lane)
        return self.collect()

    # ------------------------------------------------------------ a lane at a time, for searches that choose themselves

    def candidates_of(self, Py_ssize_t lane):
        """``(continuing, ending)``: lists of (score, slot, id), each best first, at most ``width`` continuing."""
        with nogil:
            self.pick(lane, 0, self.live[lane], self.width)
        return (_listed(self.candidates, self.n_candidates), _listed(self.end_candidates, self.n_end_candidates))

    def best_of_slot(self, Py_ssize_t lane, Py_ssize_t slot):
        """The best continuing candidate (score, slot, id) of one live beam; None at a dead end."""
        with nogil:
            self.pick(lane, slot, slot + 1, 1)
        return (self.candidates[0].score, slot, self.candidates[0].id) if self.n_candidates else None

    def score_of(self, Py_ssize_t lane, Py_ssize_t slot, Py_ssize_t i):
        """Score of one continuing candidate; -inf where it is an end or not permitted."""
        cdef Py_ssize_t r = self.row[lane, slot], j
        cdef bint permitted
        self.mark_bans(lane, slot)
        permitted = not self.mask[i]
        self.clear_bans()
        if self.has_allowed and self.allow_from[r] >= 0:
            permitted = permitted and i in self.allow_ids[self.allow_from[r] : self.allow_to[r]]
        return self.total[lane, slot] + self.log_p(r, i) - self.penalty[i] if permitted else -INFINITY

    def slots_of(self, Py_ssize_t lane):
        """Rows of the matrix at hand that the live beams of a lane belong to, best first; none where it is done."""
        return [self.row[lane, slot] for slot in range(0 if self.done[lane] else self.live[lane])]

    def choose(self, Py_ssize_t lane, continuing, ending):
        """Commit exactly these candidates (at most ``width`` continuing, each list best first)."""
        cdef Py_ssize_t n
        for n, (score, slot, i) in enumerate(continuing):
            self.candidates[n].score, self.candidates[n].slot, self.candidates[n].id = score, slot, i
        self.n_candidates, self.n_end_candidates = len(continuing), 0
        for score, slot, i in ending:
            self.offer_end(score, slot, i)
        with nogil:
            self.commit(lane, True)

    # ------------------------------------------------------------ reading out

    def sequence_of(self, Py_ssize_t r):
        """The sequence that a row of the next matrix belongs to."""
        return self.row_lane[r] // self.groups

    def ids_of(self, Py_ssize_t r):
        """Ids that the beam of a row of the next matrix has chosen so far."""
        return self._walk(self.node[self.row_lane[r], self.row_slot[r]])

    cdef tuple _walk(self, Py_ssize_t node):
        ids = []
        while node >= 0:
            ids.append(self.node_id[node])
            node = self.node_parent[node]
        return tuple(reversed(ids))

    def cut(self, const uint8_t[::1] complete=None):
        """The maximum length is reached: finish every live beam as it is (only those of ``complete`` rows)."""
        cdef Py_ssize_t lane, slot
        for lane in range(self.lanes):
            for slot in range(self.live[lane]):
                if complete is None or complete[self.row[lane, slot]]:
                    self.finish(lane, self.rank_score(self.total[lane, slot], self.bonus[lane, slot], self.step),
                                self.logprob[lane, slot], self.node[lane, slot], -1)
            self.done[lane], self.live[lane] = True, 0

    def starved(self):
        """The first sequence that has neither a live beam nor a finished hypothesis, or -1."""
        cdef Py_ssize_t lane, empty = 0
        for lane in range(self.lanes):
            if lane % self.groups == 0:
                empty = 0
            empty += self.live[lane] == 0 and self.n_finished[lane] == 0
            if empty == self.groups:
                return lane // self.groups
        return -1

    def finished(self, Py_ssize_t lane, Py_ssize_t most):
        """The ``most`` best finished hypotheses of a lane: list of (score, logprob, ids, end id or -1)."""
        return [(self.end_score[lane, k], self.end_logprob[lane, k], self._walk(self.end_node[lane, k]),
                 self.end_id[lane, k]) for k in range(min(most, self.n_finished[lane]))]


def _grown(old, Py_ssize_t used, Py_ssize_t size):
    """A larger copy of an int64 array, of which ``used`` entries are filled."""
    new = np.empty(size, np.int64)
    new[:used] = old[:used]
    return new


cdef list _listed(Candidate[::1] items, Py_ssize_t n):
    cdef Py_ssize_t k
    return [(items[k].score, items[k].slot, items[k].id) for k in range(n)]


CANDIDATE = np.dtype([("score", np.float64), ("slot", np.int64), ("id", np.int64)])


cdef void scan_row(
    BeamCore core, const real* x, const real* maxima, Py_ssize_t r, Py_ssize_t slot, double base
) noexcept nogil:
    """Offer the ids of one row, looking only into columns whose maximum can still enter the heap."""
    cdef Py_ssize_t column, i, stop
    cdef double score, lse = core.row_lse[r], floor = scan_floor(core, base - lse)
    for column in range(core.n_columns):
        if not maxima[column] > floor:
            continue
        i = column // ROW_LANES * BEAM_CHUNK + column % ROW_LANES
        stop = min(column // ROW_LANES * BEAM_CHUNK + BEAM_CHUNK, core.vocab)
        while i < stop:
            if x[i] > floor and not core.mask[i]:
                score = base + (<double>x[i] - lse) - core.penalty[i]
                if score > -INFINITY:
                    core.offer(score, slot, i)
                    floor = scan_floor(core, base - lse)
            i += ROW_LANES


cdef inline double scan_floor(BeamCore core, double shift) noexcept nogil:
    """A value of x no entry at or below which can enter the heap.

    Low by more than the rounding of a score, so that ties with the worst of the heap are still offered.
    """
    if core.n_candidates < core.room:
        return -INFINITY
    return core.candidates[0].score - shift - 1e-12 * (1.0 + fabs(core.candidates[0].score) + fabs(shift))
