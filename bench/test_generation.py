"""Writing text with a language model of characters, one sequence: each is drawn among the 40 most probable.

Ours is `LanguageModel.generate`, the peers are loops as their users write them, from a first character to the ids of
all. What they draw is left to chance. So what is compared is the logits of a given text and the text that greedy
choices give, and everything drawn must be among the most probable where it was drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import fastlstm as fl
from fastlstm.benchmark.cells import OURS, Cell, Contender, Runner
from fastlstm.benchmark.contenders import ONNX, TORCH
from fastlstm.benchmark.peers import onnx_session
from fastlstm.benchmark.problems import Problem, Shape
from fastlstm.data.vocabulary import Vocabulary

from .cells import thread_counts
from .onnx_models import language_step_model

CHARACTERS = (*map(chr, range(32, 127)), "\n")
V, E, H = len(CHARACTERS), 64, 512
TOP_K = 40
TOKENS = 100
"""Characters that a call writes."""
FIRST = 0
"""The id that all begin with."""
GIVEN = np.random.default_rng(1).integers(V, size=50)
"""The text whose logits are compared."""
SPREADS = {"embedding.weight": 5.0, "output.weight": 0.4, "output.bias": 0.1}
"""Standard deviations of weights: as after training, what was read matters and some characters are far likelier."""

Step = Callable[[int, Any], tuple[np.ndarray, Any]]
"""From an id and a state, None at first, to the logits (V,) of the next id and the state."""


def weights(problem: Problem) -> dict[str, np.ndarray]:
    """Return the weights of the LSTM of a problem and all others, by torch's names."""
    rng = np.random.default_rng(2)
    shapes = {"embedding.weight": (V, E), "output.weight": (V, H), "output.bias": (V,)}
    made = {name: np.float32(SPREADS[name]) * rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return made | {f"lstm.{name}": value for name, value in problem.weights.items()}


def logits_of(step: Step, ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the logits (T, V) after each of these ids."""
    rows, state = [], None
    for token in ids:
        row, state = step(int(token), state)
        rows.append(np.array(row))
    return np.stack(rows)


def greedy(step: Step) -> list[int]:
    """Return the ids that greedy choices give."""
    ids, state = [FIRST], None
    for _ in range(TOKENS):
        row, state = step(ids[-1], state)
        ids.append(int(row.argmax()))
    return ids[1:]


def compared(step: Step, drawn: list[int], chosen: list[int] | None = None) -> dict[str, Any]:
    """Return what must be the same for all; `chosen`: the greedy ids, where they do not come from steps."""
    logits = logits_of(step, [FIRST, *drawn[:-1]])
    ranks = (logits > np.take_along_axis(logits, np.array(drawn)[:, None], axis=1)).sum(axis=1)
    return {
        "logits": logits_of(step, GIVEN),
        "greedy": greedy(step) if chosen is None else chosen,
        "drawn among the best": [len(drawn), ranks.max() < TOP_K],
    }


def ours(problem: Problem, threads: int) -> Runner:
    """Call `LanguageModel.generate`."""
    fl.set_num_threads(threads)
    vocabulary = Vocabulary(CHARACTERS)
    model = fl.LanguageModel(vocabulary, embedding=E, hidden=H, layers=1)
    model.load_state_dict(weights(problem))

    def step(token: int, state: Any) -> tuple[np.ndarray, Any]:
        logits, state = model.step([token], model.start() if state is None else state)
        return logits[0], state

    def write(**choices: Any) -> str:
        return model.generate(CHARACTERS[FIRST], length=TOKENS, **choices)

    def read(text: str) -> dict[str, Any]:
        return compared(step, list(vocabulary.encode(text)), list(vocabulary.encode(write(method="greedy"))))

    return Runner(partial(write, temperature=1.0, top_k=TOP_K), read)


def torch_cell(problem: Problem, threads: int) -> Runner:
    """Step with ``nn.LSTMCell``."""
    import torch

    cell = torch_loaded(torch.nn.LSTMCell(E, H), problem, "lstm", "_l0")

    def advance(features: Any, state: Any) -> tuple[Any, Any]:
        state = cell(features, state)
        return state[0], state

    return torch_loop(problem, threads, advance)


def torch_layer(problem: Problem, threads: int) -> Runner:
    """Step with ``nn.LSTM`` on sequences of one step."""
    import torch

    lstm = torch_loaded(torch.nn.LSTM(E, H), problem, "lstm")

    def advance(features: Any, state: Any) -> tuple[Any, Any]:
        hidden, state = lstm(features[None], state)
        return hidden[0], state

    return torch_loop(problem, threads, advance)


def torch_loaded(module: Any, problem: Problem, prefix: str, suffix: str = "") -> Any:
    """Return a module with the weights of that prefix."""
    import torch

    named = weights(problem)
    module.load_state_dict({name: torch.from_numpy(named[f"{prefix}.{name}{suffix}"]) for name in module.state_dict()})
    return module.eval()


def torch_loop(problem: Problem, threads: int, advance: Callable[[Any, Any], tuple[Any, Any]]) -> Runner:
    """Write a text: `advance` goes from features and a state to the hidden units and the state."""
    import torch

    torch.set_num_threads(threads)
    embedding = torch_loaded(torch.nn.Embedding(V, E), problem, "embedding")
    output = torch_loaded(torch.nn.Linear(H, V), problem, "output")

    def step(token: Any, state: Any) -> tuple[Any, Any]:
        hidden, state = advance(embedding(token), state)
        return output(hidden), state

    def call() -> list[int]:
        with torch.inference_mode():
            token, state, drawn = torch.tensor([FIRST]), None, []
            for _ in range(TOKENS):
                logits, state = step(token, state)
                best, ids = torch.topk(logits[0], TOP_K)
                token = ids[torch.multinomial(torch.softmax(best, dim=-1), 1)]
                drawn.append(token)
            return torch.cat(drawn).tolist()

    def row_step(token: int, state: Any) -> tuple[np.ndarray, Any]:
        with torch.inference_mode():
            logits, state = step(torch.tensor([token]), state)
        return logits[0].numpy(), state

    return Runner(call, partial(compared, row_step))


def onnx(problem: Problem, threads: int) -> Runner:
    """Run a model of one step, its state going in and coming out, and draw with NumPy."""
    named = weights(problem)
    output = {"output": named["output.weight"].T.copy(), "bias": named["output.bias"]}
    session = onnx_session(language_step_model(problem, {"embedding": named["embedding.weight"]} | output), threads)
    rng, zeros = np.random.default_rng(), np.zeros((1, 1, H), np.float32)

    def step(token: int, state: Any) -> tuple[np.ndarray, Any]:
        h, c = (zeros, zeros) if state is None else state
        logits, h, c = session.run(["logits", "h1", "c1"], {"ids": np.array([[token]]), "h": h, "c": c})
        return logits[0, 0], (h, c)

    def call() -> list[int]:
        token, state, drawn = FIRST, None, []
        for _ in range(TOKENS):
            logits, state = step(token, state)
            best = np.argpartition(logits, -TOP_K)[-TOP_K:]
            values = logits[best]
            cumulative = np.cumsum(np.exp(values - values.max()))
            token = int(best[np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")])
            drawn.append(token)
        return drawn

    return Runner(call, partial(compared, step))


CONTENDERS = (
    Contender(OURS, ours),
    Contender("torch cell", torch_cell, TORCH),
    Contender("torch layer", torch_layer, TORCH),
    Contender("onnxruntime", onnx, ONNX),
)


def cells(tiny: bool) -> Iterator[Cell]:
    read = 4 * H * (E + H) + V * H  # weights that a step reads: all but the embedding's
    facts = {"flops": 2.0 * read * TOKENS, "weight_bytes": 4 * read * TOKENS, "tokens": TOKENS}
    label = f"characters: V={V}, E={E}, H={H}, N=1, top-k {TOP_K}, {TOKENS} written"
    for threads in thread_counts()[: 1 if tiny else None]:
        yield Cell(label, threads, lambda: Problem(Shape(1, 1, E, H)), CONTENDERS, checks=1, facts=facts)


def test_generation(time_contender):
    time_contender()
