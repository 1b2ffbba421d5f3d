"""Write dates in words as ISO dates, by attention, and show where it looks: dates.py [epochs] [picture.png]."""

import datetime
import sys
import time

import numpy as np

import fastlstm as fl

FORMATS = ["%A, %d %B %Y", "%d %B %Y", "%B %d, %Y", "%b %d %Y", "%a %d %b %Y", "%d. %b %y", "the %d of %B, %Y"]
START, END = 0, 1
CHARACTERS = "<>0123456789-,. ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def ids(text):
    """Return the numbers of a text's characters."""
    return np.array([CHARACTERS.index(character) for character in text])


def dates(rng, count):
    """Return pairs: a date in words, in one of the formats, and the same date in ISO form."""
    days = [datetime.date(1970, 1, 1) + datetime.timedelta(int(day)) for day in rng.integers(0, 29_000, count)]
    return [(day.strftime(FORMATS[rng.integers(len(FORMATS))]), str(day)) for day in days]


source, target = fl.Input((None,), name="words"), fl.Input((None,), name="iso")
embed = fl.Embedding(len(CHARACTERS), 32)
letters = embed(source)
places, *states = fl.Bidirectional(fl.LSTM(32, return_sequences=True, return_state=True))(letters)
start = [fl.Concatenate()(states[::2]), fl.Concatenate()(states[1::2])]  # h and c of both directions
hidden = fl.LSTM(64, return_sequences=True)(embed(target), initial_state=start)
seen, looks = fl.Attention(score_mode="general", return_attention_scores=True)([hidden, letters, places])
both = fl.Dense(96, activation="tanh")(fl.Concatenate()([hidden, seen]))
model = fl.Model([source, target], fl.Dense(len(CHARACTERS), activation="softmax")(both), seed=0)
attention = fl.Model([source, target], looks)  # the same layers

rng = np.random.default_rng(0)
known = dict(dates(rng, 12_000))
read, write = [ids(words) for words in known], [ids(f"<{iso}>") for iso in known.values()]
model.compile(fl.optimizers.Adam(0.003, clipnorm=1.0), "sparse_categorical_crossentropy")
began = time.perf_counter()
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 6
model.fit([read, [one[:-1] for one in write]], [one[1:] for one in write], batch_size=64, epochs=epochs)

words, iso = zip(*((words, iso) for words, iso in dates(rng, 1000) if words not in known), strict=True)  # held out
step, state = model.step_function("iso", [ids(one) for one in words])
found = fl.decode.beam_search(step, [START] * len(words), state=state, beam_width=3, max_length=11, eos_id=END)
written = ["".join(CHARACTERS[i] for i in best.ids if i != END) for [best] in found]
right = np.mean([one == other for one, other in zip(written, iso, strict=True)])
print(f"{words[0]!r} -> {written[0]}\nexact: {right:.2%} of {len(words)}, after {time.perf_counter() - began:.0f} s")

if len(sys.argv) > 2:
    from matplotlib import pyplot

    scores = attention.predict([[ids(words[0])], [ids("<" + iso[0])]])[0]
    pyplot.imshow(scores[:, : len(words[0])], cmap="Greys")
    pyplot.xticks(range(len(words[0])), words[0])
    pyplot.yticks(range(len(iso[0]) + 1), [*iso[0], "end"])
    pyplot.savefig(sys.argv[2], bbox_inches="tight", dpi=150)
