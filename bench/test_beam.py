"""Beam search beside the same search in torch: its own cost, and how two searches share two cores.

The logits of every step are ready arrays, so that what is timed is the search alone: row b of a step belongs to the
b-th best beam. Ids are compared on float64 logits: in float32 the peers round their totals, and now and then two beams
change places.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.decode.beam import beam_search

from .cells import thread_counts

WIDTH, STEPS, HIDDEN = 8, 30, 256
SIZES = [(1, 256), (1, 10_000), (1, 50_000), (16, 10_000)]  # (N, V)

Search = Callable[[], list[list[int]]]
"""Finds the best ids of each sequence."""


def ready_logits(sequences: int, vocab: int) -> np.ndarray:
    """Return logits (STEPS, N * WIDTH, V); at step 0 all rows of a sequence are equal."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(size=(STEPS, sequences * WIDTH, vocab), dtype=np.float32) * 3
    logits[0] = logits[0, ::WIDTH].repeat(WIDTH, axis=0)
    return logits


def ours(logits: np.ndarray) -> Search:
    """Return our search: a state of two (B, HIDDEN) arrays is reordered too."""
    sequences = logits.shape[1] // WIDTH
    first, start = np.ascontiguousarray(logits[0, ::WIDTH]), np.zeros(sequences, np.int64)

    def step(tokens: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        h, c, t = state
        return (logits[t] if t else first), (h, c, t + 1)

    def search() -> list[list[int]]:
        h = np.zeros((sequences, HIDDEN), np.float32)
        return [list(best.ids) for [best] in beam_search(step, start, state=(h, h, 0), max_length=STEPS)]

    return search


def torch_loop(logits: np.ndarray) -> Search:
    """Return the textbook loop in torch: log_softmax, topk over (beams x V), states reordered by index_select."""
    import torch

    torch.set_num_threads(1)
    ready, sequences, vocab = torch.tensor(logits), logits.shape[1] // WIDTH, logits.shape[2]

    @torch.inference_mode()
    def search() -> list[list[int]]:
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

    return search


def hugging_face(logits: np.ndarray) -> Search:
    """Return ``generate(num_beams=...)`` on a causal model whose forward returns the same arrays."""
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

    def search() -> list[list[int]]:
        start = torch.zeros(logits.shape[1] // WIDTH, 1, dtype=torch.long)
        return model.generate(start, generation_config=config)[:, 1:].tolist()

    return search


def runner(build: Callable[[np.ndarray], Search], logits: np.ndarray, threads: int) -> Runner:
    """Time a search on float32 logits, and compare what it finds on the same ones in float64."""
    return Runner(build(logits), lambda found: {"ids": build(logits.astype(np.float64))()})


def searches(at_once: bool, logits: np.ndarray, threads: int) -> Runner:
    """Search as often as there are threads: one after the other, or all at once."""
    runs = [ours(logits) for _ in range(threads)]
    found: list[Any] = [None] * threads

    def search(place: int) -> None:
        found[place] = runs[place]()

    def call() -> list[Any]:
        if at_once:
            workers = [threading.Thread(target=search, args=(place,)) for place in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        else:
            for place in range(threads):
                search(place)
        return found

    return Runner(call, lambda found: {"ids": found})


CONTENDERS = (
    Contender(OURS, partial(runner, ours)),
    Contender("torch loop", partial(runner, torch_loop), ("torch",)),
    Contender("Hugging Face", partial(runner, hugging_face), ("transformers", "torch")),
)
SEVERAL = (
    Contender(OURS, partial(searches, False)),
    Contender(f"{OURS}, at once", partial(searches, True)),
)


def cells(tiny: bool) -> Iterator[Cell]:
    for N, V in [(2, 40)] if tiny else SIZES:
        label = f"beam {WIDTH}, {STEPS} steps, N={N}, V={V}"
        yield Cell(label, 1, partial(ready_logits, N, V), CONTENDERS, kind="", checks=1)
    if 2 in thread_counts():
        N, V = (2, 40) if tiny else (4, 10_000)
        label = f"two searches, N={N}, V={V}"
        yield Cell(label, 2, partial(ready_logits, N, V), SEVERAL, kind="two searches", checks=1)


def test_beam(time_contender):
    time_contender()
