"""Recurrent kernels driven by hand: a ragged batch of any cell in their layout, arrays poisoned and with a border."""

import math
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import numba
import numpy as np
import pytest

from fastlstm.data.packed import pack
from fastlstm.engine import candidates
from fastlstm.engine.geometry import NO_IDS, BatchShape, Direction, Geometry
from fastlstm.engine.products import times
from fastlstm.engine.weights import pack_backward, pack_weights, rows_in_torch_order
from fastlstm.kernels.cells import gru, lstm, rnn
from fastlstm.kernels.recurrent.bptt import backward_loops
from fastlstm.kernels.recurrent.meeting import PROGRESS_WORDS
from fastlstm.kernels.recurrent.sequence import sequence_loops
from fastlstm.kernels.recurrent.unit_parallel import unit_parallel_loops
from fastlstm.runtime.coordinator import CHUNKS, PARTS, publish
from fastlstm.runtime.pool import DESCRIPTOR_WORDS, MADE, POSTED, WORDS
from fastlstm.threads import set_num_threads
from tests.cell_cases import make_case
from tests.naive import Spec
from tests.tolerances import assert_bitwise_equal

BORDER = 128
"""Elements before and after each array: more than a panel of the widest registers."""

CELLS = {
    "lstm": Spec("lstm"),
    "lstm peephole": Spec("lstm", peephole=True),
    "lstm coupled": Spec("lstm", coupled=True),
    "lstm projection": Spec("lstm", projection=3),
    "gru": Spec("gru"),
    "gru reset before": Spec("gru", reset_after=False),
    "rnn tanh": Spec("rnn"),
    "rnn relu": Spec("rnn", activation="relu"),
}
UNITS = [1, 3, 7, 8, 9, 16, 17, 20, 33, 100]
"""Around halves and multiples of every register, and more than one panel."""

LENGTHS = [3, 1, 5, 4, 2]


def variants(cells, both_types):
    """Parametrise a test over cells in float64, and over some of them in float32."""
    both = [(name, "float64") for name in cells] + [(name, "float32") for name in both_types]
    return pytest.mark.parametrize(("name", "dtype"), both)


# Each variant of a kernel takes 2 to 8 seconds to compile. Where two cells differ in their pointwise functions alone,
# and those are tested with another kernel, one of them is enough.
every_cell = variants(CELLS, ["lstm", "gru"])
every_single_stage = variants(["lstm", "lstm peephole", "gru", "rnn tanh"], ["lstm"])
every_kind_of_step = variants(["lstm", "lstm projection", "gru", "gru reset before"], ["lstm"])


def cell_of(spec):
    """Return the library's cell of a spec."""
    if spec.kind == "gru":
        return gru(spec.activation, spec.recurrent_activation, spec.reset_after)
    if spec.kind == "rnn":
        return rnn(spec.activation)
    options = spec.peephole, spec.coupled, spec.projection is not None
    return lstm(spec.activation, spec.recurrent_activation, *options)


class Arrays:
    """Arrays that hold NaN at first, each between borders: a value that is written beside one is found."""

    canary = 1234.5

    def __init__(self):
        self._memory = []

    def new(self, shape, dtype, fill=np.nan):
        """Return an array of `fill`."""
        size = math.prod(shape)
        memory = np.full(size + 2 * BORDER, self.canary, dtype)
        self._memory.append(memory)
        inner = memory[BORDER : BORDER + size].reshape(shape)
        inner[...] = fill
        return inner

    def copy(self, values):
        """Return a copy of an array."""
        return self.new(values.shape, values.dtype, values)

    def check(self):
        """Fail where a border was written to."""
        for memory in self._memory:
            assert (memory[:BORDER] == self.canary).all(), "written before the start of an array"
            assert (memory[-BORDER:] == self.canary).all(), "written beyond the end of an array"

    def temporary(self, size, dtype):
        """Stand for `fastlstm.runtime.workspace.temporary`."""
        arrays = self

        class Lent:
            def __enter__(self):
                return arrays.new((size,), dtype)

            def __exit__(self, *_):
                arrays.check()

        return Lent()


class Batch:
    """A case in the kernels' layout, longest sequence first. Each method runs a kernel and returns what it left."""

    def __init__(self, name, dtype, lengths=LENGTHS, units=20, features=5, seed=0, arrays=None):
        self.spec, self.dtype = CELLS[name], np.dtype(dtype)
        if self.spec.projection and units <= self.spec.projection:
            self.spec = self.spec._replace(projection=units)
        self.case = make_case(self.spec, sorted(lengths, reverse=True), features, units, seed)
        self.cell, self.arrays = cell_of(self.spec), arrays or Arrays()
        width = self.spec.projection or units
        self.geometry = Geometry(self.cell, units, features, width, self.dtype)
        packed, _ = pack(self.case.xs, features=True, dtype=dtype)
        self.shape = BatchShape.of(packed)
        self.batch_sizes, self.count, self.rows = self.shape.batch_sizes, self.shape.sequences, self.shape.total
        self.units, self.features, self.width = units, features, width
        self.x = self.arrays.copy(packed.rows)
        self.params = {key: value.astype(dtype) for key, value in self.case.weights.items()}
        self.states = [part.astype(dtype) for part in self.case.states]
        self.weights = type(w := pack_weights(self.geometry, self.params))(*(self.arrays.copy(part) for part in w))
        self.kernel_weights = tuple(self.weights[:3] if self.cell.plain else self.weights)

    @property
    def last(self):
        """The rows of each sequence's last step."""
        return np.arange(self.rows)[self.shape.last_rows()]

    def rows_of_sequences(self):
        """Return the rows of each sequence, in packed order."""
        offsets = np.concatenate(([0], np.cumsum(self.batch_sizes)))
        return [
            np.array([offsets[t] + n for t, alive in enumerate(self.batch_sizes) if alive > n])
            for n in range(self.count)
        ]

    def new(self, *shape, fill=np.nan):
        return self.arrays.new(shape, self.dtype, fill)

    def hidden(self):
        """Return the array of h with h0 in its first rows."""
        hidden = self.new(self.count + self.rows, self.width)
        hidden[: self.count] = self.states[0]
        return hidden

    def cells(self, rows):
        """Return the array of c, so many rows, with c0 in its first ones."""
        if not self.cell.has_cell:
            return self.new(0, self.geometry.padded_units)
        cells = self.new(rows, self.geometry.padded_units)
        cells[: self.count] = 0.0
        cells[: self.count, : self.units] = self.states[1]
        return cells

    # --- one core ---------------------------------------------------------------------------------------------------

    def forward(self, parts=None, mask=None):
        """Return gates, apart, hidden and cells, as training keeps them; sequences in parts with these bounds."""
        geometry = self.geometry
        gates = self.new(self.rows, geometry.gate_columns)
        times(self.x, self.weights.input, self.weights.bias, gates, self.cell.columns)
        apart = self.new(self.rows, geometry.apart_columns(True))
        hidden, cells = self.hidden(), self.cells(self.count + self.rows)
        masks = 0 if mask is None else len(mask)
        dropout = (
            self.new(masks, self.width, fill=0.0 if mask is None else mask),
            self.new(len(hidden) if masks else 0, self.width),
        )
        for begin, end in pairwise(parts or [0, self.count]):
            sequence_loops(self.cell).forward(
                *(gates, apart, hidden, cells, self.units, self.batch_sizes, self.weights[2:], dropout, begin, end)
            )
        self.arrays.check()
        return gates, apart, hidden, cells

    def infer(self, parts=None, height=0):
        """Return hidden and the final cells; `height` is that of a chunk."""
        hidden, cells = self.hidden(), self.cells(self.count)
        for begin, end in pairwise(parts or [0, self.count]):
            self.run_infer((self.x.reshape(-1), 0, 0, 0), NO_IDS, (hidden, False), cells, height, (begin, end))
        return hidden, cells

    def run_infer(self, x, ids, hidden, cells, height, part, width=None):
        """Call the kernel of inference."""
        values, reverse_out = hidden
        height = max(height, part[1] - part[0], 1)
        columns = self.geometry.gate_columns + (self.features if x[2] == 0 and not len(ids) else 0)
        scratch = self.new(height * columns + (part[1] - part[0]) * self.geometry.apart_columns(False))
        sequence_loops(self.cell).infer(
            *(x, self.features, ids, (values.reshape(-1), width or self.width, self.width, reverse_out)),
            *(cells.reshape(-1), self.units, self.batch_sizes, self.kernel_weights, height, scratch, *part),
        )
        self.arrays.check()

    def gradients(self):
        """Return dy (M, P), with the gradient of the final h in its rows, and dc (N, B * L)."""
        dy, dc = self.new(self.rows, self.width), self.new(self.count, self.geometry.padded_units, fill=0.0)
        for n, rows in enumerate(self.rows_of_sequences()):
            dy[rows] = self.case.dys[n]
            dy[rows[-1]] += self.case.d_finals[0][n].astype(self.dtype)
        if self.cell.has_cell:
            dc[:, : self.units] = self.case.d_finals[1]
        return dy, dc

    def backward(self, parts=None, mask=None):
        """Return the gradients of the pre-activations, what stands apart, and what is carried to before step 0."""
        gates, apart, hidden, cells = self.forward(mask=mask)
        dy, dc = self.gradients()
        dh = self.new(self.count, self.geometry.padded_units)
        dh[:, self.units :] = 0.0
        masks = self.new(0 if mask is None else len(mask), self.width, fill=0.0 if mask is None else mask)
        for begin, end in pairwise(parts or [0, self.count]):
            backward_loops(self.cell).backward(
                *(gates, apart, dy, hidden, cells, (dc, dh), self.units, self.batch_sizes, self.backward_weights()),
                *(masks, begin, end),
            )
        self.arrays.check()
        return gates, apart, dc

    def backward_weights(self):
        """Return what BPTT reads besides."""
        take = lambda name, shape, dtype: self.new(*shape)  # noqa: E731
        return tuple(self.arrays.copy(part) for part in pack_backward(self.geometry, self.params, take, True))

    def in_torch_order(self, rows):
        """Return (M, G, H) of rows in blocks."""
        flat = rows_in_torch_order(
            self.geometry, rows, np.empty((len(rows), self.geometry.gates * self.units), rows.dtype)
        )
        return flat.reshape(len(rows), self.geometry.gates, self.units)

    # --- cores that share units, one after the other -----------------------------------------------------------------

    def forward_by_units(self, bounds, height, run, keep=True):
        """Return gates, apart, hidden and cells as the cores that `run` names leave them, one after the other."""
        geometry, rows = self.geometry, self.rows if keep else 0
        hidden, cells = self.hidden(), self.cells(self.count + self.rows)
        gates, apart = self.new(rows, geometry.gate_columns), self.new(rows, geometry.apart_columns(True))
        progress = np.zeros((len(bounds) - 1) * PROGRESS_WORDS, np.int64)
        width = geometry.panel_width
        size = (height + self.count) * max(np.diff(bounds)) * width + self.count * width * self.cell.is_apart
        for part in run:
            unit_parallel_loops(self.cell).forward(
                *(self.x, hidden, cells, self.units, self.batch_sizes, tuple(self.weights[:5])),
                *((gates.reshape(-1), apart.reshape(-1)), (np.array(bounds), progress), height),
                *(self.new(size), bounds[part], bounds[part + 1]),
            )
            self.arrays.check()
        return gates, apart, hidden, cells

    def backward_by_units(self, bounds, run):
        """Return what `backward` does, as the cores that `run` names leave it, one after the other."""
        saved = self.forward()
        dy, dc = self.gradients()
        da, da_apart = (self.new(*part.shape) for part in saved[:2])
        dcs = self.new(self.rows, self.geometry.padded_units)
        progress = np.zeros((len(bounds) - 1) * PROGRESS_WORDS, np.int64)
        for part in run:
            scratch = self.new(self.count * self.geometry.padded_units, fill=0.0)
            unit_parallel_loops(self.cell).backward(
                *(saved, dy, self.units, self.batch_sizes, dc, self.backward_weights()[:2], (da, da_apart, dcs)),
                *((np.array(bounds), progress), scratch, bounds[part], bounds[part + 1]),
            )
            self.arrays.check()
        return da, da_apart, dcs[: self.count]

    def known(self, values):
        """Return an array without the columns of padding units, whose values are of no use."""
        return values[:, : self.units] if values.shape[1] == self.geometry.padded_units else values

    def assert_same(self, found, expected, what=("h", "c")):
        """Compare arrays bit for bit, but for padding units."""
        for name, part, whole in zip(what, found, expected, strict=True):
            assert_bitwise_equal(self.known(part), self.known(whole), what=name)

    # --- coordinated plans ------------------------------------------------------------------------------------------

    def direction(self, time_major=True, backwards=False):
        """Return a dense batch as a plan runs it."""
        steps, features = len(self.batch_sizes), self.features
        x = self.x if time_major else self.arrays.copy(self.x.reshape(steps, self.count, features).swapaxes(0, 1))
        step, sequence = (self.count * features, features) if time_major else (features, steps * features)
        source = (
            (x.reshape(-1), (steps - 1) * step, -step, sequence) if backwards else (x.reshape(-1), 0, step, sequence)
        )
        hidden = self.hidden()
        return hidden, Direction(
            source, NO_IDS, (hidden.reshape(-1), self.width, self.width, False), self.cells(self.count), self.weights
        )


@numba.njit(nogil=True)
def publish_all(words, descriptor, next_descriptor):
    """Publish the chunks of a descriptor for all cores."""
    publish(words, descriptor, next_descriptor, 0)


class Coordinated:
    """A coordinated plan for a batch (two: both directions) on so many cores, with words of its own."""

    def __init__(self, plan, batches, cores, time_major=True, worker=None):
        self.batch, self.cores = batches[0], cores
        set_num_threads(cores)
        made = [other.direction(time_major, bool(place)) for place, other in enumerate(batches)]
        self.hidden, self.directions = [hidden for hidden, _ in made], [direction for _, direction in made]
        self.starts = [(hidden.copy(), direction.cells.copy()) for hidden, direction in made]
        self.plan = plan(self.batch.geometry, self.batch.shape, self.directions, 1e9)
        self.kernel, workers_by = plan.kernels(self.batch.cell)
        self.worker = worker or workers_by[0]
        self.like = np.empty(1, self.batch.dtype)
        self.words = np.zeros(max(cores, 2) * WORDS, np.int64)
        self.descriptor = np.zeros(DESCRIPTOR_WORDS, np.int64)
        self.worker(self.words, self.descriptor, self.descriptor, self.like, 1, 1, 0)  # compiled before it matters

    def run(self, monkeypatch, how):
        """Run all steps; return hidden and the final cells of each direction. `how` is one of these.

        "together": the coordinator, with workers if there are any; "alone": the coordinator without workers; "by a
        worker": the second core takes all chunks, here; "by workers": those of `workers` take all.
        """
        for hidden, direction, (h, c) in zip(self.hidden, self.directions, self.starts, strict=True):
            hidden[...], direction.cells[...] = h, c
        with monkeypatch.context() as patch:
            patch.setattr(candidates, "temporary", self.batch.arrays.temporary)
            self.plan.run(self.directions, lambda words, workers: self._coordinate(words, workers, how))
        self.batch.arrays.check()
        return [(hidden, direction.cells) for hidden, direction in zip(self.hidden, self.directions, strict=True)]

    def _coordinate(self, descriptor, workers, how):
        assert workers < self.cores
        words, mine = self.words, self.descriptor
        if how in ("together", "alone"):
            self.kernel(words, mine, descriptor, self.like, 0, int(how == "alone"), 0)
            return
        publish_all(words, mine, descriptor)
        if how == "by a worker":
            self.worker(words, mine, mine, self.like, 1, 1, 10)
        until = time.monotonic() + 30
        parts = slice(MADE, mine[PARTS] * WORDS, WORDS)
        while (words[parts] < mine[CHUNKS]).any() and time.monotonic() < until:
            time.sleep(0)
        assert (words[parts] == mine[CHUNKS]).all(), "not all chunks were done"

    @contextmanager
    def workers(self):
        """Let workers take chunks, in threads of their own."""
        running = [threading.Thread(target=self._work, args=(row,), daemon=True) for row in range(1, self.cores)]
        for thread in running:
            thread.start()
        try:
            yield
        finally:
            self.words[POSTED::WORDS] = 1
            for thread in running:
                thread.join(10)
                assert not thread.is_alive(), "a worker did not leave when it was told to"
            self.words[POSTED::WORDS] = 0

    def _work(self, row):
        self.worker(self.words, self.descriptor, self.descriptor, self.like, row, 1, 1 << 40)
