"""CTC prefix beam search (Graves 2006 section 3.2; Hannun et al. 2014, arXiv:1408.2873) on arenas of C structs.

Per prefix the beam keeps two masses, of the paths that end in blank and of those that end in the prefix's last
label, as scaled probabilities: with ``y = exp(row - max(row))`` and a rescaling by powers of two, which is exact, a
step multiplies and adds and needs an ``exp`` only for the labels that it reads.

One step, for a beam of W prefixes q with masses (blank, label), total = blank + label, and last label c(q):

1. Stay.   blank'(q) = total(q) y[blank];  label'(q) = label(q) y[c(q)] + enter(q), where enter(q) is what flows in
   from q's parent p if p is in the beam: (blank(p) if c(p) == c(q) else total(p)) y[c(q)] gain(q).
2. Extend. Every prefix s and label c whose child is not in the beam: label' = (blank(s) if c == c(s) else total(s))
   y[c] gain. Prefixes and labels are walked best first, so that both loops end at the first product which the W
   best found so far (a heap) beat.
3. The W best of both become the beam. Equal totals: stays before extensions, then in the order of the walk, which
   depends on nothing but the input. All state lies in this object, so any cut into chunks gives the same bits.
"""

from libc.math cimport INFINITY, exp, frexp, ldexp, log
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from ctc_heap cimport Candidate, Ranked, rise, sink, sink_label, worse
from ctc_scorers cimport NO_LM, Scorers, conclude, extend
from ctc_tree cimport (
    NONE, Node, Span, Tree, add_child, add_span, find_child, release, release_span, reserve,
)
from ngram_automaton cimport ROOT, Automaton, Slot

cdef enum:
    DONE = 0
    NO_MEMORY = -1
    BAD_VALUE = -2
    DEAD = -3

cdef double LN10 = 2.302585092994045684
cdef double LN2 = 0.6931471805599453
cdef double SMALL = 2.0 ** -32      # the beam's best total is kept between the two, by exact powers of two, so that
cdef double LARGE = 2.0 ** 32       # a prefix is lost to underflow only at exp(-700) times the best
cdef double TOLERATED = 1e-3        # a log-probability this far above 0 is rounding, not a mistake


cdef struct Entry:
    double blank
    double label
    double total
    int32_t node
    int32_t span


cdef struct Stay:
    double blank
    double label
    double enter          # what the parent pours in, at the last label


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

    cdef readonly Py_ssize_t labels, width, frames
    cdef readonly int32_t blank
    cdef readonly double token_min_logp, beam_min_logp
    cdef readonly object scorers
    cdef list keep_alive
    cdef Scorers on
    cdef bint scored
    cdef Tree tree
    cdef Entry* beam
    cdef Entry* next_beam
    cdef Stay* stays               # (W,) by place in ``beam``
    cdef bint busy
    cdef Py_ssize_t size
    cdef Candidate* heap
    cdef Py_ssize_t heap_size
    cdef Ranked* ranked            # labels worth a look, likeliest first up to ``popped``
    cdef Ranked* label_heap        # the others
    cdef Py_ssize_t popped, label_heap_size
    cdef double* x                 # (V,) the row in float64
    cdef double* y                 # (V,) exp(x - max) where y_frame says so
    cdef int64_t* y_frame
    cdef int64_t* taken            # (V,) mark of the last prefix whose child with this label is in the beam
    cdef int64_t mark
    cdef double row_max
    cdef Py_ssize_t row_best
    cdef double scale              # log of what the masses were divided by, power of two aside
    cdef int64_t exponent

    def __cinit__(self, Py_ssize_t labels, Py_ssize_t width, int32_t blank, double token_min_logp,
                  double beam_min_logp, scorers):
        cdef Py_ssize_t v = labels
        self.labels = labels
        self.width = width
        self.blank = blank
        self.token_min_logp = token_min_logp
        self.beam_min_logp = beam_min_logp
        self.scorers = scorers
        self.beam = <Entry*>malloc(width * sizeof(Entry))
        self.next_beam = <Entry*>malloc(width * sizeof(Entry))
        self.stays = <Stay*>malloc(width * sizeof(Stay))
        self.heap = <Candidate*>malloc(width * sizeof(Candidate))
        self.ranked = <Ranked*>malloc(v * sizeof(Ranked))
        self.label_heap = <Ranked*>malloc(v * sizeof(Ranked))
        self.x = <double*>malloc(v * sizeof(double))
        self.y = <double*>malloc(v * sizeof(double))
        self.y_frame = <int64_t*>malloc(v * sizeof(int64_t))
        self.taken = <int64_t*>calloc(v, sizeof(int64_t))
        if (self.beam == NULL or self.next_beam == NULL or self.stays == NULL or self.heap == NULL or self.ranked == NULL
                or self.label_heap == NULL or self.x == NULL or self.y == NULL or self.y_frame == NULL
                or self.taken == NULL):
            raise MemoryError()
        self.scored = scorers is not None
        if self.scored:
            self.read_scorers(scorers)
        else:
            self.on.max_gain = 1.0
        self.reset()

    def __dealloc__(self):
        free(self.beam)
        free(self.next_beam)
        free(self.stays)
        free(self.heap)
        free(self.ranked)
        free(self.label_heap)
        free(self.x)
        free(self.y)
        free(self.y_frame)
        free(self.taken)
        free(self.tree.nodes)
        free(self.tree.spans)

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
        cdef const uint8_t[::1] kind = scorers.kind
        self.keep_alive = [kind]
        self.on.kind = &kind[0]
        self.on.lm_unit = scorers.lm_unit
        self.on.has_trie = scorers.trie is not None
        self.on.has_hot = scorers.hot is not None
        self.on.constrained = scorers.constrained
        if self.on.lm_unit != NO_LM:
            self.on.lm = self.read_automaton(scorers.lm)
            self.on.label_symbol = self.read_int32(scorers.label_symbol)
        if self.on.has_trie:
            self.on.trie = self.read_automaton(scorers.trie)
            self.on.word_symbol = self.read_int32(scorers.word_symbol)
            self.on.spell_start = self.read_int32(scorers.spell_start)
            self.on.spell = self.read_int32(scorers.spell)
        if self.on.has_hot:
            self.on.hot = self.read_automaton(scorers.hot)
            self.on.hot_start = self.read_int32(scorers.hot_start)
            self.on.hot_spell = self.read_int32(scorers.hot_spell)
        self.on.unknown = scorers.unknown
        self.on.end_of_sentence = scorers.end_of_sentence
        self.on.hot_end = scorers.hot_end
        self.on.alpha = scorers.alpha * LN10      # the model's weights are log10
        self.on.beta = scorers.beta
        self.on.unk_score = scorers.unk_score
        self.on.max_gain = exp(min(<double>scorers.max_gain, 700.0))
        return 0

    def reset(self):
        """Forget everything read: one prefix, the empty one, with mass 1 that ends in blank."""
        cdef Py_ssize_t i
        cdef int32_t root
        self.tree.living = self.tree.used = 0
        self.tree.span_living = self.tree.span_used = 0
        self.tree.free_list = self.tree.span_free_list = NONE
        if reserve(&self.tree, 1, 1) < 0:
            raise MemoryError()
        root = add_child(&self.tree, NONE, NONE)
        self.tree.nodes[root].refs = 2             # the beam, and one that is never dropped
        self.tree.nodes[root].slot = 0
        self.tree.nodes[root].lm = self.scorers.lm_start if self.scored else 0
        self.tree.nodes[root].word = ROOT
        self.tree.nodes[root].hot = self.scorers.hot_start_state if self.scored else 0
        self.tree.nodes[root].gain = 1.0
        self.tree.nodes[root].bonus = 0.0
        self.beam[0] = Entry(blank=1.0, label=0.0, total=1.0, node=root, span=NONE)
        self.size = 1
        self.frames = 0
        self.scale = 0.0
        self.exponent = 0
        self.mark = 0
        for i in range(self.labels):
            self.y_frame[i] = -1
            self.taken[i] = 0

    def clone(self):
        """Return an independent copy that goes on from the same state."""
        cdef Beam other = Beam(self.labels, self.width, self.blank, self.token_min_logp, self.beam_min_logp,
                               self.scorers)
        if reserve(&other.tree, self.tree.used, self.tree.span_used) < 0:
            raise MemoryError()
        memcpy(other.tree.nodes, self.tree.nodes, self.tree.used * sizeof(Node))
        if self.tree.span_used:
            memcpy(other.tree.spans, self.tree.spans, self.tree.span_used * sizeof(Span))
        other.tree.used = self.tree.used
        other.tree.living = self.tree.living
        other.tree.free_list = self.tree.free_list
        other.tree.span_used = self.tree.span_used
        other.tree.span_living = self.tree.span_living
        other.tree.span_free_list = self.tree.span_free_list
        memcpy(other.beam, self.beam, self.size * sizeof(Entry))
        other.size = self.size
        other.frames = self.frames
        other.scale = self.scale
        other.exponent = self.exponent
        return other

    cdef inline double likelihood(self, Py_ssize_t label) noexcept nogil:
        """Return y[label] of the present row; exp is paid once, and only for labels that are read."""
        if self.y_frame[label] != self.frames:
            self.y_frame[label] = self.frames
            if self.x[label] < self.token_min_logp and label != self.row_best:
                self.y[label] = 0.0
            else:
                self.y[label] = exp(self.x[label] - self.row_max)
        return self.y[label]

    cdef inline void offer(self, double total, int64_t order, int32_t source, int32_t label) noexcept nogil:
        """Keep the candidate if it is among the W best so far."""
        cdef Candidate new = Candidate(total=total, order=order, source=source, label=label)
        if self.heap_size < self.width:
            self.heap[self.heap_size] = new
            self.heap_size += 1
            rise(self.heap, self.heap_size - 1)
        elif worse(&self.heap[0], &new):
            self.heap[0] = new
            sink(self.heap, self.heap_size, 0)

    cdef inline double floor(self) noexcept nogil:
        """Return the total that a new candidate must exceed."""
        return self.heap[0].total if self.heap_size == self.width else 0.0

    cdef void stay(self) noexcept nogil:
        """1: what each prefix keeps, and what its parent pours into it."""
        cdef Py_ssize_t q
        cdef double y_label, total, y_blank = self.likelihood(self.blank)
        cdef Entry* old
        cdef Entry* above
        cdef Stay* new
        cdef Node* node
        cdef int32_t slot
        for q in range(self.size):
            old = &self.beam[q]
            new = &self.stays[q]
            node = &self.tree.nodes[old.node]
            new.blank = old.total * y_blank
            new.label = 0.0
            new.enter = 0.0
            if node.label != NONE:
                y_label = self.likelihood(node.label)
                new.label = old.label * y_label
                slot = self.tree.nodes[node.parent].slot
                if slot != NONE:
                    above = &self.beam[slot]
                    if self.tree.nodes[node.parent].label == node.label:
                        new.enter = above.blank * y_label * node.gain
                    else:
                        new.enter = above.total * y_label * node.gain
            total = new.blank + new.label + new.enter
            if total > 0.0:
                self.offer(total, q, <int32_t>q, NONE)

    cdef void rank_labels(self) noexcept nogil:
        """Put every label that could still enter the beam on a heap; it is sorted only as far as it is read."""
        cdef Py_ssize_t c, n = 0
        cdef double bound = self.beam[0].total * self.on.max_gain
        cdef double least = -INFINITY
        self.popped = 0
        if self.floor() > 0.0:
            # y[c] > floor / bound, in the log domain and with a margin: no exp for hopeless labels.
            least = log(self.floor()) - log(bound) + self.row_max - 1e-6
        for c in range(self.labels):
            if self.x[c] > least and c != self.blank:
                self.label_heap[n].p = self.likelihood(c)
                self.label_heap[n].label = <int32_t>c
                n += self.label_heap[n].p > 0.0
        self.label_heap_size = n
        for c in range(n // 2 - 1, -1, -1):
            sink_label(self.label_heap, n, c)

    cdef inline bint next_label(self) noexcept nogil:
        """Sort one more label; return False where none is left."""
        if self.label_heap_size == 0:
            return False
        self.ranked[self.popped] = self.label_heap[0]
        self.popped += 1
        self.label_heap_size -= 1
        if self.label_heap_size > 0:
            self.label_heap[0] = self.label_heap[self.label_heap_size]
            sink_label(self.label_heap, self.label_heap_size, 0)
        return True

    cdef void extend_all(self) noexcept nogil:
        """2: new prefixes, best first."""
        cdef Py_ssize_t s, k
        cdef int64_t order = self.size
        cdef Entry* entry
        cdef Node* node
        cdef int32_t child, lm, word, hot, label
        cdef double p, weight
        self.rank_labels()
        if not self.next_label():
            return
        for s in range(self.size):
            entry = &self.beam[s]
            if entry.total * self.ranked[0].p * self.on.max_gain <= self.floor():
                break
            node = &self.tree.nodes[entry.node]
            self.mark += 1
            child = node.child
            while child != NONE:
                if self.tree.nodes[child].slot != NONE:
                    self.taken[self.tree.nodes[child].label] = self.mark
                child = self.tree.nodes[child].next
            k = 0
            while k < self.popped or self.next_label():
                p = entry.total * self.ranked[k].p
                if p * self.on.max_gain <= self.floor():
                    break
                label = self.ranked[k].label
                k += 1
                if self.taken[label] == self.mark:
                    continue
                if label == node.label:
                    p = entry.blank * self.likelihood(label)
                if self.scored:
                    lm = node.lm
                    word = node.word
                    hot = node.hot
                    weight = extend(&self.on, label, &lm, &word, &hot)
                    if weight == -INFINITY:
                        continue
                    p *= exp(weight)
                order += 1
                if p > self.floor():
                    self.offer(p, order, <int32_t>s, label)

    cdef void enter_new(self, Candidate* chosen, Entry* new) noexcept nogil:
        """Give an extension its node and its span."""
        cdef Entry* old = &self.beam[chosen.source]
        cdef int32_t place = find_child(&self.tree, old.node, chosen.label)
        cdef Node* node
        cdef double weight
        if place == NONE:
            place = add_child(&self.tree, old.node, chosen.label)
            node = &self.tree.nodes[place]
            node.lm = self.tree.nodes[old.node].lm
            node.word = self.tree.nodes[old.node].word
            node.hot = self.tree.nodes[old.node].hot
            weight = 0.0
            if self.scored:
                weight = extend(&self.on, chosen.label, &node.lm, &node.word, &node.hot)
            node.gain = exp(weight)
            node.bonus = self.tree.nodes[old.node].bonus + weight
        new[0] = Entry(blank=0.0, label=chosen.total, total=chosen.total, node=place, span=NONE)
        new.span = add_span(&self.tree, old.span, <int32_t>self.frames, <int32_t>self.frames + 1,
                            self.x[chosen.label])

    cdef void enter_again(self, Candidate* chosen, Entry* new) noexcept nogil:
        """Carry a prefix on; if more flows in from its parent than stays, its last label begins anew here."""
        cdef Entry* old = &self.beam[chosen.source]
        cdef Stay* kept = &self.stays[chosen.source]
        cdef Node* node = &self.tree.nodes[old.node]
        new[0] = Entry(blank=kept.blank, label=kept.label + kept.enter, total=chosen.total, node=old.node, span=NONE)
        if kept.enter > kept.blank + kept.label:
            new.span = add_span(&self.tree, self.beam[self.tree.nodes[node.parent].slot].span,
                                <int32_t>self.frames, <int32_t>self.frames + 1, self.x[node.label])

    cdef void stretch_span(self, Candidate* chosen, Entry* new) noexcept nogil:
        """Let the last label's span reach this frame if the label outweighs blank in it."""
        cdef Stay* kept = &self.stays[chosen.source]
        cdef int32_t place = self.beam[chosen.source].span
        cdef Span* span
        cdef double peak
        new.span = place
        if place == NONE:
            return
        span = &self.tree.spans[place]
        if kept.label <= kept.blank:
            span.refs += 1
            return
        peak = max(span.peak, self.x[self.tree.nodes[new.node].label])
        if span.refs == 1:
            span.refs += 1
            span.end = <int32_t>self.frames + 1
            span.peak = peak
        else:
            # Others end their parent's span here: they keep the old one.
            new.span = add_span(&self.tree, span.prev, span.start, <int32_t>self.frames + 1, peak)

    cdef void commit(self) noexcept nogil:
        """3: the W best candidates become the beam. Room in the arenas is reserved; nothing here can fail."""
        cdef Py_ssize_t i, n = self.heap_size
        cdef Candidate worst
        cdef Candidate* chosen
        cdef double least
        while n > 1:
            n -= 1
            worst = self.heap[0]
            self.heap[0] = self.heap[n]
            self.heap[n] = worst
            sink(self.heap, n, 0)
        n = self.heap_size
        least = self.heap[0].total * exp(self.beam_min_logp)
        while n > 1 and self.heap[n - 1].total < least:
            n -= 1
        # Whoever refers to a span of an old entry does so before any such span is stretched in place.
        for i in range(n):
            chosen = &self.heap[i]
            if chosen.label == NONE:
                self.enter_again(chosen, &self.next_beam[i])
            else:
                self.enter_new(chosen, &self.next_beam[i])
        for i in range(n):
            chosen = &self.heap[i]
            if chosen.label == NONE and self.next_beam[i].span == NONE:
                self.stretch_span(chosen, &self.next_beam[i])
        for i in range(self.size):
            self.tree.nodes[self.beam[i].node].slot = NONE
        for i in range(n):
            self.tree.nodes[self.next_beam[i].node].slot = <int32_t>i
            self.tree.nodes[self.next_beam[i].node].refs += 1
        for i in range(self.size):
            release(&self.tree, self.beam[i].node)
            release_span(&self.tree, self.beam[i].span)
        self.beam, self.next_beam = self.next_beam, self.beam
        self.size = n
        self.rescale()

    cdef void rescale(self) noexcept nogil:
        cdef Py_ssize_t i
        cdef int power = 0
        if SMALL < self.beam[0].total < LARGE:
            return
        frexp(self.beam[0].total, &power)
        self.exponent += power
        for i in range(self.size):
            self.beam[i].blank = ldexp(self.beam[i].blank, -power)
            self.beam[i].label = ldexp(self.beam[i].label, -power)
            self.beam[i].total = ldexp(self.beam[i].total, -power)

    cdef int load(self, const float* single, const double* full) noexcept nogil:
        """Read one row into ``x`` and find its maximum; return False where a value is no log-probability."""
        cdef Py_ssize_t c
        cdef double best = -INFINITY
        cdef bint good = True
        self.row_best = 0
        for c in range(self.labels):
            self.x[c] = single[c] if single != NULL else full[c]
            good &= self.x[c] <= TOLERATED          # False for NaN and +inf too
            if self.x[c] > best:
                best = self.x[c]
                self.row_best = c
        self.row_max = best
        return good

    cdef int step(self) noexcept nogil:
        if self.row_max == -INFINITY:
            return DEAD
        if reserve(&self.tree, self.width, 2 * self.width) < 0:
            return NO_MEMORY
        self.heap_size = 0
        self.stay()
        self.extend_all()
        if self.heap_size == 0:
            return DEAD
        self.commit()
        self.scale += self.row_max
        self.frames += 1
        return DONE

    cdef tuple run(self, const float* single, const double* full, Py_ssize_t rows):
        cdef Py_ssize_t t = 0, c
        cdef int status = DONE
        if self.busy:
            raise RuntimeError("CTC decoder: two threads push into one decoder; clone() it or lock it")
        self.busy = True
        with nogil:
            while t < rows:
                if not self.load(single + t * self.labels if single != NULL else NULL,
                                 full + t * self.labels if full != NULL else NULL):
                    status = BAD_VALUE
                    break
                status = self.step()
                if status != DONE:
                    break
                t += 1
        self.busy = False
        if status == NO_MEMORY:
            raise MemoryError("CTC decoder: no memory for the prefix tree")
        if status == BAD_VALUE:
            for c in range(self.labels):
                if not self.x[c] <= TOLERATED:
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
        cdef Py_ssize_t i
        cdef int32_t node, span
        cdef double score, weight
        cdef double scale = self.scale + <double>self.exponent * LN2
        ranking = []
        for i in range(self.size):
            node = self.beam[i].node
            score = log(self.beam[i].total) + scale
            weight = 0.0
            if final and self.scored:
                weight = conclude(&self.on, self.tree.nodes[node].lm, self.tree.nodes[node].word,
                                  self.tree.nodes[node].hot)
                if weight == -INFINITY:
                    continue
            ranking.append((-(score + weight), i, score - self.tree.nodes[node].bonus))
        ranking.sort()
        found = []
        for negative, i, logprob in ranking[:n_best]:
            node = self.beam[i].node
            span = self.beam[i].span
            ids, starts, ends, peaks = [], [], [], []
            while span != NONE:
                ids.append(self.tree.nodes[node].label)
                starts.append(self.tree.spans[span].start)
                ends.append(self.tree.spans[span].end)
                peaks.append(self.tree.spans[span].peak)
                node = self.tree.nodes[node].parent
                span = self.tree.spans[span].prev
            found.append((-negative, logprob, ids[::-1], starts[::-1], ends[::-1], peaks[::-1]))
        return found

    def memory(self):
        """Return (living nodes, living spans, places for nodes, places for spans)."""
        return self.tree.living, self.tree.span_living, self.tree.capacity, self.tree.span_capacity

    def check(self):
        """Raise AssertionError where an invariant of ``ctc_tree.pxd`` does not hold."""
        cdef Py_ssize_t i
        cdef int32_t place
        nodes, refs, spans, span_refs = set(), {}, set(), {}
        for i in range(self.size):
            place = self.beam[i].node
            assert self.tree.nodes[place].slot == i, "3: slot"
            refs[place] = refs.get(place, 0) + 1
            while place not in nodes:
                nodes.add(place)
                if place == 0:
                    break
                refs[self.tree.nodes[place].parent] = refs.get(self.tree.nodes[place].parent, 0) + 1
                place = self.tree.nodes[place].parent
            place = self.beam[i].span
            if place != NONE:
                span_refs[place] = span_refs.get(place, 0) + 1
            while place != NONE and place not in spans:
                spans.add(place)
                assert self.tree.spans[place].start < self.tree.spans[place].end, "6: empty span"
                if self.tree.spans[place].prev != NONE:
                    span_refs[self.tree.spans[place].prev] = span_refs.get(self.tree.spans[place].prev, 0) + 1
                    assert (self.tree.spans[self.tree.spans[place].prev].end
                            <= self.tree.spans[place].start), "6: spans overlap"
                place = self.tree.spans[place].prev
        refs[0] = refs.get(0, 0) + 1      # the root is never freed
        nodes.add(0)
        for node in nodes:
            assert self.tree.nodes[<int32_t>node].refs == refs[node], "4: refs"
            if self.tree.nodes[<int32_t>node].slot != NONE:
                assert self.beam[self.tree.nodes[<int32_t>node].slot].node == node, "3: slot"
            labels = []
            place = self.tree.nodes[<int32_t>node].child
            while place != NONE:
                assert place in nodes and self.tree.nodes[place].parent == node, "1, 5: dead child"
                labels.append(self.tree.nodes[place].label)
                place = self.tree.nodes[place].next
            assert len(set(labels)) == len(labels), "2: two nodes for one prefix"
        for span in spans:
            assert self.tree.spans[<int32_t>span].refs == span_refs[span], "6: span refs"
        assert self.tree.living == len(nodes) and self.tree.span_living == len(spans), "4, 6: leak"
        for i in range(self.size - 1):
            assert self.beam[i].total >= self.beam[i + 1].total, "the beam is sorted"
