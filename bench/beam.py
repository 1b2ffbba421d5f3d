"""Beam search beside the same search in torch: its own cost a step, and how two threads share it.

    python bench/beam.py [--json FILE]

The logits of every step are ready arrays, so that what is timed is the search alone: row b of a step belongs to the
b-th best beam. Contenders, one core each:

- ours: ``fastlstm.decode.beam_search``;
- torch loop: the textbook loop, log_softmax + topk over (beams x V), states reordered by index_select;
- Hugging Face: ``generate(num_beams=...)`` on a causal model whose forward returns the same arrays.

Before it is timed, every contender's best ids are compared with ours, on float64 logits: in float32 the peers round
their totals, and now and then two beams change places. A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from fastlstm.decode.beam import beam_search

WIDTH, STEPS, HIDDEN = 8, 30, 256
CELLS = [(1, 256), (1, 10_000), (1, 50_000), (16, 10_000)]  # (N, V)


def ready_logits(sequences: int, vocab: int) -> np.ndarray:
    """Return logits (STEPS, N * WIDTH, V); at step 0 all rows of a sequence are equal."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(size=(STEPS, sequences * WIDTH, vocab), dtype=np.float32) * 3
    logits[0] = logits[0, ::WIDTH].repeat(WIDTH, axis=0)
    return logits


def ours(logits: np.ndarray) -> Callable[[], list[list[int]]]:
    """Build the contender: a state of two (B, HIDDEN) arrays is reordered too."""
    sequences = logits.shape[1] // WIDTH
    first, start = np.ascontiguousarray(logits[0, ::WIDTH]), np.zeros(sequences, np.int64)

    def step(tokens: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h, c, t = state
        return (logits[t] if t else first), (h, c, t + 1)

    def run() -> list[list[int]]:
        h = np.zeros((sequences, HIDDEN), np.float32)
        return [list(best.ids) for [best] in beam_search(step, start, state=(h, h, 0), max_length=STEPS)]

    return run


def torch_loop(logits: np.ndarray) -> Callable[[], list[list[int]]]:
    """Build the textbook loop in torch, without end ids."""
    import torch

    torch.set_num_threads(1)
    ready, sequences, vocab = torch.tensor(logits), logits.shape[1] // WIDTH, logits.shape[2]

    @torch.inference_mode()
    def run() -> list[list[int]]:
        total = torch.full((sequences, WIDTH), -torch.inf, dtype=ready.dtype)
        total[:, 0] = 0.0
        h, c = torch.zeros(sequences * WIDTH, HIDDEN), torch.zeros(sequences * WIDTH, HIDDEN)
        ids = torch.zeros(sequences * WIDTH, STEPS, dtype=torch.long)
        first = (torch.arange(sequences) * WIDTH)[:, None]
        for t in range(STEPS):
            log_p = torch.log_softmax(ready[t], dim=-1)
            scores = total.reshape(-1, 1) + log_p
            total, flat = scores.reshape(sequences, WIDTH * vocab).topk(WIDTH)
            parents, tokens = (first + flat // vocab).reshape(-1), (flat % vocab).reshape(-1)
            h, c, ids = h.index_select(0, parents), c.index_select(0, parents), ids.index_select(0, parents)
            ids[:, t] = tokens
        return ids[::WIDTH].tolist()

    return run


def hugging_face(logits: np.ndarray) -> Callable[[], list[list[int]]]:
    """Build ``generate`` on a causal model with the logits at hand."""
    import torch
    import transformers
    from transformers.modeling_outputs import CausalLMOutput

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)

    class TableModel(transformers.PreTrainedModel, transformers.GenerationMixin):  # type: ignore[misc]
        config_class = transformers.PretrainedConfig

        def __init__(self) -> None:
            super().__init__(transformers.PretrainedConfig(vocab_size=logits.shape[2]))
            self.ready = torch.nn.Parameter(torch.tensor(logits), requires_grad=False)

        def prepare_inputs_for_generation(self, input_ids: Any, **rest: Any) -> dict[str, Any]:
            return {"input_ids": input_ids}

        def forward(self, input_ids: Any, **rest: Any) -> Any:
            return CausalLMOutput(logits=self.ready[input_ids.shape[1] - 1][:, None])

    model = TableModel()
    config = transformers.GenerationConfig(
        num_beams=WIDTH, max_new_tokens=STEPS, do_sample=False, length_penalty=0.0, use_cache=False, pad_token_id=0
    )

    def run() -> list[list[int]]:
        start = torch.zeros(logits.shape[1] // WIDTH, 1, dtype=torch.long)
        return model.generate(start, generation_config=config)[:, 1:].tolist()

    return run


def best_of(run: Callable[[], Any], repeats: int = 5) -> float:
    """Return the shortest of a few runs, in microseconds a step."""
    run()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken) / STEPS * 1e6


def threads_ratio(threads: int = 2, seconds: float = 1.0) -> float:
    """Return how much more is decoded in a time by several threads than by one: the median of rounds of both."""
    runs = [ours(ready_logits(4, 10_000)) for _ in range(threads)]

    def decoded(count: int) -> int:
        end, done = time.perf_counter() + seconds, [0] * count

        def repeat(place: int) -> None:
            while time.perf_counter() < end:
                runs[place]()
                done[place] += 1

        team = [threading.Thread(target=repeat, args=(place,)) for place in range(count)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        return sum(done)

    decoded(threads)
    return float(np.median([decoded(threads) / decoded(1) for _ in range(5)]))


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="also write the figures to this file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    peers = {}
    for name, build, needs in (("torch loop", torch_loop, "torch"), ("Hugging Face", hugging_face, "transformers")):
        if find_spec(needs) is None:
            print(f"{name}: left out, {needs} is not installed")
        else:
            peers[f"{name} ({needs} {version(needs)})"] = build
    figures = []
    print(f"{date.today()}, {platform.processor() or platform.machine()}, Python {platform.python_version()}, one core")
    print(f"beam {WIDTH}, {STEPS} steps, float32, logits at hand; us a step")
    for sequences, vocab in CELLS:
        logits = ready_logits(sequences, vocab)
        exact = logits.astype(np.float64)
        contender = ours(logits)
        took = best_of(contender)
        row: dict[str, Any] = {"N": sequences, "V": vocab, "ours": took}
        for name, build in peers.items():
            peer = build(logits)
            if build(exact)() != ours(exact)():
                raise SystemExit(f"{name} found other sequences than ours at N={sequences}, V={vocab}")
            row[name] = best_of(peer)
        figures.append(row)
        beside = "".join(f"; {name} {row[name]:.0f} ({row[name] / took:.1f}x)" for name in peers)
        print(f"N={sequences:3d} V={vocab:6d}: ours {took:.0f}{beside}")
    ratio = threads_ratio()
    print(f"two threads decode {ratio:.2f} times as much as one")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"figures": figures, "two threads": ratio}, file, indent=1)


if __name__ == "__main__":
    main()
