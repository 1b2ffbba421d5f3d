"""Look for the unit of a language model that counts brackets (after Karpathy, Johnson and Fei-Fei 2015).

    python examples/inspect_gates.py [EPOCHS] [PICTURE]

The text is made: brackets, at most five deep, around letters. What may come next depends on how many are open.
"""

import sys

import numpy as np

import fastlstm as fl


def depths(text: str) -> np.ndarray:
    """Return how many brackets are open after each character."""
    return np.cumsum([(character == "(") - (character == ")") for character in text])


def nested(count: int, rng: np.random.Generator) -> str:
    """Return a text of `count` characters, and then as many as close its brackets."""
    text, depth = [], 0
    for chance, letter in zip(rng.random(count), rng.choice([*"abc"], count), strict=True):
        text.append("(" if chance < 0.2 and depth < 5 else ")" if chance > 0.8 and depth > 0 else letter)
        depth += (text[-1] == "(") - (text[-1] == ")")
    return "".join(text) + ")" * depth


model = fl.LanguageModel.train(nested(50_000, np.random.default_rng(0)), hidden=24, epochs=int([*sys.argv, 20][1]))
text = nested(60, np.random.default_rng(1))
trace = fl.inspect(model, text)
found = [np.corrcoef(cell, depths(text))[0, 1] for cell in trace.cell[0].T]
best = np.argsort(-np.abs(found))[:4]
print("\n".join(f"unit {unit}: correlation of its cell state with the depth {found[unit]:+.3f}" for unit in best))
if len(sys.argv) > 2:
    trace.plot(units=best.tolist()).savefig(sys.argv[2])
