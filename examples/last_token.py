"""The textbook's stacked LSTM on a question whose answer stands 100 steps back.

The first token tells the class: below 10, or not. What follows it, tokens from the other 19,980, says nothing. An LSTM
that sees only sequences of 100 steps learns their noise by heart: at first its memory fades within some ten steps, and
so does the gradient. It is therefore trained on sequences of many lengths, a plain list of arrays, most of them short:
there it learns what to keep, and keeps it longer and longer. It is judged on sequences of full length only.

python examples/last_token.py [SEQUENCES]
"""

import sys
import time

import numpy as np

from fastlstm import LSTM, Dense, Dropout, Embedding, Sequential

TOKENS = 20_000
BACK = 100
"""How many steps before the last one the answer stands, at most."""


def sequences(back: np.ndarray, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Return sequences of ``back[n] + 1`` ids, and whether the first id of each is one of 10 to 19 (else 0 to 9)."""
    first = rng.integers(0, 20, len(back))
    x = [np.concatenate(([token], rng.integers(20, TOKENS, n))) for token, n in zip(first, back, strict=True)]
    return x, first >= 10


def main(count: int) -> None:
    """Train on `count` sequences, and print the accuracy on 2,000 others."""
    rng = np.random.default_rng(0)
    x, y = sequences(np.exp(rng.uniform(0.0, np.log(BACK + 1), count)).astype(int), rng)  # short ones most often
    x_test, y_test = sequences(np.full(2000, BACK), rng)

    model = Sequential(
        [
            Embedding(input_dim=20000, output_dim=128),
            LSTM(128, return_sequences=True),
            Dropout(0.2),
            LSTM(64),
            Dense(1, activation="sigmoid"),
        ],
        seed=1,
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    began = time.perf_counter()
    model.fit(x, y, epochs=2)
    seconds = time.perf_counter() - began
    figures = model.evaluate(np.array(x_test), y_test, return_dict=True)
    print(f"trained for {seconds:.0f} s; held-out accuracy, {BACK} steps back: {figures['accuracy']:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
