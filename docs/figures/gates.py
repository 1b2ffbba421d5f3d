"""Draw docs/figures/gates.png: an LSTM of two units that has learnt to keep two numbers until it is asked for them.

    python docs/figures/gates.py [PICTURE]

At each step it reads a number and at most one order: keep the number as A, or as B; say A, or B. It shall put out what
it is asked for, and 0 where it is not. It trains for some seconds on sequences of 20 steps; then it reads others of 60,
in which orders are three times as rare.
"""

import platform
import sys
from pathlib import Path

import matplotlib
import numba
import numpy as np

import fastlstm as fl

ORDERS = ("", "keep A", "keep B", "say A", "say B")
STORY = {0: (1, 0.9), 2: (2, -0.8), 9: (3, 0.4), 12: (4, 0.7), 15: (1, -0.5), 20: (3, 0.8), 21: (4, -0.3)}
STORY |= {23: (2, 0.6), 29: (4, -0.9)}
"""The sequence that is drawn: of the steps that have an order, the order and the number."""
STEPS = 31


def batch(count: int, steps: int, often: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return numbers and orders (count, steps), and what shall be put out; a share `often` of the steps has orders."""
    numbers = rng.uniform(-1.0, 1.0, (count, steps))
    orders = np.where(rng.random((count, steps)) < often, rng.integers(1, 5, (count, steps)), 0)
    orders[:, :2] = 1, 2  # first there must be something to keep
    return numbers, orders, answers(numbers, orders)


def answers(numbers: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return the number that was kept last, where it is asked for; else 0."""
    steps, out = np.arange(orders.shape[1]), np.zeros(orders.shape)
    for keep, say in ((1, 3), (2, 4)):
        kept_at = np.maximum.accumulate(np.where(orders == keep, steps, 0), axis=1)
        out += np.where(orders == say, np.take_along_axis(numbers, kept_at, axis=1), 0.0)
    return out


def inputs(numbers: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return the features of each step: the number, and a 1 for the order."""
    return np.concatenate([numbers[..., None], np.eye(5)[orders][..., 1:]], axis=-1)


def train() -> fl.Sequential:
    """Return the trained model."""
    model = fl.Sequential([fl.LSTM(2, return_sequences=True, name="memory"), fl.Dense(1)], seed=1)
    model.compile(fl.optimizers.Adam(0.02), "mse")
    numbers, orders, targets = batch(2000, 20, 0.6, np.random.default_rng(0))
    model.fit(inputs(numbers, orders), targets[..., None], epochs=100, verbose=0)
    return model


def story() -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers and orders of the sequence that is drawn, (1, STEPS) each."""
    numbers, orders = np.random.default_rng(6).uniform(-1.0, 1.0, (1, STEPS)), np.zeros((1, STEPS), np.int64)
    for step, (order, number) in STORY.items():
        orders[0, step], numbers[0, step] = order, number
    return numbers, orders


def main(picture: Path) -> None:
    """Train, say how well it does, and draw."""
    model = train()
    numbers, orders, targets = batch(500, 60, 0.2, np.random.default_rng(1))
    errors = model.predict(inputs(numbers, orders))[..., 0] - targets
    print(f"root mean square error on sequences of 60 steps: {np.sqrt((errors**2).mean()):.4f}")

    numbers, orders = story()
    trace = fl.inspect(model, inputs(numbers, orders))
    labels = [f"{number:+.1f} {ORDERS[order]}" for number, order in zip(numbers[0], orders[0], strict=True)]
    figure = trace.plot(labels=labels)
    libraries = {"fastlstm": fl, "NumPy": np, "Numba": numba, "matplotlib": matplotlib}
    versions = ", ".join(f"{name} {library.__version__}" for name, library in libraries.items())
    made = f"docs/figures/gates.py, {versions}, Python {platform.python_version()}"
    figure.supxlabel(made, fontsize=5, color="0.5")
    figure.savefig(picture, metadata={"Software": made})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png"))
