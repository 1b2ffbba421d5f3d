"""The command line as a person meets it: what it prints where, what it leaves behind, how it ends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastlstm import cli
from fastlstm.models.inspecting import inspect
from fastlstm.models.language_model import LanguageModel
from fastlstm.models.traces import Trace

TEXT = "how much wood would a woodchuck chuck if a woodchuck could chuck wood?\n" * 40
QUICK = ["--hidden", "16", "--embedding", "8", "--window", "16", "--streams", "4", "--learning-rate", "0.02"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; return its exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fastlstm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return call


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def model(book):
    path = book.with_name("book.safetensors")
    LanguageModel.train(book, hidden=16, embedding=8, window=16, streams=4, learning_rate=0.02, epochs=12).save(path)
    return path


def process(*arguments, program="from fastlstm.cli import main; main()", **options):
    installed = Path(cli.__file__).parents[1]  # what a child imports: not the sources in the folder that pytest runs in
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, cwd=installed, **options)


def figure(pattern, text):
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in {text!r}"
    return float(found[1].replace(",", ""))


# --- the commands ---------------------------------------------------------------------------------------------------


def test_train_evaluate_generate(run, book, tmp_path):
    path = tmp_path / "m.safetensors"
    code, out, err = run("train", book, "-o", path, *QUICK, "--epochs", 12)
    assert code == 0
    assert f"Text: {len(TEXT):,} characters, {len(set(TEXT))} different chars." in out
    assert f"Saved in {path}." in out
    held_out = figure(r"held-out: ([\d.]+) bits/char\n$", out)
    assert held_out < 2.0
    lines = err.splitlines()
    assert [line[:5] for line in lines] == [f"{tenth}0 %" if tenth == 10 else f" {tenth}0 %" for tenth in range(1, 11)]
    assert "\x1b" not in out + err

    code, out, err = run("evaluate", path, book)
    assert (code, err) == (0, "")
    expected = LanguageModel.load(path).evaluate(TEXT)
    assert out.endswith(f"{expected.bits_per_character:.3f} bits/char\n")
    assert figure(r"perplexity ([\d.]+) per token", out) == round(expected.perplexity, 2)

    code, out, err = run("generate", path, "--prompt", "how ", "--length", 25, "--top-k", 3, "--seed", 1)
    assert (code, err) == (0, "")
    assert out == "how " + LanguageModel.load(path).generate("how ", length=25, top_k=3, seed=1) + "\n"


def test_every_option_reaches_the_model(run, book, tmp_path):
    path = tmp_path / "m.safetensors"
    values = {
        "level": "word", "min_count": 3, "max_vocabulary": 9, "held_out": 0.2, "embedding": 12, "hidden": 12,
        "layers": 2, "dropout": 0.1, "tied": True, "window": 10, "streams": 3, "optimizer": "adamw",
        "learning_rate": 0.003, "schedule": "linear", "warmup": 0.1, "clip": None, "epochs": 2, "seconds": 30.0,
        "patience": 2, "seed": 5,
    }  # fmt: skip
    arguments = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        arguments += [flag] if value is True else [flag, value if value is not None else 0]
    assert run("train", book, "-o", path, *arguments)[0] == 0
    options = LanguageModel.load(path).options
    assert options.config() == values
    defaults = cli.DEFAULTS.config()
    assert all(defaults[name] != value for name, value in values.items()), "an option that was not changed"


def test_the_options_of_train_are_those_of_the_library(run):
    code, out, _ = run("train", "--help")
    assert code == 0
    for name in cli.DEFAULTS.config():
        assert "--" + name.replace("_", "-") in out


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (["--method", "greedy"], {"method": "greedy"}),
        (["--temperature", 0.7, "--top-p", 0.9, "--seed", 3], {"temperature": 0.7, "top_p": 0.9, "seed": 3}),
        (["--beam-width", 3], {"beam_width": 3}),
    ],
)
def test_ways_to_generate(run, model, arguments, choices):
    code, out, _ = run("generate", model, "--prompt", "a wood", "--length", 20, *arguments)
    assert code == 0
    assert out == "a wood" + LanguageModel.load(model).generate("a wood", length=20, **choices) + "\n"


@pytest.mark.parametrize(
    ("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_inspect_draws_a_picture_of_the_kind_that_the_name_says(run, model, tmp_path, ending, begins):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"gates.{ending}"
    code, out, err = run("inspect", model, "--text", "a wood", "-o", path)
    assert (code, err) == (0, "")
    assert out == f"lstm over 6 steps. Saved in {path}.\n"
    assert path.read_bytes().startswith(begins)


def test_inspect_draws_the_layer_and_the_units_that_are_asked_for(run, model, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(
        Trace, "plot", lambda *_, plot=Trace.plot, **options: drawn.append(options) or plot(*_, **options)
    )
    assert run("inspect", model, "--text", "a", "-o", tmp_path / "a.svg", "--layer", "lstm", "--units", "0,3,7")[0] == 0
    assert drawn == [{"layer": "lstm", "units": [0, 3, 7]}]


def test_inspect_saves_the_numbers(run, model, tmp_path):
    path = tmp_path / "gates.npz"
    code, out, _ = run("inspect", model, "--text", "a wood", "--output", path)
    assert (code, out) == (0, f"lstm over 6 steps. Saved in {path}.\n")
    expected = inspect(LanguageModel.load(model), "a wood").to_dict()
    with np.load(path, allow_pickle=False) as saved:
        assert {*saved} == {*expected}
        assert all((saved[name] == expected[name]).all() for name in saved)


def test_inspect_without_matplotlib_names_the_extra(run, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run("inspect", model, "--text", "a", "-o", tmp_path / "a.png")
    assert code == 1
    assert "pip install 'fastlstm[plot]'" in err
    assert err.count("\n") == 1


def test_demo_shows_every_way_to_write_and_ends_with_the_figure(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "DEMO", cli.DEMO.replaced({"hidden": 32, "embedding": 16, "held_out": 0.01}))
    path = tmp_path / "demo.safetensors"
    code, out, _ = run("demo", "--seconds", 3, "-o", path)
    assert code == 0
    assert re.findall(r"^--- ([\w-]+)", out, re.MULTILINE) == ["greedy", "top-k", "top-p", "beam"]
    assert f"Next: fastlstm generate {path} --prompt" in out
    last = out.splitlines()[-1]
    assert re.fullmatch(r"held-out: \d\.\d{3} bits/char", last)
    assert figure(r"([\d.]+)", last) < 4.0  # chance is 6.7; letters' frequencies alone give 4.5
    assert LanguageModel.load(path).options.seconds == 3.0


def test_the_demo_trains_for_a_minute_on_nine_tenths():
    assert cli.DEMO_SECONDS <= 60
    assert cli.DEMO.held_out == 0.1


# --- input ----------------------------------------------------------------------------------------------------------


def test_standard_input(book, model, tmp_path):
    path = tmp_path / "m.safetensors"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = process("train", "-", "-o", path, *QUICK, "--epochs", 1, "--encoding", "utf-16", **pipes)
    out, err = child.communicate(TEXT.encode("utf-16"), timeout=100)
    assert child.returncode == 0, err
    assert f"{len(TEXT):,} characters".encode() in out

    child = process("generate", model, "--prompt", "-", "--length", 5, "--method", "greedy", **pipes)
    out, err = child.communicate(b"a wood", timeout=100)
    assert out.decode() == "a wood" + LanguageModel.load(model).generate("a wood", length=5, method="greedy") + "\n"
    assert err == b""


def test_several_files_are_one_text(run, book, model, tmp_path):
    (tmp_path / "more.txt").write_text("would a duck cook?")
    code, out, _ = run("evaluate", model, book, tmp_path / "more.txt")
    expected = LanguageModel.load(model).evaluate(TEXT + "would a duck cook?")
    assert code == 0
    assert out.endswith(f"{expected.bits_per_character:.3f} bits/char\n")
    assert out != run("evaluate", model, book)[1]


# --- endings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "no such file"], "no such file: No such file or directory"),
        (["train", "{empty}"], "the text is empty"),
        (["train", "{short}"], "less than one window"),
        (["train", "{latin}"], "latin.txt is not utf-8: byte 0xe9 at 3"),
        (["train", "{book}", "--encoding", "utf-99"], "'utf-99'"),
        (["train", "{book}", "--hidden", "0"], "hidden is 0"),
        (["train", "{book}", "--level", "line"], "'line'"),
        (["train", "{book}", "--min-count", "1000000"], "min_count is 1000000, but no token occurs as often"),
        (["train", "{book}", "--tied"], "tied=True needs embedding = hidden"),
        (["train", "{book}", "-o", "{folder}/none/m"], "none is no folder"),
        (["train", "{book}", "-o", "{folder}"], "is a folder"),
        (["generate", "{model}", "--prompt", "Zoë"], "2 characters that the vocabulary lacks: 'Z'"),
        (["generate", "{model}", "--top-k", "3", "--beam-width", "3"], "top_k cannot go with beam"),
        (["generate", "{book}"], "book.txt"),
        (["generate", "{folder}/none"], "none"),
        (["evaluate", "{model}", "{latin}", "--encoding", "latin-1"], "'é'"),
        (["inspect", "{model}", "--text", "Zoë"], "2 characters that the vocabulary lacks: 'Z'"),
        (["inspect", "{model}", "--text", ""], "the text is empty"),
        (["inspect", "{model}", "--text", "a", "-o", "{folder}/a.txt"], "expected a name that ends in .png"),
        (["inspect", "{model}", "--text", "a", "-o", "{folder}/none/a.png"], "none is no folder"),
        (["inspect", "{model}", "--text", "a", "--layer", "gru"], "no recurrent layer 'gru'; there are 'lstm'"),
        (["inspect", "{model}", "--text", "a", "--units", "1;2"], "--units is '1;2'; expected whole numbers"),
        (["inspect", "{model}", "--text", "a", "--units", "99"], "unit 99; lstm has 16, 0 to 15"),
        (["inspect", "{model}", "--text", "a", "-o", "{folder}/a.npz", "--units", "1"], "--units go with a picture"),
        (["inspect", "{book}", "--text", "a"], "book.txt"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_exit_code_1(run, book, model, tmp_path, arguments, message):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("short")
    (tmp_path / "latin.txt").write_bytes("cafés".encode("latin-1"))
    places = {name: tmp_path / f"{name}.txt" for name in ("empty", "short", "latin")}
    places |= {"book": book, "model": model, "folder": tmp_path}
    arguments = [argument.format(**places) for argument in arguments]
    if arguments[0] == "train" and "-o" not in arguments:
        arguments += ["-o", tmp_path / "m.safetensors"]
    if arguments[0] == "inspect" and "-o" not in arguments:
        arguments += ["-o", tmp_path / "m.svg"]
    code, out, err = run(*arguments)
    assert code == 1
    assert re.fullmatch(r"fastlstm: error: .+\n", err)
    assert message in err
    assert not [*tmp_path.glob("m.*")]
    assert "Traceback" not in out + err


def test_debug_shows_the_traceback(monkeypatch, book):
    monkeypatch.setattr(sys, "argv", ["fastlstm", "train", str(book), "--hidden", "0", "--debug"])
    with pytest.raises(ValueError, match="hidden is 0"):
        cli.main()


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["train", "x", "--colour"], ["fly"], ["generate", "m", "--length", "0"], ["inspect", "m"], []],
)
def test_a_wrong_command_line_is_exit_code_2(run, arguments):
    code, out, err = run(*arguments)
    assert code == 2
    assert "Usage" in out + err


@pytest.mark.parametrize("command", ["demo", "train", "generate", "evaluate", "inspect", "bench"])
def test_help_has_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"fastlstm {command} " in out.split("Example")[1]


def test_version(run):
    code, out, _ = run("--version")
    assert (code, out) == (0, f"fastlstm {__import__('fastlstm').__version__}\n")


def test_an_interrupt_saves_what_was_learned(book, tmp_path):
    path = tmp_path / "m.safetensors"
    child = process("train", book, "-o", path, *QUICK, "--seconds", 20, stderr=subprocess.PIPE, text=True)
    lines = [child.stderr.readline()]  # a tenth is done
    child.send_signal(signal.SIGINT)
    lines += child.communicate(timeout=60)[1].splitlines()
    assert child.returncode == 130
    assert f"interrupted; the model as it was is saved in {path}" in "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)
    assert LanguageModel.load(path).evaluate(TEXT).bits_per_character < 2.0


def test_a_training_that_diverges_saves_the_last_good_weights(run, book, tmp_path):
    path = tmp_path / "m.safetensors"
    wild = ["--optimizer", "sgd", "--learning-rate", "1e39", "--schedule", "constant", "--clip", 0]
    code, _, err = run("train", book, "-o", path, *QUICK[:-2], *wild)
    assert code == 1
    assert f"the training broke off; the model as it was is saved in {path}" in err
    assert re.search(r"error: the loss became (nan|inf) at step \d+ \(epoch 1\)", err)
    assert LanguageModel.load(path).evaluate(TEXT).loss > 0  # finite


def test_a_live_bar_on_a_terminal(book, tmp_path):
    pty = pytest.importorskip("pty")
    main, other = pty.openpty()
    child = process("train", book, "-o", tmp_path / "m", *QUICK, stdout=subprocess.PIPE, stderr=other)
    os.close(other)
    child.communicate(timeout=100)
    shown = b""
    while True:
        try:
            chunk = os.read(main, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(main)
    assert child.returncode == 0
    assert b"\x1b[" in shown
    assert b"100%" in shown
    assert "━".encode() in shown


def test_a_reader_that_goes_away_is_no_error_of_ours(model):
    child = process("generate", model, "--length", 50, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=100) == 1
    assert b"Traceback" not in err


# Linux also counts what a process held before exec, its parent's: so a small one starts the one that is measured.
MEASURE = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-c", "from fastlstm.cli import main; main()", *sys.argv[1:]])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(done.returncode, peak if sys.platform != "darwin" else peak // 1024)
"""


def test_a_5_mb_text_is_trained_on_within_500_mb(tmp_path):
    pytest.importorskip("resource")
    path = tmp_path / "large.txt"
    path.write_text(
        "".join(f"line {number}: the quick brown fox, {number * 7919 % 10007}\n" for number in range(140_000))
    )
    assert path.stat().st_size > 5_000_000
    child = process(
        *("train", path, "-o", tmp_path / "m", "--seconds", 1, "--held-out", 0.01),
        program=MEASURE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    status, kilobytes = map(int, child.communicate(timeout=300)[0].split()[-2:])
    assert status == 0
    assert 50_000 < kilobytes < 500_000


def test_a_file_without_its_byte_order_mark_is_an_error_of_one_line(model, book):
    child = process("evaluate", model, book, "--encoding", "utf-16", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    err = child.communicate(timeout=100)[1]
    assert child.returncode == 1
    assert b"is not utf-16" in err
    assert b"Traceback" not in err


def test_a_terminal_that_lacks_a_character_gets_its_number(tmp_path, monkeypatch):
    path = tmp_path / "accents"
    LanguageModel.train("déjà vu " * 40, hidden=8, embedding=4, window=8, streams=2, epochs=1).save(path)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    child = process("generate", path, "--prompt", "d", "--length", 30, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = child.communicate(timeout=100)
    assert (child.returncode, err) == (0, b"")
    out.decode("ascii")
