"""Learn a text and write more of it in several ways.

    python examples/write_in_the_manner_of.py [TEXT_FILE] [SECONDS]

Without a file it learns the language reference that comes with Python.
"""

import sys
from pathlib import Path

import fastlstm as fl
from fastlstm.data.text import default_text


def main(source: str | Path, seconds: float) -> None:
    """Train for some seconds, then compare ways to choose the next character."""
    model = fl.LanguageModel.train(source, seconds=seconds, streams=8)
    assert model.held_out is not None
    print(f"{model}: {model.held_out.bits_per_character:.2f} bits per character on the text's last tenth\n")

    prompt = "The "
    for choices in (
        {"method": "greedy"},
        {"temperature": 0.5},
        {"temperature": 1.0},
        {"top_k": 5},
        {"top_p": 0.9},
        {"beam_width": 8},
    ):
        said = ", ".join(f"{name} {value}" for name, value in choices.items())
        print(f"--- {said}\n{prompt}{model.generate(prompt, length=120, **choices)}\n")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else default_text(),
        float(sys.argv[2]) if len(sys.argv) > 2 else 30.0,
    )
