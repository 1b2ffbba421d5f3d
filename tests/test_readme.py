"""What README says is true: its programs run, its commands exist, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from fastlstm import cli

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_its_programs_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    programs = blocks("python")
    assert len(programs) >= 4
    for program in programs:
        exec(compile(program, str(README), "exec"), names)
    assert (tmp_path / "hamlet.safetensors").exists()
    assert len(names["best"].ids) == 10


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if "fastlstm " in line])
def test_its_commands_have_only_options_that_there_are(line, monkeypatch, capsys):
    command, *arguments = shlex.split(line.split("fastlstm ", 1)[1], comments=True)
    options = [argument for argument in arguments if re.match(r"--?\w", argument)]
    monkeypatch.setattr("sys.argv", ["fastlstm", command, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    shown = capsys.readouterr().out
    for option in options:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown), f"{option} is no option of {command}"


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))
def test_its_links_lead_somewhere(link):
    assert (README.parent / link).exists()
