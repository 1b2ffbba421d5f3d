"""The figures of decisions about kernels, data and memory; `bench.decisions` writes them to their pages."""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import fastlstm as fl
from fastlstm.benchmark.short import clock
from fastlstm.data.packed import pack
from fastlstm.engine.geometry import Geometry
from fastlstm.engine.products import padded_bias, panels_of, times
from fastlstm.engine.recurrence import Recurrence
from fastlstm.kernels import cells
from fastlstm.kernels.cells.lstm import _general  # the formulas that the plain LSTM's fractions replace
from fastlstm.layers.base import PassContext
from fastlstm.runtime.workspace import Workspace
from fastlstm.simd.denormals import flush, restore
from fastlstm.simd.host import REGISTERS
from fastlstm.simd.vector import fma, load, store

from .measured_sharing import Measure, Table
from .settings import AUTOMATIC, SERIAL, Setting, Shape, infer, inputs, median_times, recurrent, training_step
from .test_startup import process

__all__ = ["MEASURES"]

Calls = dict[str, tuple[Setting, Callable[[], Any]]]


def _ratio(numerator: float, denominator: float) -> str:
    return f"{numerator / denominator:.2f}"


def _compared(head: str, rows: dict[str, Calls], seconds: float) -> Table:
    """Return a row of times for each problem, and the last one over the first."""
    shown = []
    names: tuple[str, ...] = ()
    for label, calls in rows.items():
        found = median_times(calls, seconds)
        names = tuple(calls)
        shown.append((label, *(clock(found[name]) for name in names), _ratio(found[names[-1]], found[names[0]])))
    return Table((head, *names, f"{names[-1]} / {names[0]}"), shown)


# --- data -----------------------------------------------------------------------------------------------------------


def batches_read_in_place(tiny: bool) -> Table:
    """Measure inference on an array (N, T, D) as it is, and on a time-major copy that is made first."""
    shapes = [(32, 100, 128, 128), (16, 100, 400, 32), (128, 35, 64, 64), (256, 100, 300, 32)]
    rows: dict[str, Calls] = {}
    for shape in [Shape(2, 3, 4, 5)] if tiny else [Shape(*shape) for shape in shapes]:
        layer, x = recurrent(shape), inputs(shape)

        def copied(layer: Any = layer, x: Any = x) -> Any:
            return layer(np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1))

        rows[str(shape)] = {
            "in place": (AUTOMATIC, lambda layer=layer, x=x: layer(x)),
            "copied first": (AUTOMATIC, copied),
        }
    return _compared("N,T,D,H", rows, 0.05 if tiny else 0.5)


def projected_table(tiny: bool) -> Table:
    """Measure an embedding and an LSTM, with the projected table and with rows that are looked up."""
    names = "projected table", "rows looked up"
    rows: dict[str, Calls] = {}
    count, steps, words, features, units = (2, 8, 5, 4, 4) if tiny else (32, 64, 96, 128, 256)
    table = fl.Embedding(words, features)
    table.build(0, rng=0)
    layer = recurrent(Shape(count, steps, features, units))
    ids = np.random.default_rng(0).integers(0, words, (count, steps))
    packed, _ = pack(ids, None, features=False, dtype=None, who="bench")
    workspace = Workspace()
    dy = np.ones((count * steps, units), np.float32)

    def run(gathers: bool, training: bool) -> None:
        context = PassContext(training, workspace=workspace)
        x, cache = table.forward(packed, context)
        rows_of = x if gathers else x.with_rows(x.rows)
        _, lstm_cache = layer.forward(rows_of, context)
        if training:
            dx, _ = layer.backward(dy.copy(), lstm_cache, context)
            table.backward(dx, cache, context)

    for kind, training in (("inference", False), ("forward and backward", True)):
        rows[f"{kind}, N,T,D,H = {count},{steps},{features},{units}, V = {words}"] = {
            name: (AUTOMATIC, lambda gathers=name == names[0], training=training: run(gathers, training))
            for name in names
        }
    streams: Calls = {}
    for name, setting in zip(names, (AUTOMATIC, Setting(numbers={"stream_table_bytes": 0})), strict=True):
        with setting.active():
            stream = fl.Stream([table, layer])
        streams[name] = setting, lambda stream=stream: stream.step(ids[0, :1])
    rows[f"one step of a stream, D,H = {features},{units}, V = {words}"] = streams
    return _compared("what", rows, 0.05 if tiny else 0.5)


@numba.njit(nogil=True)
def _chains(a: Any, factor: Any, out: Any, zeros: bool) -> None:
    """Add up products of registers, with zeros for denormal numbers or as they are."""
    mode = flush() if zeros else numba.uint32(0)
    total, other = load(a, 0), load(factor, 0)
    for _ in range(1000):
        total = fma(total, other, load(a, 0))
    store(out, 0, total)
    if zeros:
        restore(mode)


def denormals(tiny: bool) -> Table:
    """Measure multiply-adds whose results are denormal, and an LSTM on inputs that leave such numbers behind."""
    lanes = REGISTERS.lanes(4)
    rows = []
    out, seconds = np.empty(lanes, np.float32), 0.02 if tiny else 0.2
    half = np.full(lanes, 0.5, np.float32)
    normal, small = np.ones(lanes, np.float32), np.full(lanes, 1e-40, np.float32)
    found = median_times(
        {
            "normal": (SERIAL, lambda: _chains(normal, half, out, False)),
            "zeros": (SERIAL, lambda: _chains(small, half, out, True)),
            "kept": (SERIAL, lambda: _chains(small, half, out, False)),
        },
        seconds,
    )
    labels = {"normal": "normal numbers", "zeros": "denormal numbers, zeros for them", "kept": "denormal numbers, kept"}
    rows += [
        (f"1000 multiply-adds: {labels[key]}", clock(value), _ratio(value, found["normal"]))
        for key, value in found.items()
    ]
    shape = Shape(2, 3, 4, 5) if tiny else Shape(32, 100, 128, 128)
    calls: Calls = {}
    for label, of_inputs, of_weights in (
        ("plain inputs", 1.0, 1.0),
        ("inputs times 1e4", 1e4, 1.0),
        ("inputs and weights times 1e-38", 1e-38, 1e-38),
    ):
        layer, x = recurrent(shape), inputs(shape) * np.float32(of_inputs)
        for value in layer.arrays.values():
            value *= np.float32(of_weights)
        layer.changed()
        calls[label] = SERIAL, lambda layer=layer, x=x: layer(x)
    found = median_times(calls, 2 * seconds)
    rows += [
        (f"LSTM {shape}: {key}", clock(value), _ratio(value, found["plain inputs"])) for key, value in found.items()
    ]
    return Table(("what", "time", "over that of normal numbers"), rows)


# --- kernels --------------------------------------------------------------------------------------------------------


def weight_gradients(tiny: bool) -> Table:
    """Measure training passes with both weight gradients in one pass over the rows, and in two."""
    shapes = [(3, 57, 45, 77), (32, 100, 128, 128), (16, 100, 128, 256), (32, 50, 512, 512)]
    rows: dict[str, Calls] = {}
    for shape in [Shape(2, 3, 4, 5)] if tiny else [Shape(*shape) for shape in shapes]:
        rows[str(shape)] = {
            name: (Setting(numbers={"together_bytes": size}), training_step(shape))
            for name, size in (("together", 1 << 40), ("apart", 0))
        }
    return _compared("N,T,D,H", rows, 0.05 if tiny else 0.6)


def register_tiles(tiny: bool) -> Table:
    """Measure products of few and of many rows on one core."""
    size = 32 if tiny else 256
    rng = np.random.default_rng(0)
    b = rng.standard_normal((size, size)).astype(np.float32)
    packed, bias = panels_of(b), padded_bias(None, size, b.dtype)
    calls: Calls = {}
    for count in (1, 2) if tiny else (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 64, 512):
        a, out = rng.standard_normal((count, size)).astype(np.float32), np.empty((count, size), np.float32)
        calls[str(count)] = SERIAL, lambda a=a, out=out: times(a, packed, bias, out)
    found = median_times(calls, 0.05 if tiny else 1.5)
    rows = [
        (name, clock(seconds), f"{2e-9 * int(name) * size**2 / seconds:.3g}", clock(seconds / int(name)))
        for name, seconds in found.items()
    ]
    return Table((f"rows times {size} x {size}", "time", "GFLOP/s", "a row"), rows)


def half_blocks(tiny: bool) -> Table:
    """Measure units that end in half a block beside those that fill the block, which they would cost without it."""
    lanes = REGISTERS.lanes(4)
    rows = []
    for blocks, features in ((1, 4),) if tiny else ((1, 64), (2, 64), (2, 512), (4, 64)):
        half, whole = (blocks - 1) * lanes + lanes // 2, blocks * lanes
        calls: Calls = {}
        for units in (half, whole):
            shape = Shape(2, 3, features, units) if tiny else Shape(16, 50, features, units)
            calls[str(units)] = SERIAL, infer(shape, SERIAL)
        found = median_times(calls, 0.05 if tiny else 0.4)
        values = list(found.values())
        rows.append((str(features), str(half), clock(values[0]), str(whole), clock(values[1]), _ratio(*values)))
    return Table(("D", "H in half a block", "time", "H in whole blocks", "time", "half / whole"), rows)


def gates_in_powers_of_two(tiny: bool) -> Table:
    """Measure the LSTM's cell beside the same cell by plain formulas: gates by exp, five divisions a unit."""
    plain = cells.lstm()
    name = "lstm_by_plain_formulas"
    forward, backward = _general(name, "tanh", "sigmoid", False, False)
    other = plain._replace(name=name, scales=(1.0,) * 4, pointwise=forward, pointwise_backward=backward)
    rows: dict[str, Calls] = {}
    shapes = [(32, 100, 128, 128), (8, 100, 64, 64), (1, 100, 128, 128), (32, 50, 512, 512)]
    for shape in [Shape(2, 3, 4, 5)] if tiny else [Shape(*shape) for shape in shapes]:
        rows[str(shape)] = {
            label: (SERIAL, infer_by(cell, shape)) for label, cell in (("fractions", plain), ("plain formulas", other))
        }
    return _compared("N,T,D,H", rows, 0.05 if tiny else 0.5)


def infer_by(cell: cells.Cell, shape: Shape) -> Callable[[], Any]:
    """Return the call of inference by a cell with an LSTM's weights."""
    layer, x = recurrent(shape), inputs(shape)
    recurrence = Recurrence(Geometry(cell, shape.units, shape.features, shape.units, layer.dtype), layer.arrays)
    where = layer.where(x)
    return lambda: recurrence.infer_dense(where, shape.sequences, shape.steps, None, False)


def bitwise_invariance(tiny: bool) -> Table:
    """Count the output values whose bits change when a sequence is computed alone, and not in a batch."""
    shape = Shape(3, 4, 5, 6) if tiny else Shape(37, 20, 45, 77)
    layer, x = recurrent(shape), inputs(shape)
    ours = layer(x)
    alone = np.concatenate([layer(x[n : n + 1]) for n in range(shape.sequences)])
    pieces = []
    state = None
    layer.return_state = True
    for first in range(0, shape.steps, 3):
        y, state = layer(x[:, first : first + 3], initial_state=state)
        pieces.append(y)
    with SERIAL.active():
        one_core = layer(x)[0]
    rows = x.reshape(-1, shape.features)
    weight = layer.arrays["weight_ih_l0"].T
    together = rows @ weight
    apart = np.concatenate([row[None] @ weight for row in rows])
    compared = {
        f"LSTM {shape}, each sequence alone": (ours, alone),
        f"LSTM {shape}, in pieces of 3 steps": (ours, np.concatenate(pieces, axis=1)),
        f"LSTM {shape}, on one core": (ours, one_core),
        "its input product in NumPy, each row alone": (together, apart),
    }
    shown = [(name, str(a.size), str(int((a != b).sum()))) for name, (a, b) in compared.items()]
    return Table(("what", "values", "with other bits"), shown)


# --- memory, cells, compiling ---------------------------------------------------------------------------------------


def caches_as_values(tiny: bool) -> Table:
    """Measure training passes in memory that is used again, and in memory that each pass allocates."""
    shapes = [(1, 100, 64, 64), (32, 100, 128, 128), (16, 100, 128, 256)]
    rows: dict[str, Calls] = {}
    for shape in [Shape(2, 3, 4, 5)] if tiny else [Shape(*shape) for shape in shapes]:
        rows[str(shape)] = {
            "frames used again": (AUTOMATIC, training_step(shape)),
            "allocated each time": (AUTOMATIC, training_step(shape, fresh=True)),
        }
    return _compared("N,T,D,H", rows, 0.05 if tiny else 0.6)


def cells_as_values(tiny: bool) -> Table:
    """Measure all kinds of cells in the same loops, and what share of the work each gate is."""
    shape = Shape(2, 3, 4, 5) if tiny else Shape(32, 100, 128, 128)
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "LSTM": (fl.LSTM, {}),
        "LSTM, peephole": (fl.LSTM, {"peephole": True}),
        "LSTM, coupled": (fl.LSTM, {"coupled": True}),
        "GRU": (fl.GRU, {}),
        "GRU, reset before": (fl.GRU, {"reset_after": False}),
        "SimpleRNN": (fl.SimpleRNN, {}),
    }
    if tiny:
        kinds = {name: kinds[name] for name in ("LSTM", "GRU")}
    calls: Calls = {name: (SERIAL, infer(shape, SERIAL, kind, **more)) for name, (kind, more) in kinds.items()}
    found = median_times(calls, 0.05 if tiny else 1.5)
    rows = []
    for name, (kind, more) in kinds.items():
        cell = recurrent(shape, kind=kind, **more).cell()
        count, seconds = len(cell.gates), found[name]
        flops = 2.0 * shape.sequences * shape.steps * shape.units * (shape.features + shape.units) * count
        panel = f"{cell.columns} registers, {cell.blocks} block{'s' * (cell.blocks > 1)}"
        rows.append((name, str(count), panel, clock(seconds), clock(seconds / count), f"{1e-9 * flops / seconds:.3g}"))
    return Table((f"cell, {shape}", "gates", "a panel", "time", "a gate", "GFLOP/s"), rows)


_PROGRAM = """
import numpy as np
import fastlstm as fl
layer = fl.{kind}(64, return_sequences=True)
layer.build(64, rng=0)
x = np.ones((1, 100, 64), np.float32)
{call}
print(0.0, flush=True)
"""
_TRAINING = """
from fastlstm.data.packed import pack
packed, _ = pack(x, None, features=True, dtype=layer.dtype, who="bench")
context = fl.layers.PassContext(training=True)
_, cache = layer.forward(packed, context)
layer.backward(np.ones((100, 64), np.float32), cache, context)
"""


def compiling(tiny: bool) -> Table:
    """Measure fresh processes up to their first result: with no machine code on disk, and with it."""
    rows = []
    calls = {"inference": "layer(x)", "forward and backward": _TRAINING}
    kinds = ("SimpleRNN",) if tiny else ("LSTM", "GRU", "SimpleRNN")
    for kind in kinds:
        for label, call in list(calls.items())[: 1 if tiny else 2]:
            program = _PROGRAM.format(kind=kind, call=call)
            with tempfile.TemporaryDirectory(prefix="fastlstm-bench-") as cache:
                cold = process(program, ".", cache)[1]
                warm = statistics.median(process(program, ".", cache)[1] for _ in range(1 if tiny else 3))
            rows.append((f"{kind}, {label}", clock(cold), clock(warm)))
    started = process("print(0.0)", os.devnull)[1]
    imports = process("import numpy, numba; print(0.0, flush=True)", os.devnull)[1]
    rows += [
        (f"Python {sys.version_info[0]}.{sys.version_info[1]} itself", "", clock(started)),
        ("Python with NumPy and Numba", "", clock(imports)),
    ]
    return Table(("a fresh process", "nothing compiled", "compiled before"), rows)


MEASURES: dict[str, Measure] = {
    "batches-read-in-place": batches_read_in_place,
    "projected-table": projected_table,
    "denormals": denormals,
    "weight-gradients": weight_gradients,
    "register-tiles": register_tiles,
    "half-blocks": half_blocks,
    "gates-in-powers-of-two": gates_in_powers_of_two,
    "bitwise-invariance": bitwise_invariance,
    "caches-as-values": caches_as_values,
    "cells-as-values": cells_as_values,
    "compiling": compiling,
}
