"""The core of beam search: from one matrix of logits to the next set of live beams, without the GIL.

One step is ``measure`` (maxima and log-sum-exp of each row), then for each lane ``pick`` (the best continuations) and
``commit`` (ends against continuations, finished list, stopping rule), then ``collect`` (the next batch). ``measure``
does the first three at once where asked to. The words are explained in ``state.pxd``; this is the face: memory, the
rows, results.

Invariants
- live beams of a lane are sorted best first, and rows of the next batch follow lanes, then rank;
- candidates are totally ordered (higher score, then lower parent, then lower id), so what is kept does not depend on
  the order in which a row is scanned;
- totals are finite: a candidate of probability zero is never taken.
"""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t

from beam.commit cimport charge, commit, finish, rank_score
from beam.measure cimport ROW_ABOVE_ONE, ROW_FINE, ROW_NAN, ROW_PLUS_INFINITY, measure_row
from beam.pick cimport BEAM_CHUNK, ROW_LANES, clear_bans, mark_bans, pick
from beam.state cimport IS_END, Ended, Live, Search, log_p, offer_end
from common.heap cimport Candidate
from common.select cimport real

import numpy as np

cdef extern from "beam/gil_hint.h":
    void hint_hold() noexcept nogil
    void hint_leave() noexcept nogil
    void hint_await() noexcept nogil
    void hint_lend(int to) noexcept nogil
    void hint_return(int to) noexcept nogil
    int HINT_MODEL, HINT_CALLER

cpdef enum Fault:
    FINE = ROW_FINE
    NOT_A_NUMBER = ROW_NAN
    PLUS_INFINITY = ROW_PLUS_INFINITY
    ABOVE_ONE = ROW_ABOVE_ONE


def begin_search():
    """Tell other searches that this thread is in Python for a moment, so that they do not ask for the GIL in vain."""
    hint_return(HINT_CALLER)


def end_search():
    """What follows is the caller's own."""
    hint_lend(HINT_CALLER)


def begin_model():
    """What follows is the step function's."""
    hint_lend(HINT_MODEL)


def end_model():
    """It has returned."""
    hint_return(HINT_MODEL)


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

    cdef Search search
    cdef dict arrays             # by name: whose memory ``search`` points to

    def __init__(self, Py_ssize_t sequences, Py_ssize_t vocab, plan):
        cdef Search* search = &self.search
        cdef Py_ssize_t i, places
        self.arrays = {}
        search.groups, search.width, search.vocab = plan.groups, plan.width, vocab
        search.lanes, search.rows, search.step = sequences * search.groups, sequences, 0
        search.max_length, search.min_length, search.ngram = plan.max_length, plan.min_length, plan.ngram
        search.alpha, search.power_length = plan.length_penalty, plan.power_length
        search.stopping, search.diversity, search.normalized = plan.stopping, plan.diversity, plan.normalized
        places = search.lanes * search.width

        search.beams = <Live*>self.bytes_of("beams", places * sizeof(Live))
        search.following = <Live*>self.bytes_of("following", search.width * sizeof(Live))
        search.n_live = self.int64s_of("n_live", np.ones(search.lanes, np.int64))
        search.done = self.bytes_of("done", search.lanes)
        search.ended = <Ended*>self.bytes_of("ended", places * sizeof(Ended))
        search.n_ended = self.int64s_of("n_ended", np.zeros(search.lanes, np.int64))
        search.place = self.int64s_of("place", np.arange(places) * (search.groups * search.width))
        for i in range(search.lanes):
            search.beams[i * search.width].row, search.beams[i * search.width].node = i // search.groups, -1
        search.n_nodes = 0
        self.arrays["node_parent"] = self.arrays["node_id"] = np.empty(0, np.int64)

        search.n_columns = (vocab + BEAM_CHUNK - 1) // BEAM_CHUNK * ROW_LANES
        search.ends, search.n_ends = self.int64s_of("ends", np.array(plan.ends, np.int64)), len(plan.ends)
        search.mask = self.bytes_of("mask", vocab)
        for i in range(search.n_ends):
            search.mask[search.ends[i]] |= IS_END
        search.marked = self.int64s_of("marked", np.empty(vocab, np.int64))
        search.penalty = <double*>self.bytes_of("penalty", vocab * sizeof(double))
        search.n_phrases = len(plan.banned)
        search.ban_from = self.int64s_of("ban_from", np.cumsum([0, *map(len, plan.banned)], dtype=np.int64))
        search.ban_ids = self.int64s_of("ban_ids", np.array([i for ids in plan.banned for i in ids], np.int64))
        self.arrays["history"] = self.arrays["next_history"] = np.empty((places, 0), np.int64)
        search.candidates = <Candidate*>self.bytes_of("candidates", search.width * sizeof(Candidate))
        search.end_candidates = <Candidate*>self.bytes_of(
            "end_candidates", search.width * max(1, search.n_ends) * sizeof(Candidate)
        )

    cdef int64_t* int64s_of(self, str name, array) except? NULL:
        """Keep an array of int64 and tell where it lies."""
        cdef int64_t[::1] view = array.reshape(-1)
        self.arrays[name] = array
        return &view[0] if view.shape[0] else NULL

    cdef uint8_t* bytes_of(self, str name, Py_ssize_t size) except? NULL:
        """Make zeroed memory and keep it."""
        cdef uint8_t[::1] view = np.zeros(size, np.uint8)
        self.arrays[name] = view
        return &view[0] if size else NULL

    @property
    def lanes(self):
        """Beams that are searched apart from one another."""
        return self.search.lanes

    @property
    def width(self):
        """Live beams of a lane at most."""
        return self.search.width

    @property
    def vocab(self):
        """V."""
        return self.search.vocab

    @property
    def rows(self):
        """Of the next matrix."""
        return self.search.rows

    # ------------------------------------------------------------ a step

    def measure(self, const real[:, ::1] logits, may_end=None, bonus=None, allowed=None, bint and_pick=False):
        """Take the step's matrix in: log-sum-exp of each row, and room for what the step will add.

        With `and_pick`, the best candidates of every lane that is not done are picked and committed at once, so that a
        step lets go of the GIL only once: to get it back from another thread takes longer than picking.

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
        cdef Search* search = &self.search
        cdef Py_ssize_t r, lane, bad_row = 0
        cdef int fault = ROW_FINE
        cdef real[:, ::1] maxima
        cdef double[::1] lse
        cdef const uint8_t[::1] may_end_view
        cdef const double[::1] bonus_view
        search.data, search.wide = &logits[0, 0], real is double
        kept = self.arrays.get("maxima")
        dtype = np.float64 if real is double else np.float32
        if kept is None or kept.dtype != dtype or len(kept) < search.rows:
            self.arrays["maxima"] = np.empty((search.rows, search.n_columns), dtype)
            self.arrays["lse"] = np.zeros(search.rows)
        maxima, lse = self.arrays["maxima"], self.arrays["lse"]
        search.maxima, search.lse = &maxima[0, 0], &lse[0]
        self.arrays["inputs"] = logits.base if logits.base is not None else logits, may_end, bonus
        search.may_end, search.bonus, search.allow_from = NULL, NULL, NULL
        if may_end is not None:
            may_end_view = may_end
            search.may_end = &may_end_view[0]
        if bonus is not None:
            bonus_view = bonus
            search.bonus = &bonus_view[0]
        if allowed is not None:
            search.allow_from = self.int64s_of("allow_from", allowed[0])
            search.allow_to = self.int64s_of("allow_to", allowed[1])
            search.allow_ids = self.int64s_of("allow_ids", allowed[2])
        self.make_room()
        with nogil:
            hint_leave()
            for r in range(search.rows):
                fault = measure_row(&logits[r, 0], search.vocab, search.normalized, &maxima[r, 0], &lse[r])
                if fault != ROW_FINE:
                    bad_row = r
                    break
            if and_pick and fault == ROW_FINE:
                for lane in range(search.lanes):
                    if not search.done[lane]:
                        pick(search, lane, 0, search.n_live[lane], search.width)
                        commit(search, lane, False)
                    charge(search, lane)
            hint_await()
        hint_hold()
        return <Fault>fault, bad_row

    cdef int make_room(self) except -1:
        """Grow trace and history, by doubling, to what one step can add."""
        cdef Search* search = &self.search
        cdef Py_ssize_t need = search.n_nodes + search.lanes * search.width
        if len(self.arrays["node_id"]) < need:
            for name in ("node_id", "node_parent"):
                new = np.empty(2 * need, np.int64)
                new[: search.n_nodes] = self.arrays[name][: search.n_nodes]
                self.arrays[name] = new
            search.node_id = self.int64s_of("node_id", self.arrays["node_id"])
            search.node_parent = self.int64s_of("node_parent", self.arrays["node_parent"])
        if search.ngram and search.history_room <= search.step:
            old = self.arrays["history"]
            new = np.empty((search.lanes * search.width, 2 * search.step + 16), np.int64)
            new[:, : search.step] = old[:, : search.step]
            search.history = self.int64s_of("history", new)
            search.next_history = self.int64s_of("next_history", np.empty_like(new))
            search.history_room = new.shape[1]
        return 0

    def collect(self):
        """Number the live beams as the rows of the next batch.

        Returns
        -------
        tokens, parents : (rows,) int64
            The id each live beam chose last, and the row of the matrix just used that it came from.
        """
        cdef Search* search = &self.search
        cdef Py_ssize_t lane, slot, r = 0
        cdef Live* live
        search.rows = 0
        for lane in range(search.lanes):
            search.rows += search.n_live[lane]
        tokens, parents = np.empty(search.rows, np.int64), np.empty(search.rows, np.int64)
        cdef int64_t[::1] token_view = tokens, parent_view = parents
        for lane in range(search.lanes):
            for slot in range(search.n_live[lane]):
                live = &search.beams[lane * search.width + slot]
                token_view[r], parent_view[r] = search.node_id[live.node], live.parent
                live.row, search.place[r] = r, lane * search.width + slot
                r += 1
        search.step += 1
        search.history, search.next_history = search.next_history, search.history
        self.arrays["history"], self.arrays["next_history"] = self.arrays["next_history"], self.arrays["history"]
        return tokens, parents

    # ------------------------------------------------------------ a lane at a time, for searches that choose themselves

    def candidates_of(self, Py_ssize_t lane):
        """``(continuing, ending)``: lists of (score, slot, id), each best first, at most ``width`` continuing."""
        cdef Search* search = &self.search
        with nogil:
            pick(search, lane, 0, search.n_live[lane], search.width)
        return (listed(search.candidates, search.n_candidates), listed(search.end_candidates, search.n_end_candidates))

    def best_of_slot(self, Py_ssize_t lane, Py_ssize_t slot):
        """The best continuing candidate (score, slot, id) of one live beam; None at a dead end."""
        cdef Search* search = &self.search
        with nogil:
            pick(search, lane, slot, slot + 1, 1)
        return (search.candidates[0].score, slot, search.candidates[0].id) if search.n_candidates else None

    def score_of(self, Py_ssize_t lane, Py_ssize_t slot, Py_ssize_t i):
        """Score of one continuing candidate; -inf where it is an end or not permitted."""
        cdef Search* search = &self.search
        cdef const Live* live = &search.beams[lane * search.width + slot]
        cdef Py_ssize_t j
        cdef bint permitted
        mark_bans(search, lane, slot)
        permitted = not search.mask[i]
        clear_bans(search)
        if permitted and search.allow_from != NULL and search.allow_from[live.row] >= 0:
            permitted = False
            for j in range(search.allow_from[live.row], search.allow_to[live.row]):
                permitted = permitted or search.allow_ids[j] == i
        return live.total + log_p(search, live.row, i) - search.penalty[i] if permitted else -INFINITY

    def slots_of(self, Py_ssize_t lane):
        """Rows of the matrix at hand that the live beams of a lane belong to, best first; none where it is done."""
        cdef Py_ssize_t slot, first = lane * self.search.width
        if self.search.done[lane]:
            return []
        return [self.search.beams[first + slot].row for slot in range(self.search.n_live[lane])]

    def choose(self, Py_ssize_t lane, continuing, ending):
        """Commit exactly these candidates (at most ``width`` continuing, each list best first)."""
        cdef Search* search = &self.search
        cdef Py_ssize_t n
        for n, (score, slot, i) in enumerate(continuing):
            search.candidates[n].score, search.candidates[n].slot, search.candidates[n].id = score, slot, i
        search.n_candidates, search.n_end_candidates = len(continuing), 0
        for score, slot, i in ending:
            offer_end(search, score, slot, i)
        with nogil:
            commit(search, lane, True)

    def charge(self, Py_ssize_t lane):
        """Let what this lane chose cost the later groups of its sequence; to be called for every lane in order."""
        charge(&self.search, lane)

    # ------------------------------------------------------------ reading out

    def sequence_of(self, Py_ssize_t r):
        """The sequence that a row of the next matrix belongs to."""
        return self.search.place[r] // (self.search.width * self.search.groups)

    def ids_of(self, Py_ssize_t r):
        """Ids that the beam of a row of the next matrix has chosen so far."""
        return self.walk(self.search.beams[self.search.place[r]].node)

    cdef tuple walk(self, Py_ssize_t node):
        ids = []
        while node >= 0:
            ids.append(self.search.node_id[node])
            node = self.search.node_parent[node]
        return tuple(reversed(ids))

    def cut(self, const uint8_t[::1] complete=None):
        """The maximum length is reached: finish every live beam as it is (only those of ``complete`` rows)."""
        cdef Search* search = &self.search
        cdef Py_ssize_t lane, slot
        cdef const Live* live
        for lane in range(search.lanes):
            for slot in range(search.n_live[lane]):
                live = &search.beams[lane * search.width + slot]
                if complete is None or complete[live.row]:
                    finish(search, lane, rank_score(search, live.total, live.bonus, search.step), live.logprob,
                           live.node, -1)
            search.done[lane], search.n_live[lane] = True, 0

    def starved(self):
        """The first sequence that has neither a live beam nor a finished hypothesis, or -1."""
        cdef Search* search = &self.search
        cdef Py_ssize_t lane, empty = 0
        for lane in range(search.lanes):
            if lane % search.groups == 0:
                empty = 0
            empty += search.n_live[lane] == 0 and search.n_ended[lane] == 0
            if empty == search.groups:
                return lane // search.groups
        return -1

    def finished(self, Py_ssize_t lane, Py_ssize_t most):
        """The ``most`` best finished hypotheses of a lane: list of (score, logprob, ids, end id or -1)."""
        cdef const Ended* ended = self.search.ended + lane * self.search.width
        cdef Py_ssize_t k
        return [(ended[k].score, ended[k].logprob, self.walk(ended[k].node), ended[k].id)
                for k in range(min(most, self.search.n_ended[lane]))]


cdef list listed(const Candidate* items, Py_ssize_t n):
    cdef Py_ssize_t k
    return [(items[k].score, items[k].slot, items[k].id) for k in range(n)]
