"""Attention of query steps over the memory steps of the same pair of sequences, forward and back.

For one pair, with a row q_t for each query step, and for each memory step a row k_s, the key, and a row v_s, the
value::

    1  e_ts = q_t . k_s                       dot;  u . tanh(q_t + k_s)  additive
    2  a_ts = exp(e_ts) / sum over s of exp(e_ts)
    3  c_t  = sum over s of a_ts m_ts v_s     m: what dropout left of the weight; 1 without it

Only true steps are read: there is no masking, and no -inf. Every sum is a chain that depends on the sizes of its own
pair alone: sums over features go lane by lane (`simd.dots`), those over steps in the order of the steps. So a pair has
the same bits in any batch, a query step has the same bits alone as among others, and the split over cores changes
nothing.

Letters: N pairs, M query rows of the batch, S steps of its longest memory; E features of queries and keys, F of values.
"""

from .backward import attend_backward
from .forward import attend
from .rows import QUERY_BLOCK, BackwardScratch, Pairs, Scratch, scratch_for

__all__ = ["QUERY_BLOCK", "BackwardScratch", "Pairs", "Scratch", "attend", "attend_backward", "scratch_for"]
