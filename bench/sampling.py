"""Draw one id a row: fastlstm beside Hugging Face's processors on torch, on one core.

``python bench/sampling.py`` prints the table (times in microseconds: median of many calls). Each contender's
distribution is compared with ours before anything is timed. Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastlstm.decode.sampling import greedy, log_probabilities, sample

METHODS: dict[str, dict[str, float]] = {
    "temperature": {"temperature": 0.8},
    "top-k 40": {"top_k": 40},
    "top-p 0.9": {"top_p": 0.9},
    "min-p 0.05": {"min_p": 0.05},
    "typical 0.9": {"typical_p": 0.9},
    "eta 3e-4": {"eta_cutoff": 3e-4},
    "0.8, 40, 0.9": {"temperature": 0.8, "top_k": 40, "top_p": 0.9},
}
SIZES = [(V, N) for V in (256, 10_000, 50_000) for N in (1, 32)]
SPREADS = (1.0, 3.0)  # standard deviation of the logits: flat and peaked rows


def median_time(call: Callable[[], Any], seconds: float = 0.3) -> float:
    """Median microseconds of a call, over about this many seconds and at least five calls."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def peer_scores(logits: Any, options: dict[str, float]) -> Any:
    """Make a call that gives the logits as Hugging Face's processors leave them."""
    from transformers.generation import logits_process as hf

    processors = {
        "temperature": hf.TemperatureLogitsWarper,
        "top_k": hf.TopKLogitsWarper,
        "top_p": hf.TopPLogitsWarper,
        "min_p": hf.MinPLogitsWarper,
        "typical_p": hf.TypicalLogitsWarper,
        "eta_cutoff": lambda eta: hf.EtaLogitsWarper(eta, device="cpu"),
    }
    chain = [processors[name](value) for name, value in options.items()]

    def scores() -> Any:
        out = logits
        for process in chain:
            out = process(None, out)
        return out

    return scores


def same_distribution(logits: np.ndarray, options: dict[str, float], scores: Any) -> bool:
    """Tell whether both draw from the same distribution; float32 sums may place an id at the cut on either side."""
    import torch

    ours = np.exp(log_probabilities(logits, **options).astype(np.float64))
    theirs = torch.softmax(scores.double(), dim=-1).numpy()
    return float(np.abs(ours - theirs).sum(axis=1).max()) < 1e-3


def draws(sizes: list[tuple[int, int]] = SIZES) -> Iterator[dict[str, Any]]:
    """Yield one row of the table for each method and size."""
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    for spread in SPREADS:
        for V, N in sizes:
            logits = (rng.standard_normal((N, V)) * spread).astype(np.float32)
            tensor = torch.from_numpy(logits)
            for method, options in METHODS.items():
                scores = peer_scores(tensor, options)
                assert same_distribution(logits, options, scores()), (method, V, N)

                def theirs(scores: Any = scores) -> Any:
                    return torch.multinomial(torch.softmax(scores(), dim=-1), 1, generator=generator)

                def ours(logits: np.ndarray = logits, options: dict[str, float] = options) -> Any:
                    return sample(logits, rng=rng, **options)

                yield {"method": method, "V": V, "N": N, "spread": spread} | compare(ours, theirs)


def argmaxes(sizes: list[tuple[int, int]] = SIZES) -> Iterator[dict[str, Any]]:
    """Greedy beside the faster of NumPy's and torch's ``argmax``."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for V, N in sizes:
        logits = rng.standard_normal((N, V)).astype(np.float32)
        tensor = torch.from_numpy(logits)
        assert (greedy(logits) == logits.argmax(axis=1)).all()
        assert (torch.argmax(tensor, dim=-1).numpy() == logits.argmax(axis=1)).all()
        peers = [
            lambda logits=logits: logits.argmax(axis=1),
            lambda tensor=tensor: tensor.argmax(dim=1),
        ]
        fastest = min(peers, key=median_time)
        yield {"method": "greedy", "V": V, "N": N, "spread": 1.0} | compare(
            lambda logits=logits: greedy(logits), fastest
        )


def compare(ours: Callable[[], Any], theirs: Callable[[], Any]) -> dict[str, float]:
    """Time both, taking turns, so that a busy moment of the machine meets both."""
    pairs = [(median_time(ours, 0.1), median_time(theirs, 0.1)) for _ in range(3)]
    mine, other = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {"ours": mine, "peer": other, "ratio": other / mine}


def two_threads(calls: int = 40) -> float:
    """How much more two threads draw than one in the same time; needs two free cores."""
    logits = np.random.default_rng(0).standard_normal((32, 50_000)).astype(np.float32)

    def work() -> None:
        for _ in range(calls):
            sample(logits, temperature=0.8, top_p=0.9, rng=0)

    def timed(threads: int) -> float:
        workers = [threading.Thread(target=work) for _ in range(threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - start

    timed(1)
    return statistics.median(2 * timed(1) / timed(2) for _ in range(5))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--threads", action="store_true", help="also time two threads at once")
    arguments = parser.parse_args()
    print(f"{'method':14}{'V':>7}{'N':>4}{'spread':>8}{'ours us':>11}{'peer us':>12}{'ratio':>8}")
    for table in (draws(), argmaxes()):
        for row in table:
            figures = f"{row['ours']:11.2f}{row['peer']:12.2f}{row['ratio']:8.1f}"
            print(f"{row['method']:14}{row['V']:7}{row['N']:4}{row['spread']:8}{figures}", flush=True)
    if arguments.threads:
        print(f"two threads draw {two_threads():.2f} times as much as one")


if __name__ == "__main__":
    main()
