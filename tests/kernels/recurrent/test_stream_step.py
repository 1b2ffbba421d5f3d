"""Single steps whose units cores share: the bits of the same step of a whole sequence, whichever core takes a chunk."""

import threading

import numpy as np
import pytest

from fastlstm.engine.recurrence import Recurrence
from fastlstm.engine.stepping import Stepper
from fastlstm.kernels.recurrent.stream_step import worker_loop
from fastlstm.runtime.config import tuned
from fastlstm.runtime.coordinator import CHUNKS, PARTS
from fastlstm.runtime.pool import DESCRIPTOR_WORDS, POSTED, WORDS
from fastlstm.threads import set_num_threads
from tests.kernels.recurrent.harness import Batch, publish_all, variants
from tests.tolerances import assert_bitwise_equal

STEPS = 6
of_the_worker_loop = variants(["lstm", "gru", "rnn tanh"], ["lstm"])


class ByHand:
    """Stands for a stepper's coordinator: `how` says which core takes the chunks."""

    def __init__(self, cell, dtype, cores):
        self.kernel, self.like, self.how = worker_loop(cell), np.empty(1, dtype), "together"
        self.words, self.descriptor = np.zeros(cores * WORDS, np.int64), np.zeros(DESCRIPTOR_WORDS, np.int64)
        self.kernel(self.words, self.descriptor, self.descriptor, self.like, 1, 1, 0)  # compiled before it matters
        self.shapes = set()

    def run(self, descriptor, workers, cost):
        self.shapes.add((int(descriptor[PARTS]), int(descriptor[CHUNKS])))
        assert workers == descriptor[PARTS] - 1
        arguments = self.words, self.descriptor
        if self.how == "by a worker":
            publish_all(*arguments, descriptor)
            self.kernel(*arguments, self.descriptor, self.like, 1, 1, 10)
        else:
            self.kernel(*arguments, descriptor, self.like, 0, int(self.how == "alone"), 0)


def stepper_of(name, dtype, count, units):
    """Return a batch of whole sequences, what it gives, and a stepper with the same weights and start states."""
    batch = Batch(name, dtype, [STEPS] * count, units)
    stepper = Stepper(Recurrence(batch.geometry, batch.params), count)
    start(batch, stepper)
    return batch, batch.infer(), stepper


def start(batch, stepper):
    """Let the stepper begin at the batch's start states."""
    for part, value in zip(stepper.state, batch.states, strict=True):
        part[...] = value


def by_hand(batch, stepper, cores):
    """Put a stand-in for the stepper's coordinator in its place."""
    stepper._coordinator = ByHand(batch.cell, batch.dtype, cores)
    return stepper._coordinator


def sharing(cores, chunks):
    """Let every step be shared, in so many chunks a core."""
    set_num_threads(cores)
    return tuned(step_ns_per_core=1e-3, step_chunk_ns=1e-3, step_chunks=chunks)


@pytest.mark.parametrize("how", ["together", "alone", "by a worker"])
@pytest.mark.parametrize(("cores", "chunks"), [(2, 1), (3, 1), (2, 4)])
@pytest.mark.parametrize(("count", "units"), [(1, 100), (3, 300)])
@of_the_worker_loop
def test_steps_have_the_bits_of_whole_sequences(name, dtype, count, units, cores, chunks, how):
    with sharing(cores, chunks):
        batch, (hidden, last), stepper = stepper_of(name, dtype, count, units)
        hand = by_hand(batch, stepper, cores)
        hand.how = how
        for t in range(STEPS):
            y = stepper.step(batch.x[t * count : (t + 1) * count])
            assert_bitwise_equal(y, hidden[(t + 1) * count : (t + 2) * count], what=f"h of step {t}")
        assert_bitwise_equal(stepper.state[0], hidden[-count:])
        if batch.cell.has_cell:
            assert_bitwise_equal(stepper.state[1], last[:, :units], what="final c")
    panels = batch.geometry.panels
    parts = min(cores, panels)
    assert hand.shapes == ({(parts, min(chunks, panels // parts))} if parts > 1 else set()), "not what is to be tested"


@pytest.mark.parametrize("how", ["together", "by a worker"])
@of_the_worker_loop
def test_inputs_of_a_table_by_id_too(name, dtype, how, rng):
    count, units = 3, 300
    with sharing(2, 2):
        batch, _, stepper = stepper_of(name, dtype, count, units)
        hand = by_hand(batch, stepper, 2)
        hand.how = how
        table, ids = batch.x[:7].copy(), rng.integers(0, 7, len(batch.x))
        batch.x[...] = table[ids]
        hidden, _ = batch.infer()
        for t in range(STEPS):
            y = stepper.step_of_table(ids[t * count : (t + 1) * count], table, "one version")
            assert_bitwise_equal(y, hidden[(t + 1) * count : (t + 2) * count], what=f"h of step {t}")
    assert hand.shapes == {(2, 2)} or batch.geometry.panels < 4


@pytest.mark.parametrize(("name", "dtype"), [("lstm", "float64"), ("gru", "float64")])
def test_with_workers_who_claim_what_they_can(name, dtype):
    cores = 3
    with sharing(cores, 4):
        batch, (hidden, _), stepper = stepper_of(name, dtype, 1, 300)
        hand = by_hand(batch, stepper, cores)
        arguments = hand.words, hand.descriptor, hand.descriptor, hand.like
        workers = [
            threading.Thread(target=hand.kernel, args=(*arguments, row, 1, 1 << 40), daemon=True)
            for row in range(1, cores)
        ]
        for worker in workers:
            worker.start()
        for _ in range(100):
            start(batch, stepper)
            for t in range(STEPS):
                assert_bitwise_equal(stepper.step(batch.x[t : t + 1]), hidden[t + 1 : t + 2])
        hand.words[POSTED::WORDS] = 1
        for worker in workers:
            worker.join(10)
            assert not worker.is_alive()


@pytest.mark.parametrize("name", ["lstm", "lstm projection", "gru", "gru reset before", "rnn relu"])
def test_a_step_on_one_core_has_the_bits_of_whole_sequences(name):
    set_num_threads(1)
    batch, (hidden, last), stepper = stepper_of(name, "float64", 2, 20)
    for t in range(STEPS):
        assert_bitwise_equal(stepper.step(batch.x[2 * t : 2 * t + 2]), hidden[2 * t + 2 : 2 * t + 4])
    if batch.cell.has_cell:
        assert_bitwise_equal(stepper.state[1], last[:, :20])
