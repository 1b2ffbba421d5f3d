"""Random calls of whatever ``fastlstm`` this Python finds, and all that they return: ``same_bits.py`` runs it twice.

``python same_bits_calls.py --seed 0 --calls 300 out.npz``. Call number k draws everything from the seed and k alone, so
that ``--only k`` repeats it. Only names that both commits know are used. The file imports nothing of this package: it
also runs in an environment that holds another commit.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    del sys.path[0]  # what lies beside this script is no part of the library

import numba
import numpy as np

import fastlstm as fl
from fastlstm import layers
from fastlstm.data.packed import pack

Arrays = dict[str, Any]
STEPS = 20
"""Training steps of a call that trains."""


def size(rng: np.random.Generator, largest: int) -> int:
    """Return a whole number from 1 to `largest`: small ones, edges of registers and large ones are all frequent."""
    return int(np.exp(rng.uniform(0.0, np.log(largest + 1))))


class Draw:
    """What one call is made of, drawn from its own generator."""

    def __init__(self, seed: int, number: int, largest: tuple[int, int, int, int]):
        self.rng = np.random.default_rng([seed, number])
        self.dtype = str(self.rng.choice(["float32", "float64"]))
        self.threads = int(self.rng.integers(1, 3))
        fl.set_num_threads(self.threads)
        self.n, self.t, self.d, self.h = (size(self.rng, most) for most in largest)
        self.seed = int(self.rng.integers(2**31))

    def chance(self, probability: float = 0.5) -> bool:
        """Return True so often."""
        return bool(self.rng.random() < probability)

    def normal(self, *shape: int) -> Any:
        """Return normal numbers of the layer's type."""
        return self.rng.standard_normal(shape).astype(self.dtype)

    def lengths(self) -> Any:
        """Return a length from 1 to T of each sequence."""
        return self.rng.integers(1, self.t + 1, self.n)

    def batch(self) -> tuple[Any, Arrays]:
        """Return features as an array of some layout, as a padded one with `lengths=`, or as a list."""
        form = self.rng.choice(["array", "time first", "strided", "other type", "lengths", "list"])
        if form == "time first":
            return self.normal(self.t, self.n, self.d).swapaxes(0, 1), {}
        if form == "strided":
            return self.normal(self.n, self.t, 2 * self.d)[:, ::-1, ::2], {}
        x = self.normal(self.n, self.t, self.d)
        if form == "other type":
            return x.astype("float64" if self.dtype == "float32" else "float32"), {}
        if form == "lengths":
            return x, {"lengths": self.lengths()}
        return (
            ([row[:length] for row, length in zip(x, self.lengths(), strict=True)], {}) if form == "list" else (x, {})
        )

    def state(self) -> Any:
        """Return an initial state."""
        return self.normal(self.n, self.h), self.normal(self.n, self.h)

    def weigh(self, layer: Any, features: int) -> None:
        """Give a layer the start values of a seed, or larger numbers."""
        layer.build(features, self.seed)
        if self.chance():
            scale = self.rng.choice([0.1, 0.5, 2.0])
            layer.load_state_dict({k: scale * self.rng.standard_normal(v.shape) for k, v in layer.state_dict().items()})

    def lstm(self, **options: Any) -> Any:
        """Return an LSTM without weights."""
        return fl.LSTM(self.h, dtype=self.dtype, **options)

    def directions(self, **options: Any) -> Any:
        """Return a Bidirectional without weights."""
        mode = str(self.rng.choice(["concat", "concat", "sum", "ave", "mul"]))
        return fl.Bidirectional(self.lstm(**options), merge_mode=mode)


def named(prefix: str, value: Any) -> Arrays:
    """Return arrays, or tuples, lists and dicts of them, flat and by name."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in named(f"{prefix}.{key}", part).items()}
    if isinstance(value, tuple | list):
        return {k: v for key, part in enumerate(value) for k, v in named(f"{prefix}.{key}", part).items()}
    return {prefix: np.array(value)}


# --- inference -------------------------------------------------------------------------------------------------------


def repeated(call: Callable[[], Any]) -> Arrays:
    """Return what a call returns; it runs 4 to 30 times, as later calls may run under other plans."""
    first = named("out", call())
    same, end = True, time.monotonic() + 0.05
    for turn in range(29):
        if turn >= 3 and time.monotonic() > end:
            break
        same = same and all(equal(first[name], value) for name, value in named("out", call()).items())
    return first | {"repeats": np.array(same)}


def equal(one: Any, other: Any) -> bool:
    """Tell whether two arrays hold the same bits."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def call_lstm(draw: Draw) -> Arrays:
    """Run one LSTM on a batch of any form."""
    flags = {word: draw.chance() for word in ("return_sequences", "return_state", "go_backwards")}
    layer = draw.lstm(**flags, unit_forget_bias=draw.chance())
    draw.weigh(layer, draw.d)
    x, how = draw.batch()
    if draw.chance():
        how["initial_state"] = draw.state()
    return repeated(lambda: layer(x, **how)) | named("params", layer.state_dict())


def call_directions(draw: Draw) -> Arrays:
    """Run a Bidirectional on a batch of any form."""
    layer = draw.directions(return_sequences=draw.chance(0.7), return_state=draw.chance())
    draw.weigh(layer, draw.d)
    x, how = draw.batch()
    if draw.chance():
        how["initial_state"] = draw.state(), draw.state()
    return repeated(lambda: layer(x, **how))


def stack(draw: Draw, **options: Any) -> list[Any]:
    """Return one to three recurrent layers, each over all steps."""
    made = []
    for _ in range(draw.rng.integers(1, 4)):
        kind = draw.rng.choice(["lstm", "lstm", "backwards", "directions"])
        if kind == "directions":
            made.append(draw.directions(return_sequences=True, **options))
        else:
            made.append(draw.lstm(return_sequences=True, go_backwards=kind == "backwards", **options))
        draw.h = size(draw.rng, 100)
    return made


def head(draw: Draw) -> tuple[list[Any], str, bool]:
    """Return the last layers of a model, its loss, and whether steps go out."""
    end = str(draw.rng.choice(["steps", "last", "mean", "max"]))
    # no mean: its sums have become exact since, so that its bits are others
    pools = {"last": fl.LastStep, "mean": fl.GlobalMaxPooling1D, "max": fl.GlobalMaxPooling1D}
    pool = [pools[end]()] if end in pools else []
    loss = str(draw.rng.choice(["mse", "binary_crossentropy", "sparse_categorical_crossentropy"]))
    activation = {"mse": None, "binary_crossentropy": "sigmoid", "sparse_categorical_crossentropy": "softmax"}[loss]
    units = 1 if loss == "binary_crossentropy" else 3
    return [*pool, fl.Dense(units, activation=activation, dtype=draw.dtype)], loss, end == "steps"


def joined(layers: list[Any]) -> list[Any]:
    """Return the layers of a model; the last step of both directions, which models refuse by now, becomes a maximum."""
    for place, layer in enumerate(layers[1:], 1):
        if isinstance(layer, fl.LastStep) and isinstance(layers[place - 1], fl.Bidirectional):
            layers[place] = fl.GlobalMaxPooling1D()
    return layers


def call_model(draw: Draw) -> Arrays:
    """Predict with a model of several layers, from features or from ids."""
    last, _, _ = head(draw)
    if draw.chance():
        vocabulary = size(draw.rng, 300)
        first = fl.Embedding(vocabulary, draw.d, dtype=draw.dtype)
        model = fl.Sequential(joined([first, *stack(draw), *last]), seed=draw.seed)
        x: Any = draw.rng.integers(0, vocabulary, (draw.n, draw.t))
        how: Arrays = {"lengths": draw.lengths()} if draw.chance() else {}
        model.build()
    else:
        model = fl.Sequential(joined([*stack(draw), *last]), seed=draw.seed)
        x, how = draw.batch()
        model.build(draw.d)
    return repeated(lambda: model.predict(x, **how)) | named("params", model.get_weights())


def call_stream(draw: Draw) -> Arrays:
    """Take a chain of layers step by step, and set it back in between."""
    made = [draw.lstm(return_sequences=True)]
    if draw.chance():
        draw.h = size(draw.rng, 100)
        made.append(draw.lstm(return_sequences=True))
    made.append(fl.Dense(size(draw.rng, 40), dtype=draw.dtype))
    ids = draw.chance()
    if ids:
        made.insert(0, fl.Embedding(50, draw.d, dtype=draw.dtype))
    model = fl.Sequential(made, seed=draw.seed)
    model.build(0 if ids else draw.d)
    session = model.stream(batch=draw.n)
    x = draw.rng.integers(0, 50, (draw.t, draw.n)) if ids else draw.normal(draw.t, draw.n, draw.d)
    steps = [session.step(x_t) for x_t in x]
    session.reset(int(draw.rng.integers(draw.n)))
    return {"out": np.stack(steps), "after reset": session.step(x[0])} | named("state", session.state_dict())


# --- training --------------------------------------------------------------------------------------------------------


def call_bptt(draw: Draw) -> Arrays:
    """Run forward as in training and back again: gradients of the input, of the initial state and of every weight."""
    dropout = {"dropout": 0.3, "recurrent_dropout": 0.2} if draw.chance(0.3) else {}
    layer = draw.lstm(return_sequences=True, go_backwards=draw.chance(), **dropout)
    draw.weigh(layer, draw.d)
    x, how = draw.batch()
    packed, _ = pack(x, how.get("lengths"), features=True, dtype=layer.dtype)
    state = fl.LSTMState(*draw.state()) if draw.chance(0.7) else None
    context = getattr(layers, "PassContext", None) or layers.Run  # its name then and now
    run = context(training=True, rng=np.random.default_rng(draw.seed))
    y, final, cache = layer.run_steps(packed, state, run)
    found = named("y", y.rows) | named("final", tuple(final))
    d_final = fl.LSTMState(*draw.state()) if draw.chance(0.7) else None
    dx, d_state, gradients = layer.backward_steps(draw.normal(packed.total, draw.h), d_final, cache, run)
    return found | named("dx", dx) | named("d_state", tuple(d_state)) | named("gradients", gradients)


def fitted(draw: Draw, optimizer: Any, batches: int, epochs: int) -> Any:
    """Return a small model after `batches` training steps in each of `epochs`, and what `fit` told of them."""
    rows = max(1, draw.n // 2)
    draw.n = rows * batches
    last, loss, steps = head(draw)
    dropout = {"dropout": 0.2, "recurrent_dropout": 0.1} if draw.chance(0.3) else {}
    made: list[Any] = joined([*stack(draw, **dropout), *last])
    if draw.chance(0.2):
        made.insert(-1, fl.Dropout(0.3))
    ids = draw.chance(0.4)
    if ids:
        made.insert(0, fl.Embedding(40, draw.d, dtype=draw.dtype))
    model = fl.Sequential(made, seed=draw.seed)
    x = draw.rng.integers(0, 40, (draw.n, draw.t)) if ids else draw.normal(draw.n, draw.t, draw.d)
    y = draw.rng.integers(0, 2, (draw.n, draw.t) if steps else (draw.n,))
    how = {"lengths": draw.lengths()} if draw.chance() else {}
    if loss == "mse":
        y = draw.normal(*y.shape, 3)
    model.compile(optimizer, loss)
    told = model.fit(x, y, batch_size=rows, epochs=epochs, verbose=0, **how)
    return model, told.history["loss"], model.predict(x, **how)


def call_gradients(draw: Draw) -> Arrays:
    """Take one training step: SGD with momentum keeps the gradients as they are, but for their sign."""
    optimizer = fl.optimizers.SGD(1.0, momentum=0.5)
    model, loss, _ = fitted(draw, optimizer, 1, 1)
    return named("gradients", optimizer.state_dict()) | named("loss", loss) | named("params", model.get_weights())


def call_fit(draw: Draw) -> Arrays:
    """Take twenty training steps."""
    optimizers = fl.optimizers.Adam(0.01), fl.optimizers.RMSprop(0.01), fl.optimizers.SGD(0.1, clipnorm=1.0)
    batches = int(draw.rng.choice([1, 2, 4, 5]))
    model, loss, out = fitted(draw, optimizers[draw.rng.integers(3)], batches, STEPS // batches)
    return named("loss", loss) | named("params", model.get_weights()) | named("out", out)


EVERY = 64, 200, 300, 300
LARGEST = {call_bptt: (64, 100, 300, 300), call_gradients: (32, 60, 200, 200), call_fit: (16, 30, 60, 60)}
"""Most sequences, steps, features and units; less for calls that would take too long."""
OTHERS = call_model, call_stream, call_gradients, call_fit
KINDS = 6 * (call_lstm,) + 3 * (call_directions,) + 3 * (call_bptt,) + 2 * OTHERS


def run(seed: int, number: int) -> Arrays:
    """Return what the call of this number gives, or its error."""
    kind = KINDS[number % len(KINDS)]
    draw = Draw(seed, number, LARGEST.get(kind, EVERY))
    shape = f"{kind.__name__} N{draw.n} T{draw.t} D{draw.d} H{draw.h} {draw.dtype} {draw.threads} threads"
    try:
        found = kind(draw)
    except Exception as error:
        found = {"error": np.array(f"{type(error).__name__}: {error}")}
    return found | {"what": np.array(shape)}


def main() -> None:
    """Run the calls and write one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--only", type=int, help="the one call to run")
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    start, found = time.monotonic(), {}
    for number in range(options.calls) if options.only is None else [options.only]:
        found |= {f"{number:04d}/{name}": value for name, value in run(options.seed, number).items()}
    found["fastlstm"] = np.array(str(Path(fl.__file__).parent))
    found["packages"] = np.array(f"numpy {np.__version__}, numba {numba.__version__}, Python {sys.version.split()[0]}")
    np.savez(options.file, **found)
    print(f"{fl.__file__}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
