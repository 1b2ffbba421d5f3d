"""Draw one id a row: each method beside Hugging Face's processors and torch's draw, on one core; and greedy choices.

What is drawn is left to chance, so the distributions are compared. float32 sums may place an id at the cut on either
side.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.decode.sampling import greedy, log_probabilities, sample

METHODS: dict[str, dict[str, float]] = {
    "temperature 0.8": {"temperature": 0.8},
    "top-k 40": {"top_k": 40},
    "top-p 0.9": {"top_p": 0.9},
    "min-p 0.05": {"min_p": 0.05},
    "typical 0.9": {"typical_p": 0.9},
    "eta 3e-4": {"eta_cutoff": 3e-4},
    "temperature 0.8, top-k 40, top-p 0.9": {"temperature": 0.8, "top_k": 40, "top_p": 0.9},
}
SIZES = [(256, 1), (256, 32), (50_000, 1), (50_000, 32)]
SPREAD = 3.0
"""Standard deviation of the logits: peaked rows, as a trained model gives."""
HUGGING_FACE = ("transformers", "torch")


class Draw(NamedTuple):
    """Logits (N, V) and the options of a method."""

    logits: np.ndarray
    options: dict[str, float]


def draw(V: int, N: int, options: dict[str, float]) -> Draw:
    """Return random logits with the options."""
    return Draw(SPREAD * np.random.default_rng(0).standard_normal((N, V), np.float32), options)


def ours(problem: Draw, threads: int) -> Runner:
    """Draw with `fastlstm.decode.sample`."""
    logits, options = problem
    rng = np.random.default_rng(0)

    def read(ids: np.ndarray) -> dict[str, Any]:
        return {"probabilities": np.exp(log_probabilities(logits, **options).astype(np.float64))}

    return Runner(lambda: sample(logits, rng=rng, **options), read)


def hugging_face(problem: Draw, threads: int) -> Runner:
    """Draw from what Hugging Face's processors leave, with torch."""
    import torch
    from transformers.generation import logits_process as hf

    torch.set_num_threads(threads)
    processors = {
        "temperature": hf.TemperatureLogitsWarper,
        "top_k": hf.TopKLogitsWarper,
        "top_p": hf.TopPLogitsWarper,
        "min_p": hf.MinPLogitsWarper,
        "typical_p": hf.TypicalLogitsWarper,
        "eta_cutoff": lambda eta: hf.EtaLogitsWarper(eta, device="cpu"),
    }
    chain = [processors[name](value) for name, value in problem.options.items()]
    logits, generator = torch.from_numpy(problem.logits), torch.Generator().manual_seed(0)

    def scores() -> Any:
        left = logits
        for process in chain:
            left = process(None, left)
        return left

    def call() -> Any:
        return torch.multinomial(torch.softmax(scores(), dim=-1), 1, generator=generator)

    return Runner(call, lambda ids: {"probabilities": torch.softmax(scores().double(), dim=-1).numpy()})


def ours_greedy(problem: Draw, threads: int) -> Runner:
    """Choose the most probable id."""
    return Runner(lambda: greedy(problem.logits), lambda ids: {"ids": ids})


def numpy_argmax(problem: Draw, threads: int) -> Runner:
    """Choose with NumPy."""
    return Runner(lambda: problem.logits.argmax(axis=1), lambda ids: {"ids": ids})


def torch_argmax(problem: Draw, threads: int) -> Runner:
    """Choose with torch."""
    import torch

    torch.set_num_threads(threads)
    logits = torch.from_numpy(problem.logits)
    return Runner(lambda: logits.argmax(dim=1), lambda ids: {"ids": ids.numpy()})


DRAWN = (Contender(OURS, ours), Contender("Hugging Face", hugging_face, HUGGING_FACE))
CHOSEN = (
    Contender(OURS, ours_greedy),
    Contender("NumPy", numpy_argmax, ("numpy",)),
    Contender("torch", torch_argmax, ("torch",)),
)


def cells(tiny: bool) -> Iterator[Cell]:
    for V, N in [(50, 2)] if tiny else SIZES:
        for method, options in METHODS.items():
            yield Cell(f"{method}, V={V}, N={N}", 1, partial(draw, V, N, options), DRAWN, kind="", tolerance=1e-3)
    for V, N in [(50, 2)] if tiny else SIZES:
        yield Cell(f"greedy, V={V}, N={N}", 1, partial(draw, V, N, {}), CHOSEN, kind="greedy")


def test_sampling(time_contender):
    time_contender()
