"""One step of CTC prefix beam search, on arenas of C structs: no Python object, no GIL, no validation.

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
   depends on nothing but the input. All state lies in ``Search``, so any cut into chunks gives the same bits.
"""

from libc.math cimport INFINITY, exp, frexp, ldexp, log
from libc.stdint cimport int32_t, int64_t

from ctc.heap cimport Candidate, Ranked, rise, sink, sink_label, worse
from ctc.scorers cimport Scorers, extend
from ctc.tree cimport NONE, Node, Span, Tree, add_child, add_span, find_child, release, release_span, reserve

cdef enum:
    DONE = 0
    NO_MEMORY = -1
    BAD_VALUE = -2
    DEAD = -3

cdef extern from *:
    """
    #define CTC_SMALL 0x1p-32
    #define CTC_LARGE 0x1p32
    #define CTC_TOLERATED 1e-3
    """
    const double SMALL "CTC_SMALL"  # the beam's best total is kept between the two, by exact powers of two, so that
    const double LARGE "CTC_LARGE"  # a prefix is lost to underflow only at exp(-700) times the best
    const double TOLERATED "CTC_TOLERATED"  # a log-probability this far above 0 is rounding, not a mistake


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


cdef struct Search:
    Py_ssize_t labels              # V, the blank included
    Py_ssize_t width               # W
    Py_ssize_t frames              # read so far
    int32_t blank
    double token_min_logp
    double beam_min_logp
    bint scored
    Scorers on
    Tree tree
    Entry* beam                    # (W,) best first, ``size`` of them
    Entry* next_beam               # (W,)
    Stay* stays                    # (W,) by place in ``beam``
    Py_ssize_t size
    Candidate* heap                # (W,)
    Py_ssize_t heap_size
    Ranked* ranked                 # (V,) labels worth a look, likeliest first up to ``popped``
    Ranked* label_heap             # (V,) the others
    Py_ssize_t popped
    Py_ssize_t label_heap_size
    double* x                      # (V,) the row in float64
    double* y                      # (V,) exp(x - max) where y_frame says so
    int64_t* y_frame               # (V,)
    int64_t* taken                 # (V,) mark of the last prefix whose child with this label is in the beam
    int64_t mark
    double row_max
    Py_ssize_t row_best
    double scale                   # log of what the masses were divided by, power of two aside
    int64_t exponent


cdef inline double likelihood(Search* search, Py_ssize_t label) noexcept nogil:
    """Return y[label] of the present row; exp is paid once, and only for labels that are read."""
    if search.y_frame[label] != search.frames:
        search.y_frame[label] = search.frames
        if search.x[label] < search.token_min_logp and label != search.row_best:
            search.y[label] = 0.0
        else:
            search.y[label] = exp(search.x[label] - search.row_max)
    return search.y[label]


cdef inline void offer(Search* search, double total, int64_t order, int32_t source, int32_t label) noexcept nogil:
    """Keep the candidate if it is among the W best so far."""
    cdef Candidate new = Candidate(total=total, order=order, source=source, label=label)
    if search.heap_size < search.width:
        search.heap[search.heap_size] = new
        search.heap_size += 1
        rise(search.heap, search.heap_size - 1)
    elif worse(&search.heap[0], &new):
        search.heap[0] = new
        sink(search.heap, search.heap_size, 0)


cdef inline double floor(Search* search) noexcept nogil:
    """Return the total that a new candidate must exceed."""
    return search.heap[0].total if search.heap_size == search.width else 0.0


cdef inline void stay(Search* search) noexcept nogil:
    """1: what each prefix keeps, and what its parent pours into it."""
    cdef Py_ssize_t q
    cdef double y_label, total, y_blank = likelihood(search, search.blank)
    cdef Entry* old
    cdef Entry* above
    cdef Stay* new
    cdef Node* node
    cdef int32_t slot
    for q in range(search.size):
        old = &search.beam[q]
        new = &search.stays[q]
        node = &search.tree.nodes[old.node]
        new.blank = old.total * y_blank
        new.label = 0.0
        new.enter = 0.0
        if node.label != NONE:
            y_label = likelihood(search, node.label)
            new.label = old.label * y_label
            slot = search.tree.nodes[node.parent].slot
            if slot != NONE:
                above = &search.beam[slot]
                if search.tree.nodes[node.parent].label == node.label:
                    new.enter = above.blank * y_label * node.gain
                else:
                    new.enter = above.total * y_label * node.gain
        total = new.blank + new.label + new.enter
        if total > 0.0:
            offer(search, total, q, <int32_t>q, NONE)


cdef inline void rank_labels(Search* search) noexcept nogil:
    """Put every label that could still enter the beam on a heap; it is sorted only as far as it is read."""
    cdef Py_ssize_t c, n = 0
    cdef double bound = search.beam[0].total * search.on.max_gain
    cdef double least = -INFINITY
    search.popped = 0
    if floor(search) > 0.0:
        # y[c] > floor / bound, in the log domain and with a margin: no exp for hopeless labels.
        least = log(floor(search)) - log(bound) + search.row_max - 1e-6
    for c in range(search.labels):
        if search.x[c] > least and c != search.blank:
            search.label_heap[n].p = likelihood(search, c)
            search.label_heap[n].label = <int32_t>c
            n += search.label_heap[n].p > 0.0
    search.label_heap_size = n
    for c in range(n // 2 - 1, -1, -1):
        sink_label(search.label_heap, n, c)


cdef inline bint next_label(Search* search) noexcept nogil:
    """Sort one more label; return False where none is left."""
    if search.label_heap_size == 0:
        return False
    search.ranked[search.popped] = search.label_heap[0]
    search.popped += 1
    search.label_heap_size -= 1
    if search.label_heap_size > 0:
        search.label_heap[0] = search.label_heap[search.label_heap_size]
        sink_label(search.label_heap, search.label_heap_size, 0)
    return True


cdef inline void extend_all(Search* search) noexcept nogil:
    """2: new prefixes, best first."""
    cdef Py_ssize_t s, k
    cdef int64_t order = search.size
    cdef Entry* entry
    cdef Node* node
    cdef int32_t child, lm, word, hot, label
    cdef double p, weight
    rank_labels(search)
    if not next_label(search):
        return
    for s in range(search.size):
        entry = &search.beam[s]
        if entry.total * search.ranked[0].p * search.on.max_gain <= floor(search):
            break
        node = &search.tree.nodes[entry.node]
        search.mark += 1
        child = node.child
        while child != NONE:
            if search.tree.nodes[child].slot != NONE:
                search.taken[search.tree.nodes[child].label] = search.mark
            child = search.tree.nodes[child].next
        k = 0
        while k < search.popped or next_label(search):
            p = entry.total * search.ranked[k].p
            if p * search.on.max_gain <= floor(search):
                break
            label = search.ranked[k].label
            k += 1
            if search.taken[label] == search.mark:
                continue
            if label == node.label:
                p = entry.blank * likelihood(search, label)
            if search.scored:
                lm = node.lm
                word = node.word
                hot = node.hot
                weight = extend(&search.on, label, &lm, &word, &hot)
                if weight == -INFINITY:
                    continue
                p *= exp(weight)
            order += 1
            if p > floor(search):
                offer(search, p, order, <int32_t>s, label)


cdef inline void enter_new(Search* search, Candidate* chosen, Entry* new) noexcept nogil:
    """Give an extension its node and its span."""
    cdef Entry* old = &search.beam[chosen.source]
    cdef int32_t place = find_child(&search.tree, old.node, chosen.label)
    cdef Node* node
    cdef double weight
    if place == NONE:
        place = add_child(&search.tree, old.node, chosen.label)
        node = &search.tree.nodes[place]
        node.lm = search.tree.nodes[old.node].lm
        node.word = search.tree.nodes[old.node].word
        node.hot = search.tree.nodes[old.node].hot
        weight = 0.0
        if search.scored:
            weight = extend(&search.on, chosen.label, &node.lm, &node.word, &node.hot)
        node.gain = exp(weight)
        node.bonus = search.tree.nodes[old.node].bonus + weight
    new[0] = Entry(blank=0.0, label=chosen.total, total=chosen.total, node=place, span=NONE)
    new.span = add_span(&search.tree, old.span, <int32_t>search.frames, <int32_t>search.frames + 1,
                        search.x[chosen.label])


cdef inline void enter_again(Search* search, Candidate* chosen, Entry* new) noexcept nogil:
    """Carry a prefix on; if more flows in from its parent than stays, its last label begins again here."""
    cdef Entry* old = &search.beam[chosen.source]
    cdef Stay* kept = &search.stays[chosen.source]
    cdef Node* node = &search.tree.nodes[old.node]
    new[0] = Entry(blank=kept.blank, label=kept.label + kept.enter, total=chosen.total, node=old.node, span=NONE)
    if kept.enter > kept.blank + kept.label:
        new.span = add_span(&search.tree, search.beam[search.tree.nodes[node.parent].slot].span,
                            <int32_t>search.frames, <int32_t>search.frames + 1, search.x[node.label])


cdef inline void stretch_span(Search* search, Candidate* chosen, Entry* new) noexcept nogil:
    """Let the last label's span reach this frame if the label outweighs blank in it."""
    cdef Stay* kept = &search.stays[chosen.source]
    cdef int32_t place = search.beam[chosen.source].span
    cdef Span* span
    cdef double peak
    new.span = place
    if place == NONE:
        return
    span = &search.tree.spans[place]
    if kept.label <= kept.blank:
        span.refs += 1
        return
    peak = max(span.peak, search.x[search.tree.nodes[new.node].label])
    if span.refs == 1:
        span.refs += 1
        span.end = <int32_t>search.frames + 1
        span.peak = peak
    else:
        # Others end their parent's span here: they keep the old one.
        new.span = add_span(&search.tree, span.prev, span.start, <int32_t>search.frames + 1, peak)


cdef inline void commit(Search* search) noexcept nogil:
    """3: the W best candidates become the beam. Room in the arenas is reserved; nothing here can fail."""
    cdef Py_ssize_t i, n = search.heap_size
    cdef Candidate worst
    cdef Candidate* chosen
    cdef double least
    while n > 1:
        n -= 1
        worst = search.heap[0]
        search.heap[0] = search.heap[n]
        search.heap[n] = worst
        sink(search.heap, n, 0)
    n = search.heap_size
    least = search.heap[0].total * exp(search.beam_min_logp)
    while n > 1 and search.heap[n - 1].total < least:
        n -= 1
    # Every reference to a span of an old entry is made before any such span is stretched in place.
    for i in range(n):
        chosen = &search.heap[i]
        if chosen.label == NONE:
            enter_again(search, chosen, &search.next_beam[i])
        else:
            enter_new(search, chosen, &search.next_beam[i])
    for i in range(n):
        chosen = &search.heap[i]
        if chosen.label == NONE and search.next_beam[i].span == NONE:
            stretch_span(search, chosen, &search.next_beam[i])
    for i in range(search.size):
        search.tree.nodes[search.beam[i].node].slot = NONE
    for i in range(n):
        search.tree.nodes[search.next_beam[i].node].slot = <int32_t>i
        search.tree.nodes[search.next_beam[i].node].refs += 1
    for i in range(search.size):
        release(&search.tree, search.beam[i].node)
        release_span(&search.tree, search.beam[i].span)
    search.beam, search.next_beam = search.next_beam, search.beam
    search.size = n
    rescale(search)


cdef inline void rescale(Search* search) noexcept nogil:
    cdef Py_ssize_t i
    cdef int power = 0
    if SMALL < search.beam[0].total < LARGE:
        return
    frexp(search.beam[0].total, &power)
    search.exponent += power
    for i in range(search.size):
        search.beam[i].blank = ldexp(search.beam[i].blank, -power)
        search.beam[i].label = ldexp(search.beam[i].label, -power)
        search.beam[i].total = ldexp(search.beam[i].total, -power)


cdef inline int load(Search* search, const float* single, const double* full) noexcept nogil:
    """Read one row into ``x`` and find its maximum; return False where a value is no log-probability."""
    cdef Py_ssize_t c
    cdef double best = -INFINITY
    cdef bint good = True
    search.row_best = 0
    for c in range(search.labels):
        search.x[c] = single[c] if single != NULL else full[c]
        good &= search.x[c] <= TOLERATED          # False for NaN and +inf too
        if search.x[c] > best:
            best = search.x[c]
            search.row_best = c
    search.row_max = best
    return good


cdef inline int step(Search* search) noexcept nogil:
    if search.row_max == -INFINITY:
        return DEAD
    if reserve(&search.tree, search.width, 2 * search.width) < 0:
        return NO_MEMORY
    search.heap_size = 0
    stay(search)
    extend_all(search)
    if search.heap_size == 0:
        return DEAD
    commit(search)
    search.scale += search.row_max
    search.frames += 1
    return DONE
