"""The recipes of docs/decoding run, page by page, and give what they say."""

import ast
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "decoding"


def stated(comment):
    """The value that a comment states, perhaps before a colon; None where it is prose."""
    try:
        return repr(ast.literal_eval(comment.partition(": ")[0]))
    except (SyntaxError, ValueError):
        return None


def run(page):
    """Run the programs of a page one after the other; return their names, and how many values were compared."""
    names, compared = {}, 0
    for program in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        lines = program.splitlines()
        for statement in ast.parse(program).body:
            text = ast.get_source_segment(program, statement)
            comment = lines[statement.end_lineno - 1][statement.end_col_offset :].partition("# ")[2]
            if isinstance(statement, ast.Expr):
                value = eval(compile(text, str(page), "eval"), names)
                if (expected := stated(comment)) is not None:
                    assert repr(value) == expected, text
                    compared += 1
            else:
                exec(compile(text, str(page), "exec"), names)
    return names, compared


@pytest.mark.parametrize(("name", "values"), [("beam.md", 5), ("ctc.md", 20), ("sampling.md", 2)])
def test_recipes_give_what_they_say(name, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(PAGES / name)[1] >= values


def test_every_setting_of_the_sampling_table_is_one():
    page = PAGES / "sampling.md"
    names, _ = run(page)
    settings = [
        cell
        for row in re.findall(r"^\| .* \| (.*) \|$", page.read_text(), re.MULTILINE)
        for cell in re.findall(r"`(\w+=[^`]*)`", row)
    ]
    for setting in settings:
        drawn = eval(f"fl.decode.sample(logits, rng=rng, **({{'history': ids}} | dict({setting})))", names)
        assert drawn.shape == (4,)
    assert len(settings) > 15
