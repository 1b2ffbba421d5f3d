"""Imports go down only: walked in the source, function bodies included, so that no arrow hides in a late import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "fastlstm"
FLOORS = (
    "errors",
    "threads",
    "simd",
    "runtime",
    "kernels",
    "data",
    "engine",
    "layers",
    "training",
    "testing",
    "models",
    "interop",
    "benchmark",
    "cli",
)
"""The rooms from the ground up: the one place that says so. A room may import those before it, and itself."""

GROUND = ("errors", "threads")
"""What the decoders, which stand beside all of that, may import too."""

HEAVY = {"torch", "tensorflow", "keras", "jax", "onnx", "onnxruntime", "sklearn", "pandas", "matplotlib"}
TERMINAL = {"rich", "typer"}
MAY_IMPORT_AT_THE_TOP = {"cli": TERMINAL, "interop": set()}
MODULES = sorted(ROOT.rglob("*.py"))


def room_of(path):
    """Return the room a file is in: the folder, or the module itself for those that stand alone."""
    inside = path.relative_to(ROOT)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def absolute(node, path):
    """Return the dotted modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        return [node.module]
    package = ["fastlstm", *path.relative_to(ROOT).parent.parts]
    base = package[: len(package) - node.level + 1]
    if node.module:
        return [".".join([*base, node.module])]
    return [".".join([*base, alias.name]) for alias in node.names]  # from . import name


def type_checking_only(tree):
    """Return the nodes within ``if TYPE_CHECKING:``, which never run."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {id(inner) for block in blocks for statement in block.body for inner in ast.walk(statement)}


def imports(path):
    """Yield (line, dotted module) of every import that can run, wherever in the file it stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = type_checking_only(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in skipped:
            for module in absolute(node, path):
                yield node.lineno, module


def imports_at_the_top(path):
    """Yield (line, dotted module) of the imports that run when the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = type_checking_only(tree)
    inside_functions = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in skipped | inside_functions:
            for module in absolute(node, path):
                yield node.lineno, module


def allowed(source, target):
    """Tell whether a file in room `source` may import from room `target`."""
    if source in ("__init__", "__main__"):  # the public names come from everywhere; `python -m` starts the cli
        return target != "cli" or source == "__main__"
    if source == "decode":
        return target in ("decode", *GROUND)
    if target == "decode":
        return FLOORS.index(source) > FLOORS.index("layers")
    return FLOORS.index(target) <= FLOORS.index(source)


def short(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_no_import_goes_up_or_sideways(path):
    source = room_of(path)
    assert source in (*FLOORS, "decode", "__init__", "__main__"), f"{short(path)}: a room that no floor is known of"
    wrong = []
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] != "fastlstm":
            continue
        target = parts[1] if len(parts) > 1 else "__init__"
        if not (ROOT / target).is_dir() and not (ROOT / f"{target}.py").exists():
            target = "__init__"  # from fastlstm import name
        if target == "__init__":
            if source != "cli":
                wrong.append(f"line {line}: imports the package itself, which imports everything")
        elif not allowed(source, target):
            wrong.append(f"line {line}: {source} imports {target}")
    assert not wrong, f"{short(path)}: " + "; ".join(wrong)


def test_the_floors_are_the_rooms_there_are():
    """A room that has gone, or that was renamed, does not stay on the list."""
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__main__", "decode"}
    missing = set(FLOORS) - rooms - {"interop"}  # which is being built
    assert not missing, f"no such room: {missing}"


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_nothing_heavy_is_imported_before_it_is_needed(path):
    banned = (HEAVY | TERMINAL) - MAY_IMPORT_AT_THE_TOP.get(room_of(path), set())
    wrong = [f"line {line}: {module}" for line, module in imports_at_the_top(path) if module.split(".")[0] in banned]
    assert not wrong, f"{short(path)} imports at its top " + "; ".join(wrong)


@pytest.mark.parametrize(
    ("source", "target", "answer"),
    [
        ("kernels", "simd", True),
        ("kernels", "runtime", True),
        ("runtime", "kernels", False),
        ("runtime", "simd", True),
        ("engine", "data", True),
        ("engine", "kernels", True),
        ("engine", "layers", False),
        ("kernels", "engine", False),
        ("data", "engine", False),
        ("layers", "engine", True),
        ("kernels", "layers", False),
        ("simd", "kernels", False),
        ("layers", "data", True),
        ("data", "layers", False),
        ("decode", "errors", True),
        ("decode", "threads", True),
        ("decode", "simd", False),
        ("threads", "errors", True),
        ("threads", "kernels", False),
        ("decode", "kernels", False),
        ("kernels", "decode", False),
        ("models", "decode", True),
        ("models", "cli", False),
        ("__init__", "cli", False),
        ("__main__", "cli", True),
    ],
)
def test_the_rule_itself(source, target, answer):
    assert allowed(source, target) is answer


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("import fastlstm.layers.lstm", "fastlstm.layers.lstm"),
        ("from fastlstm.layers import LSTM", "fastlstm.layers"),
        ("from ..layers.lstm import LSTM", "fastlstm.layers.lstm"),
        ("from .. import layers", "fastlstm.layers"),
        ("from .gemm import pack", "fastlstm.kernels.gemm"),
        ("def f():\n    from ..layers import LSTM", "fastlstm.layers"),
    ],
)
def test_the_walker_sees_every_kind_of_import(tmp_path, monkeypatch, text, module):
    path = tmp_path / "kernels" / "probe.py"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert [found for _, found in imports(path)] == [module]
