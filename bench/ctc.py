"""CTC decoding beside fast-ctc-decode (Rust) and pyctcdecode (Python), one core each; prints a Markdown table.

Run ``python -m bench.ctc`` (about a minute) with ``fast-ctc-decode``, ``pyctcdecode`` and ``kenlm`` installed; what
is missing is left out. Every contender's text is compared with ours before it is timed, and the table says how many
characters differ. ``--agreement`` adds whose best strings are ours on 300 matrices, and why not (minutes: pyctcdecode).
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ctc_agreement import LETTERS, agreement, log_probs, peer
from fastlstm.decode.arpa import read_arpa
from fastlstm.decode.ctc import CTCDecoder, CTCFusion, CTCPruning, CTCUnits


def spoken(words: list[str], units: CTCUnits, seed: int, noise: float = 2.0) -> NDArray[np.float32]:
    """Return log-probabilities of a text, three frames a character, with noise."""
    rng = np.random.default_rng(seed)
    path = [label for c in " ".join(words) for label in (units.labels.index(c), units.labels.index(c), 0)]
    scores = (
        np.where(np.eye(len(units.labels))[path] > 0, 6.0, 0.0)
        + rng.normal(size=(len(path), len(units.labels))) * noise
    )
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


def best_of(run: Callable[[], Any], seconds: float = 1.0) -> float:
    """Return the least time of a call in milliseconds: what the machine's other users did not disturb."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < until and len(times) < 200):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
        if times[-1] > seconds:
            break
    return 1e3 * min(times)


def distance(a: str, b: str) -> int:
    """Return how many edits turn a into b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def line(name: str, ours: float, name_of_peer: str, theirs: float, text: str, their_text: str) -> str:
    return (
        f"| {name} | {ours:.2f} | {name_of_peer} | {theirs:.2f} | {theirs / ours:.1f} | "
        f"{distance(text, their_text)} of {len(text)} |"
    )


def without_model() -> list[str]:
    """Beam 25, no language model, nothing pruned."""
    rows = []
    rust, python = peer("fast_ctc_decode"), peer("pyctcdecode")
    for frames, labels in ((1000, 29), (5000, 5)):
        for kind, sharp, blank in (("peaky", 6.0, 2.0), ("clear", 3.0, 4.0), ("flat", 0.7, 0.0)):
            x = log_probs(frames, labels, sharp, blank)
            names = ["", *LETTERS[: labels - 1]]
            decoder = CTCDecoder(25, units=CTCUnits(names))
            text = decoder.decode(x)[0].text or ""
            ours = best_of(lambda x=x, decoder=decoder: decoder.decode(x))
            name = f"T={frames}, {labels} labels, {kind}"
            if rust:
                p = np.exp(x)
                theirs = best_of(lambda p=p, names=names: rust.beam_search(p, names, 25, 0.0))
                rows.append(line(name, ours, "fast-ctc-decode", theirs, text, rust.beam_search(p, names, 25, 0.0)[0]))
            if python and labels == 29:
                other = python.build_ctcdecoder(names)
                begin = time.perf_counter()
                their_text = other.decode(x, beam_width=25, beam_prune_logp=-1e9, token_min_logp=-1e9)
                theirs = 1e3 * (time.perf_counter() - begin)
                rows.append(line(name, ours, "pyctcdecode", theirs, text, their_text))
                pruning = CTCPruning(token_min_logp=-5.0, beam_min_logp=-10.0)
                pruned = CTCDecoder(25, units=CTCUnits(names), pruning=pruning)
                text = pruned.decode(x)[0].text or ""
                ours = best_of(lambda x=x, pruned=pruned: pruned.decode(x))
                theirs = best_of(lambda x=x, other=other: other.decode(x, beam_width=25))
                rows.append(
                    line(
                        f"{name}, pruned as its default",
                        ours,
                        "pyctcdecode",
                        theirs,
                        text,
                        other.decode(x, beam_width=25),
                    )
                )
    return rows


def with_model() -> list[str]:
    """Beam 25 with a word trigram model of 2,000 words, pruned by pyctcdecode's defaults."""
    python, kenlm = peer("pyctcdecode"), peer("kenlm")
    if not (python and kenlm):
        return []
    rng = np.random.default_rng(3)
    words = sorted({"".join(rng.choice(list(LETTERS[:26]), size=rng.integers(2, 9))) for _ in range(2000)})
    units = CTCUnits(["", " ", *LETTERS[:26], "'"], delimiter=" ")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "words.arpa")
        path.write_text(random_arpa(rng, words))
        model = read_arpa(path)
        other = python.build_ctcdecoder(list(units.labels), str(path), unigrams=words, alpha=0.5, beta=1.5)
    pruning = CTCPruning(token_min_logp=-5.0, beam_min_logp=-10.0)
    fusion = CTCFusion(model, alpha=0.5, beta=1.5, unk_score=-10.0 * np.log(10.0) * 0.5)
    decoder = CTCDecoder(25, units=units, pruning=pruning, fusion=fusion)
    rows = []
    for noise in (1.0, 2.0, 3.0):
        x = spoken([words[int(i)] for i in rng.integers(len(words), size=55)], units, seed=4, noise=noise)[:1000]
        text, their_text = decoder.decode(x)[0].text or "", other.decode(x, beam_width=25)
        ours = best_of(lambda x=x: decoder.decode(x))
        theirs = best_of(lambda x=x: other.decode(x, beam_width=25))
        rows.append(
            line(f"T={len(x)}, 29 labels, trigrams, noise {noise}", ours, "pyctcdecode", theirs, text, their_text)
        )
    return rows


def random_arpa(rng: np.random.Generator, words: list[str]) -> str:
    """Return a trigram model of random weights over ``words``."""

    def weights() -> tuple[float, float]:
        return (-float(rng.uniform(1.0, 4.0)), -float(rng.uniform(0.0, 0.5)))

    grams: list[dict[tuple[str, ...], tuple[float, float]]] = [
        {(w,): weights() for w in ("<unk>", "<s>", "</s>", *words)}
    ]
    for order in (2, 3):
        longer = {}
        for context in list(grams[-1]):
            if context[-1] not in ("</s>", "<unk>"):
                for i in rng.integers(len(words), size=5 if order == 2 else 1):
                    if order == 2 or (*context[1:], words[int(i)]) in grams[1]:
                        longer[(*context, words[int(i)])] = weights()
        grams.append(longer)
    lines = ["\\data\\", *(f"ngram {n}={len(g)}" for n, g in enumerate(grams, 1))]
    for n, g in enumerate(grams, 1):
        lines += ["", f"\\{n}-grams:"]
        lines += [f"{p:.4f}\t{' '.join(gram)}" + (f"\t{b:.4f}" if n < 3 else "") for gram, (p, b) in g.items()]
    return "\n".join([*lines, "", "\\end\\", ""])


def two_threads() -> str:
    """How much two threads decode in the time of one."""
    x = log_probs(20_000, 29, 3.0, 4.0)
    decoder = CTCDecoder(25)

    def several(count: int) -> float:
        threads = [threading.Thread(target=decoder.decode, args=(x,)) for _ in range(count)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - begin

    ratio = max(2.0 * several(1) / several(2) for _ in range(5))
    return f"Two threads decode {ratio:.2f} times as much as one."


def installed(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} missing"


def processor() -> str:
    """Return the processor's name."""
    try:
        rows = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        rows = []
    names = [row.split(":")[1].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agreement", action="store_true", help="compare 300 matrices as well (minutes)")
    parser.add_argument("--write", type=Path, help="put the report between the marks of this Markdown file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    versions = ", ".join(installed(name) for name in ("numpy", "fast-ctc-decode", "pyctcdecode", "kenlm"))
    lines = [
        f"{date.today()}, {processor()}, one core, beam 25, load average before {os.getloadavg()[0]:.1f}; {versions}",
        "",
        "| input | ours, ms | peer | peer, ms | times as fast | edits between the texts |",
        "|---|---|---|---|---|---|",
        *without_model(),
        *with_model(),
        "",
        two_threads(),
    ]
    if options.agreement:
        lines += ["", *agreement()]
    report = "\n".join(lines)
    print(report)
    if options.write:
        before, _, rest = options.write.read_text().partition("<!-- bench -->")
        after = rest.partition("<!-- /bench -->")[2]
        options.write.write_text(f"{before}<!-- bench -->\n{report}\n<!-- /bench -->{after}")


if __name__ == "__main__":
    main()
