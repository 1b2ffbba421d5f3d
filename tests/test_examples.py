"""The examples run, quickly, as a person would start them."""

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import fastlstm

ROOT = Path(__file__).parents[1]


def run(name, *arguments):
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(fastlstm.__file__).parents[1])}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout


def test_write_in_the_manner_of(tmp_path):
    (tmp_path / "text.txt").write_text("The cat sat on the mat.\n" * 100)
    out = run("write_in_the_manner_of.py", tmp_path / "text.txt", 1)
    head, *samples = out.split("--- ")
    assert float(re.search(r"([\d.]+) bits per character", head)[1]) < math.log2(13)  # chance, of 13 characters
    titles, texts = zip(*(sample.removesuffix("\n\n").split("\n", 1) for sample in samples), strict=True)
    assert [*titles] == ["method greedy", "temperature 0.5", "temperature 1.0", "top_k 5", "top_p 0.9", "beam_width 8"]
    assert all(len(text) == len("The ") + 120 and text.startswith("The ") for text in texts)


def test_search_with_rules():
    out = run("search_with_rules.py", 1)
    free, no_repeats, required = (found.split("\n", 1)[1] for found in out.split("--- ")[1:])
    assert all(found.startswith("The value of ") for found in (free, no_repeats, required))
    assert " object" in required
    written = no_repeats.removeprefix("The value of ")[:60]
    assert len({written[place : place + 5] for place in range(len(written) - 4)}) == len(written) - 4


def test_last_token():
    assert float(re.search(r"100 steps back: ([\d.]+)", run("last_token.py"))[1]) >= 0.99


def test_inspect_gates(tmp_path):
    picture = [tmp_path / "gates.png"] if importlib.util.find_spec("matplotlib") else []
    out = run("inspect_gates.py", 3, *picture)
    best, *others = [abs(float(found)) for found in re.findall(r"depth ([+-][\d.]+)", out)]
    assert best > 0.8
    assert len(others) == 3
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in picture)


def test_dates():
    out = run("dates.py", 1)
    assert re.search(r"'.+' -> [-0-9]+\nexact: [\d.]+% of \d+", out)
