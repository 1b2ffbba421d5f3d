"""What a beam search holds, as C structs, and the two things every part of it does: read a score, keep a candidate.

Words: a *lane* is one independent beam (a sequence, or one group of a sequence in diverse beam search) of at
most ``width`` live beams; a *row* is a row of the logits the step function returned. Except at the first step,
where all lanes of a sequence share its one row, row ``r`` belongs to exactly one live beam. A *node* is a chosen
id with a link to the node before it; a hypothesis is read back from its last node.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t

from common.heap cimport Candidate, better, sift_down, sift_up

cdef enum:
    IS_END = 1       # bits of Search.mask
    IS_BANNED = 2


cdef struct Live:
    double total          # what it is ranked by
    double logprob        # the model's own
    double bonus          # added to the score of what ends here
    int64_t row           # in the matrix at hand
    int64_t node          # its last, or -1
    int64_t parent        # row of its parent in the matrix just used


cdef struct Ended:
    double score
    double logprob
    int64_t node
    int64_t id            # -1: cut off


cdef struct Search:
    Py_ssize_t lanes
    Py_ssize_t groups            # lanes of a sequence
    Py_ssize_t width             # of a lane
    Py_ssize_t vocab
    Py_ssize_t step              # ids that every live beam has
    Py_ssize_t rows
    Py_ssize_t max_length
    Py_ssize_t min_length
    Py_ssize_t ngram
    double alpha
    double diversity
    bint power_length
    bint normalized
    int stopping
    Live* beams                  # (lanes, width), best first
    int64_t* n_live              # (lanes,)
    uint8_t* done                # (lanes,)
    int64_t* place               # (lanes * width,) where in beams the live beam of each row of the matrix stands
    Live* following              # (width,) the next live beams of the lane at hand
    Ended* ended                 # (lanes, width), best first
    int64_t* n_ended             # (lanes,)
    int64_t* node_parent         # (n_nodes, with room for a step's)
    int64_t* node_id
    Py_ssize_t n_nodes
    const void* data             # (rows, vocab) the matrix at hand
    bint wide                    # it is float64
    void* maxima                 # (rows, n_columns) see rows.h
    Py_ssize_t n_columns
    double* lse                  # (rows,) log sum exp
    const uint8_t* may_end       # (rows,) or NULL
    const double* bonus          # (rows,) or NULL
    const int64_t* allow_from    # (rows,) or NULL: row r may choose among allow_ids[from[r]:to[r]], < 0: any
    const int64_t* allow_to
    const int64_t* allow_ids
    int64_t* ends
    Py_ssize_t n_ends
    uint8_t* mask                # (vocab,) IS_END | IS_BANNED
    int64_t* marked              # (vocab,) the ids that are IS_BANNED now
    Py_ssize_t n_marked
    double* penalty              # (vocab,) what earlier groups' choices cost
    int64_t* ban_from            # (n_phrases + 1,) and ban_ids: banned phrases, one after the other
    int64_t* ban_ids
    Py_ssize_t n_phrases
    int64_t* history             # (lanes, width, history_room) the ids of each live beam; only where ngram > 0
    int64_t* next_history
    Py_ssize_t history_room
    Candidate* candidates        # (width,) ids that go on: a heap of the best ``room``
    Py_ssize_t n_candidates
    Py_ssize_t room
    Candidate* end_candidates    # (width * n_ends,)
    Py_ssize_t n_end_candidates


cdef inline double log_p(const Search* search, Py_ssize_t r, Py_ssize_t i) noexcept nogil:
    if search.wide:
        return (<const double*>search.data)[r * search.vocab + i] - search.lse[r]
    return <double>(<const float*>search.data)[r * search.vocab + i] - search.lse[r]


cdef inline void offer(Search* search, double score, Py_ssize_t slot, Py_ssize_t i) noexcept nogil:
    """Put a candidate into the heap of the lane if it is among the best ``room`` so far."""
    cdef Candidate candidate
    candidate.score, candidate.slot, candidate.id = score, slot, i
    if search.n_candidates < search.room:
        search.candidates[search.n_candidates] = candidate
        sift_up(search.candidates, search.n_candidates)
        search.n_candidates += 1
    elif better(&candidate, search.candidates):
        search.candidates[0] = candidate
        sift_down(search.candidates, search.n_candidates, 0)


cdef inline void offer_end(Search* search, double score, Py_ssize_t slot, Py_ssize_t i) noexcept nogil:
    if score > -INFINITY:
        search.end_candidates[search.n_end_candidates].score = score
        search.end_candidates[search.n_end_candidates].slot = slot
        search.end_candidates[search.n_end_candidates].id = i
        search.n_end_candidates += 1
