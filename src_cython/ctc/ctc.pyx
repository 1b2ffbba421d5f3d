"""CTC prefix beam search (Graves 2006 section 3.2; Hannun et al. 2014, arXiv:1408.2873) on arenas of C structs.

This is the face: memory, errors, results. The search itself is ``search.pxd``.
"""

from libc.math cimport INFINITY, exp, log
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from ctc.heap cimport Candidate, Ranked
from ctc.ngram_automaton cimport ROOT, Automaton, Slot
from ctc.scorers cimport NO_LM, conclude
from ctc.search cimport BAD_VALUE, DONE, NO_MEMORY, TOLERATED, Entry, Search, Stay, load, step
from ctc.tree cimport NONE, Node, Span, add_child, reserve

cdef double LN10 = 2.302585092994045684
cdef double LN2 = 0.6931471805599453


cdef class Beam:
    """The whole state of one search.

    Parameters
    ----------
    labels : int
        V, the blank included.
    width : int
        W >= 1.
    blank : int
    token_min_logp, beam_min_logp : float
        Pruning thresholds; ``-inf`` prunes nothing.
    scorers : object or None
        A ``fastlstm.decode.ctc_scorers.Scorers``; its arrays are read, kept alive and never written.
    """

    cdef Search search
    cdef bint busy
    cdef readonly object scorers
    cdef list keep_alive

    def __cinit__(self, Py_ssize_t labels, Py_ssize_t width, int32_t blank, double token_min_logp,
                  double beam_min_logp, scorers):
        cdef Search* search = &self.search
        cdef Py_ssize_t v = labels
        search.labels = labels
        search.width = width
        search.blank = blank
        search.token_min_logp = token_min_logp
        search.beam_min_logp = beam_min_logp
        self.scorers = scorers
        search.beam = <Entry*>malloc(width * sizeof(Entry))
        search.next_beam = <Entry*>malloc(width * sizeof(Entry))
        search.stays = <Stay*>malloc(width * sizeof(Stay))
        search.heap = <Candidate*>malloc(width * sizeof(Candidate))
        search.ranked = <Ranked*>malloc(v * sizeof(Ranked))
        search.label_heap = <Ranked*>malloc(v * sizeof(Ranked))
        search.x = <double*>malloc(v * sizeof(double))
        search.y = <double*>malloc(v * sizeof(double))
        search.y_frame = <int64_t*>malloc(v * sizeof(int64_t))
        search.taken = <int64_t*>calloc(v, sizeof(int64_t))
        if not (
            search.beam and search.next_beam and search.stays and search.heap and search.ranked and search.label_heap
            and search.x and search.y and search.y_frame and search.taken
        ):
            raise MemoryError()
        search.scored = scorers is not None
        if search.scored:
            self.read_scorers(scorers)
        else:
            search.on.max_gain = 1.0
        self.reset()

    @property
    def labels(self):
        """V, the blank included."""
        return self.search.labels

    @property
    def frames(self):
        """How many have been read."""
        return self.search.frames

    def __dealloc__(self):
        cdef Search* search = &self.search
        free(search.beam)
        free(search.next_beam)
        free(search.stays)
        free(search.heap)
        free(search.ranked)
        free(search.label_heap)
        free(search.x)
        free(search.y)
        free(search.y_frame)
        free(search.taken)
        free(search.tree.nodes)
        free(search.tree.spans)

    cdef Automaton read_automaton(self, automaton) except *:
        cdef Automaton table
        cdef const Slot[::1] slots = automaton.slots
        cdef const float[::1] backoff = automaton.backoff
        cdef const int32_t[::1] suffix = automaton.suffix
        table.slots = &slots[0]
        table.mask = slots.shape[0] - 1
        table.backoff = &backoff[0]
        table.suffix = &suffix[0]
        table.miss = automaton.miss
        self.keep_alive.append((slots, backoff, suffix))
        return table

    cdef const int32_t* read_int32(self, array) except? NULL:
        cdef const int32_t[::1] view = array
        self.keep_alive.append(view)
        return &view[0] if view.shape[0] else NULL

    cdef int read_scorers(self, scorers) except -1:
        cdef Search* search = &self.search
        cdef const uint8_t[::1] kind = scorers.kind
        self.keep_alive = [kind]
        search.on.kind = &kind[0]
        search.on.lm_unit = scorers.lm_unit
        search.on.has_trie = scorers.trie is not None
        search.on.has_hot = scorers.hot is not None
        search.on.constrained = scorers.constrained
        if search.on.lm_unit != NO_LM:
            search.on.lm = self.read_automaton(scorers.lm)
            search.on.label_symbol = self.read_int32(scorers.label_symbol)
        if search.on.has_trie:
            search.on.trie = self.read_automaton(scorers.trie)
            search.on.word_symbol = self.read_int32(scorers.word_symbol)
            search.on.spell_start = self.read_int32(scorers.spell_start)
            search.on.spell = self.read_int32(scorers.spell)
        if search.on.has_hot:
            search.on.hot = self.read_automaton(scorers.hot)
            search.on.hot_start = self.read_int32(scorers.hot_start)
            search.on.hot_spell = self.read_int32(scorers.hot_spell)
        search.on.unknown = scorers.unknown
        search.on.end_of_sentence = scorers.end_of_sentence
        search.on.hot_end = scorers.hot_end
        search.on.alpha = scorers.alpha * LN10      # the model's weights are log10
        search.on.beta = scorers.beta
        search.on.unk_score = scorers.unk_score
        search.on.max_gain = exp(min(<double>scorers.max_gain, 700.0))
        return 0

    def reset(self):
        """Forget everything read: one prefix, the empty one, with mass 1 that ends in blank."""
        cdef Search* search = &self.search
        cdef Py_ssize_t i
        cdef int32_t root
        search.tree.living = search.tree.used = 0
        search.tree.span_living = search.tree.span_used = 0
        search.tree.free_list = search.tree.span_free_list = NONE
        if reserve(&search.tree, 1, 1) < 0:
            raise MemoryError()
        root = add_child(&search.tree, NONE, NONE)
        search.tree.nodes[root].refs = 2             # the beam, and one that is never dropped
        search.tree.nodes[root].slot = 0
        search.tree.nodes[root].lm = self.scorers.lm_start if search.scored else 0
        search.tree.nodes[root].word = ROOT
        search.tree.nodes[root].hot = self.scorers.hot_start_state if search.scored else 0
        search.tree.nodes[root].gain = 1.0
        search.tree.nodes[root].bonus = 0.0
        search.beam[0] = Entry(blank=1.0, label=0.0, total=1.0, node=root, span=NONE)
        search.size = 1
        search.frames = 0
        search.scale = 0.0
        search.exponent = 0
        search.mark = 0
        for i in range(search.labels):
            search.y_frame[i] = -1
            search.taken[i] = 0

    def clone(self):
        """Return an independent copy that goes on from the same state."""
        cdef Search* search = &self.search
        cdef Beam other = Beam(search.labels, search.width, search.blank, search.token_min_logp, search.beam_min_logp,
                               self.scorers)
        cdef Search* copy = &other.search
        if reserve(&copy.tree, search.tree.used, search.tree.span_used) < 0:
            raise MemoryError()
        memcpy(copy.tree.nodes, search.tree.nodes, search.tree.used * sizeof(Node))
        if search.tree.span_used:
            memcpy(copy.tree.spans, search.tree.spans, search.tree.span_used * sizeof(Span))
        copy.tree.used = search.tree.used
        copy.tree.living = search.tree.living
        copy.tree.free_list = search.tree.free_list
        copy.tree.span_used = search.tree.span_used
        copy.tree.span_living = search.tree.span_living
        copy.tree.span_free_list = search.tree.span_free_list
        memcpy(copy.beam, search.beam, search.size * sizeof(Entry))
        copy.size = search.size
        copy.frames = search.frames
        copy.scale = search.scale
        copy.exponent = search.exponent
        return other

    cdef tuple run(self, const float* single, const double* full, Py_ssize_t rows):
        cdef Search* search = &self.search
        cdef Py_ssize_t t = 0, c
        cdef int status = DONE
        if self.busy:
            raise RuntimeError("CTC decoder: two threads push into one decoder; clone() it or lock it")
        self.busy = True
        with nogil:
            while t < rows:
                if not load(search, single + t * search.labels if single != NULL else NULL,
                            full + t * search.labels if full != NULL else NULL):
                    status = BAD_VALUE
                    break
                status = step(search)
                if status != DONE:
                    break
                t += 1
        self.busy = False
        if status == NO_MEMORY:
            raise MemoryError("CTC decoder: no memory for the prefix tree")
        if status == BAD_VALUE:
            for c in range(search.labels):
                if not search.x[c] <= TOLERATED:
                    return status, t, c
        return status, t, -1

    def push_float32(self, const float[:, ::1] log_probs):
        """Read (T, V) rows. Return (status, row, label): (0, T, -1), or why and where it stopped."""
        if log_probs.shape[0] == 0:
            return DONE, 0, -1
        return self.run(&log_probs[0, 0], NULL, log_probs.shape[0])

    def push_float64(self, const double[:, ::1] log_probs):
        """As ``push_float32``."""
        if log_probs.shape[0] == 0:
            return DONE, 0, -1
        return self.run(NULL, &log_probs[0, 0], log_probs.shape[0])

    def results(self, Py_ssize_t n_best, bint final):
        """Return up to ``n_best`` of (score, logprob, ids, starts, ends, peaks), best first.

        ``final`` adds what the end of the input earns and drops what the lexicon does not let end here.
        """
        cdef Search* search = &self.search
        cdef Py_ssize_t i
        cdef int32_t node, span
        cdef double score, weight
        cdef double scale = search.scale + <double>search.exponent * LN2
        ranking = []
        for i in range(search.size):
            node = search.beam[i].node
            score = log(search.beam[i].total) + scale
            weight = 0.0
            if final and search.scored:
                weight = conclude(&search.on, search.tree.nodes[node].lm, search.tree.nodes[node].word,
                                  search.tree.nodes[node].hot)
                if weight == -INFINITY:
                    continue
            ranking.append((-(score + weight), i, score - search.tree.nodes[node].bonus))
        ranking.sort()
        found = []
        for negative, i, logprob in ranking[:n_best]:
            node = search.beam[i].node
            span = search.beam[i].span
            ids, starts, ends, peaks = [], [], [], []
            while span != NONE:
                ids.append(search.tree.nodes[node].label)
                starts.append(search.tree.spans[span].start)
                ends.append(search.tree.spans[span].end)
                peaks.append(search.tree.spans[span].peak)
                node = search.tree.nodes[node].parent
                span = search.tree.spans[span].prev
            found.append((-negative, logprob, ids[::-1], starts[::-1], ends[::-1], peaks[::-1]))
        return found

    def memory(self):
        """Return (living nodes, living spans, places for nodes, places for spans)."""
        cdef Search* search = &self.search
        return search.tree.living, search.tree.span_living, search.tree.capacity, search.tree.span_capacity

    def check(self):
        """Raise AssertionError where an invariant of ``tree.pxd`` does not hold."""
        cdef Search* search = &self.search
        cdef Py_ssize_t i
        cdef int32_t place
        nodes, refs, spans, span_refs = set(), {}, set(), {}
        for i in range(search.size):
            place = search.beam[i].node
            assert search.tree.nodes[place].slot == i, "3: slot"
            refs[place] = refs.get(place, 0) + 1
            while place not in nodes:
                nodes.add(place)
                if place == 0:
                    break
                refs[search.tree.nodes[place].parent] = refs.get(search.tree.nodes[place].parent, 0) + 1
                place = search.tree.nodes[place].parent
            place = search.beam[i].span
            if place != NONE:
                span_refs[place] = span_refs.get(place, 0) + 1
            while place != NONE and place not in spans:
                spans.add(place)
                assert search.tree.spans[place].start < search.tree.spans[place].end, "6: empty span"
                if search.tree.spans[place].prev != NONE:
                    span_refs[search.tree.spans[place].prev] = span_refs.get(search.tree.spans[place].prev, 0) + 1
                    assert (search.tree.spans[search.tree.spans[place].prev].end
                            <= search.tree.spans[place].start), "6: spans overlap"
                place = search.tree.spans[place].prev
        refs[0] = refs.get(0, 0) + 1      # the root is never freed
        nodes.add(0)
        for node in nodes:
            assert search.tree.nodes[<int32_t>node].refs == refs[node], "4: refs"
            if search.tree.nodes[<int32_t>node].slot != NONE:
                assert search.beam[search.tree.nodes[<int32_t>node].slot].node == node, "3: slot"
            labels = []
            place = search.tree.nodes[<int32_t>node].child
            while place != NONE:
                assert place in nodes and search.tree.nodes[place].parent == node, "1, 5: dead child"
                labels.append(search.tree.nodes[place].label)
                place = search.tree.nodes[place].next
            assert len(set(labels)) == len(labels), "2: two nodes for one prefix"
        for span in spans:
            assert search.tree.spans[<int32_t>span].refs == span_refs[span], "6: span refs"
        assert search.tree.living == len(nodes) and search.tree.span_living == len(spans), "4, 6: leak"
        for i in range(search.size - 1):
            assert search.beam[i].total >= search.beam[i + 1].total, "the beam is sorted"
