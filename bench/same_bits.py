"""No bit lost: random calls of the installed package and of an earlier commit, compared bit for bit.

``python -m bench.same_bits`` installs commit `aff5a4a` in a second environment, which finds the same NumPy and Numba as
this one, and runs `same_bits_calls.py` in both. Compiled kernels of both sides are made from scratch: what an earlier
version left in a cache proves nothing. Exits with 1 where a bit differs.
"""

import argparse
import io
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["compare", "differences", "main"]

ROOT = Path(__file__).parents[1]
BEFORE = "aff5a4a"
"""The commit that the issue of the engine names."""
SHOWN = 20
"""Calls that differ and are printed; more are only counted."""
LINES = 6
"""Arrays of one call that are printed."""


def export(commit: str, folder: Path) -> Path:
    """Write the files of a commit to a folder."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def install(source: Path, folder: Path) -> str:
    """Install a source folder into a new environment beside the packages of this one; return its Python."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    where = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", "venv", where))
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "same_packages.pth").write_text("\n".join(sorted(packages)))  # after its own, so its own fastlstm is found
    here = ["--no-build-isolation"] if find_spec("Cython") and find_spec("setuptools") else []
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", *here]
    subprocess.run([*pip, "--ignore-installed", str(source)], check=True, env=environment())
    return str(python)


def environment(path: Path | None = None, cache: Path | None = None) -> dict[str, str]:
    """Return this process's variables, with `path` alone to look for packages first, and a cache for kernels."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        variables["PYTHONPATH"] = str(path)
    if cache is not None:
        variables["NUMBA_CACHE_DIR"] = str(cache)
    return variables


def run(python: str, variables: Mapping[str, str], folder: Path, seed: int, calls: int) -> dict[str, Any]:
    """Run the calls with a Python; return all that they gave."""
    file, script = folder / "results.npz", ROOT / "bench" / "same_bits_calls.py"
    folder.mkdir(exist_ok=True)
    subprocess.run(
        [python, str(script), "--seed", str(seed), "--calls", str(calls), str(file)],
        check=True,
        cwd=folder,
        env=dict(variables),
    )
    with np.load(file) as results:
        return dict(results)


def differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Return a line for each array of one call that is not the same, or that no call should give."""
    lines = [f"{name} only {'now' if name in now else 'before'}" for name in sorted(now.keys() ^ before.keys())]
    for name in sorted(now.keys() & before.keys()):
        a, b = now[name], before[name]
        if a.dtype.kind == b.dtype.kind == "U":
            if a != b:
                lines.append(f"{name}: {a}, before {b}")
        elif a.dtype != b.dtype or a.shape != b.shape:
            lines.append(f"{name}: {a.dtype} {a.shape}, before {b.dtype} {b.shape}")
        elif a.tobytes() != b.tobytes():
            bits = (a.reshape(-1, 1).view(np.uint8) != b.reshape(-1, 1).view(np.uint8)).any(axis=1)
            far = np.abs(np.subtract(a, b, dtype=np.float64)).max()
            lines.append(f"{name}: {bits.sum()} of {a.size} values differ, by up to {far:.3g}")
    for name, results in (("now", now), ("before", before)):
        if "error" in results:
            lines.append(f"error {name}: {results['error']}")
        if not results.get("repeats", True):
            lines.append(f"{name}, a call that is repeated gives other bits")
    return lines


def compare(now: Mapping[str, Any], before: Mapping[str, Any], calls: int) -> int:
    """Print how many calls are the same, and what differs in the others; return the number of the others."""
    wrong, arrays = 0, 0
    for number in range(calls):
        one, other = (
            {name.partition("/")[2]: value for name, value in side.items() if name.startswith(f"{number:04d}/")}
            for side in (now, before)
        )
        arrays += len(one)
        if lines := differences(one, other) or ([] if one else ["no results"]):
            wrong += 1
            if wrong <= SHOWN:
                rest = [f"and {len(lines) - LINES} more"] if len(lines) > LINES else []
                print(f"call {number}, {one.get('what', '?')}:", *lines[:LINES], *rest, sep="\n    ")
    print(f"{calls - wrong} of {calls} calls are equal bit for bit ({arrays} arrays)")
    return wrong


def main() -> int:
    """Run both sides and compare them."""
    parser = argparse.ArgumentParser(prog="python -m bench.same_bits", description=__doc__.splitlines()[0])
    parser.add_argument("--commit", default=BEFORE, help=f"to compare with; default {BEFORE}")
    parser.add_argument("--calls", type=int, default=300, help="random calls; default 300")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inplace", action="store_true", help="import the commit's sources without building them")
    options = parser.parse_args()
    import fastlstm

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = export(options.commit, folder / "source")
        cache = folder / "kernels"
        if options.inplace:  # layers and models need no decoder
            before = sys.executable, environment(source, cache)
        else:
            before = install(source, folder / "environment"), environment(None, cache)
        now = sys.executable, environment(Path(fastlstm.__file__).parents[1], cache)
        found = [
            run(*side, folder / name, options.seed, options.calls) for name, side in (("now", now), ("before", before))
        ]
    for word, side in zip(("now", options.commit), found, strict=True):
        print(f"{word}: {side['fastlstm']}, {side['packages']}")
    if found[0]["packages"] != found[1]["packages"] or found[0]["fastlstm"] == found[1]["fastlstm"]:
        print("these are not two versions beside the same packages: nothing is compared")
        return 1
    return 1 if compare(*found, options.calls) else 0


if __name__ == "__main__":
    sys.exit(main())
