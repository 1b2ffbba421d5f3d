"""Every tuned number: its unit, what it decides, and the benchmark that measures it.

``TUNED`` is one frozen object. Tests replace numbers by ``with tuned(name=value):``, which also forgets what was
derived from the old ones. Numbers marked "compiled in" are parts of kernels: to change one here compiles them again.

``python -m bench.tune`` measures those that depend on the machine, and prints what it would change.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

__all__ = ["TUNED", "Config", "describe", "forget_with", "tuned"]


def _number(value: Any, unit: str, benchmark: str, decides: str) -> Any:
    """Return the field of one tuned number."""
    return field(default=value, metadata={"unit": unit, "benchmark": benchmark, "decides": decides})


_Range = tuple[float, float]
_Pair = tuple[int, int]


@dataclass(frozen=True)
class Config:
    """The tuned numbers. `describe` lists them with their meaning. Work is estimated in ns on one core."""

    # --- the thread pool --------------------------------------------------------------------------------------------
    serial_below_ns: float = _number(60_000.0, "ns", "inference", "a call with less work never asks for other cores")
    pool_from_ns: float = _number(300_000.0, "ns", "inference", "a call with more work wakes parked threads")
    pool_awake_from_ns: float = _number(120_000.0, "ns", "inference", "a call with more work uses threads that spin")
    pool_above_ns: float = _number(1e6, "ns", "inference", "the pool takes more work while coordination backs off")
    calls_close_s: float = _number(150e-6, "s", "inference", "calls so close wake threads for less work")
    same_call_s: float = _number(20e-6, "s", "inference", "a second question so soon comes from the same call")
    pool_spins: int = _number(5000, "looks of 20 ns", "inference", "looks for a job, or its end, before a thread parks")
    yield_every: int = _number(128, "looks; compiled in", "generation", "a spinning core then lets others run")
    hand_over_spins: int = _number(500, "looks", "inference", "a caller waits so long for a worker to have the GIL")
    hand_over_settle: int = _number(100, "looks", "inference", "and then so long for the worker to give it back")

    # --- coordination without the GIL ---------------------------------------------------------------------------------
    most_workers: int = _number(15, "threads", "none", "workers that take chunks: more spend their time in telling")
    worker_spins: int = _number(20_000, "looks of 20 ns", "generation", "looks of a worker for its next chunk")
    close_work_s: float = _number(300e-6, "s", "streaming", "small work that follows work so closely wakes workers")
    loss_budget_s: float = _number(0.004, "s", "streaming", "coordination that lost so much time backs off")
    back_off_s: _Range = _number((0.02, 1.0), "s", "streaming", "and for so long, at first and at most")
    measured_alone: _Pair = _number((3, 256), "calls", "streaming", "the first, and then every so many, run alone")
    coordination_ns: float = _number(
        12_000.0, "ns", "inference", "what coordinated work has to save: its cost in Python"
    )

    # --- the autotuner ------------------------------------------------------------------------------------------------
    warmup_calls: int = _number(2, "calls", "start-up", "first calls of a shape class that run plainly")
    trials: int = _number(4, "calls", "inference", "trials of each plan, 2 or more: the first does not count")
    retune_s: _Range = _number(
        (0.05, 3.0), "s", "inference", "plans are tried again after so long, at first and at most"
    )
    keep_within: float = _number(1.5, "times the best", "inference", "plans up to here are tried again in the long run")
    trial_decay: float = _number(1.1, "factor", "none", "an earlier trial's time grows by this")
    shape_classes: int = _number(64, "classes", "none", "shape classes that a layer remembers at most")

    # --- execution plans ----------------------------------------------------------------------------------------------
    ns_per_multiply: float = _number(0.08, "ns", "inference", "estimate: four gates of one unit by one input")
    units_overhead: int = _number(32, "inputs", "inference", "estimate: a unit's pointwise work, as so many inputs")
    coordinate_from_ns: float = _number(25_000.0, "ns", "inference", "less work is not coordinated")
    coordinate_to_ns: float = _number(1e7, "ns", "inference", "more work is not coordinated where sequences are shared")
    measure_to_ns: float = _number(2e8, "ns", "inference", "nor is more where few sequences may share units")
    ns_per_core: float = _number(30_000.0, "ns", "inference", "each of more than two cores gets so much at least")
    meeting_us: float = _number(0.8, "us", "inference", "estimate: cores meet after a step")
    try_within: float = _number(1.25, "times the best", "inference", "plans with estimates up to here are tried")
    rows_cost: tuple[float, ...] = _number((1.5, 1.2, 1.0, 0.95), "factor", "inference", "of a row among 1, 2, 3, more")
    pipeline_gates: int = _number(1 << 21, "gate values", "inference", "larger batches do not prepare inputs ahead")
    unit_parallel_steps: _Pair = _number((3, 8), "steps", "inference", "least to share units: coordinated, by the pool")
    few_sequences: _Pair = _number((4, 6), "sequences", "inference", "cores share sequences from here on; on two cores")
    unit_parallel_weights: int = _number(1 << 17, "weights", "inference", "the pool does not share smaller W_hh")
    step_ns_per_core: float = _number(10_000.0, "ns", "streaming", "each core gets so much of a step at least")
    step_chunk_ns: float = _number(3_000.0, "ns", "streaming", "each chunk is so much of a step at least")
    step_chunks: int = _number(8, "chunks", "streaming", "chunks of a step for each core at most")
    ns_per_byte: float = _number(0.0125, "ns", "streaming", "estimate: reading weights from the L3 cache")
    patience_ahead: int = _number(500, "looks; compiled in", "inference", "then a late chunk of inputs is done again")
    patience_meeting: int = _number(
        1000, "looks; compiled in", "inference", "then a late share of a step is done again"
    )
    weights_per_look: int = _number(256, "weights; compiled in", "inference", "large shares have a look more for each")
    steps_per_chunk: int = _number(12, "steps; compiled in", "inference", "steps whose inputs are one chunk")

    # --- products and memory ------------------------------------------------------------------------------------------
    chunk_gates: int = _number(1 << 17, "gate values", "inference", "inputs computed at once, for the L2 cache")
    row_block: int = _number(
        256, "rows; compiled in", "training", "summed at once in weight gradients, for the L2 cache"
    )
    left_block: _Pair = _number(
        (1 << 15, 1 << 17), "values; compiled in", "inference", "of A, for L2; of a large B's A"
    )
    large_operand: int = _number(1 << 19, "values; compiled in", "inference", "a larger B leaves L2: fetched early")
    k_block: int = _number(1024, "rows; compiled in", "training", "of a long panel that are multiplied at once")
    left_columns: int = _number(48, "columns; compiled in", "training", "of A that weight gradients pack at once")
    ns_per_moved: float = _number(0.1, "ns", "none", "estimate: bringing one value of a pair's rows together, or back")
    tanh_flops: float = _number(15.0, "multiply-adds", "none", "estimate: a tanh in an additive score")
    together_bytes: int = _number(768 << 10, "bytes", "training", "both weight gradients in one pass up to here")
    window_values: int = _number(1 << 18, "values", "none", "gathered at once for a convolution's weight gradient")
    narrow_features: int = _number(16, "features", "none", "up to here the input's gradient is gathered from products")
    kept_taps: int = _number(1 << 14, "taps", "none", "of a dense batch: up to here they are kept for the next one")
    ns_per_flop: float = _number(0.01, "ns", "training", "estimate: one of the two operations of a multiply-add")
    ns_per_copy: float = _number(0.7, "ns", "training", "estimate: packing one value")
    ctc_kept: int = _number(1 << 19, "float64", "ctc_loss", "a longer sequence goes through CTC's forward pass twice")
    stream_table_bytes: int = _number(16 << 20, "bytes", "generation", "products of a table that a stream keeps")
    few_ids: int = _number(16, "ids", "generation", "Python compares so few sooner than NumPy does")
    small_bytes: int = _number(2048, "bytes", "inference", "smaller arrays need not begin on a cache line")
    spare_buffers: _Pair = _number(
        (4, 8 << 20), "buffers, bytes", "inference", "scratch that is kept for the next call"
    )


TUNED = Config()

_derived: list[Callable[[], None]] = []


def forget_with(forget: Callable[[], None]) -> None:
    """Register what forgets values that were derived from the tuned numbers, such as a cache's ``cache_clear``."""
    _derived.append(forget)


@contextmanager
def tuned(**numbers: Any) -> Iterator[None]:
    """Replace tuned numbers for the time of a ``with`` block, in all threads: for tests and benchmarks."""
    global TUNED
    before = TUNED
    TUNED = replace(before, **numbers)
    for forget in _derived:
        forget()
    try:
        yield
    finally:
        TUNED = before
        for forget in _derived:
            forget()


def describe() -> list[tuple[str, Any, str, str, str]]:
    """Return name, value, unit, meaning and benchmark of every tuned number."""
    return [
        (
            item.name,
            getattr(TUNED, item.name),
            item.metadata["unit"],
            item.metadata["decides"],
            item.metadata["benchmark"],
        )
        for item in fields(Config)
    ]
