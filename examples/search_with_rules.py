"""Search for the most probable text that keeps to a rule: a language model as the step function of a beam search.

python examples/search_with_rules.py [SECONDS]
"""

import sys

import numpy as np

import fastlstm as fl
from fastlstm.data.text import default_text
from fastlstm.decode.beam import beam_search
from fastlstm.decode.beam_options import Constraints


def main(seconds: float) -> None:
    """Train for some seconds, then search freely, without repetition, and with a word that must appear."""
    model = fl.LanguageModel.train(default_text(), seconds=seconds, streams=8)
    prompt = model.vocabulary.encode("The value of ").astype(np.int64)

    state = model.start()
    for token in prompt[:-1]:
        _, state = model.step([token], state)

    word = tuple(model.vocabulary.encode(" object").tolist())
    for title, constraints in (
        ("free", Constraints()),
        ("no five characters twice", Constraints(no_repeat_ngram=5)),
        ('with " object" in it', Constraints(required=[word], no_repeat_ngram=5)),
    ):
        [best] = beam_search(
            model.step, int(prompt[-1]), state=state, beam_width=8, max_length=60, constraints=constraints
        )
        print(f"--- {title}: log-probability {best.logprob:.1f}\nThe value of {model.vocabulary.decode(best.ids)}\n")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
