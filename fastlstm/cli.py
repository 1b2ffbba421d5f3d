"""The command line: ``fastlstm demo | train | generate | evaluate | inspect | bench``.

Results go to standard output, progress and errors to standard error. Exit codes: 0 all went well, 1 an error that one
line explains, 2 a wrong command line, 130 interrupted (what was learned is saved first).
"""

import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import DivergedError, FastLSTMError, OptionError
from .models.language_options import LanguageModelOptions

if TYPE_CHECKING:
    from .data.text import Corpus, Readable
    from .models.language_model import Evaluation, LanguageModel
    from .models.language_training import Progress

__all__ = ["app", "main"]

DEFAULTS = LanguageModelOptions()
DEMO = LanguageModelOptions(streams=8, learning_rate=0.005)
DEMO_SECONDS = 60.0
BENCH_SECONDS = 20.0

app = typer.Typer(
    help="Train an LSTM on a text and write more of it.",
    epilog="Exit codes: 0 done, 1 an error (one line says which), 2 a wrong command line, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _option(panel: str) -> Callable[..., Any]:
    """Return what makes an option that `--help` shows in a panel of its own."""
    return lambda text, *names: typer.Option(*names, help=text, rich_help_panel=panel)


_text, _model, _training = _option("Text"), _option("Model"), _option("Training")

# What several commands take.
Files = Annotated[list[str], typer.Argument(metavar="FILES...", help="Text files; `-` is standard input.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A file that `train` or `demo` wrote.")]
Encoding = Annotated[str, typer.Option(help="Of the text files.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where the model goes.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Cores to use. Default: all there are.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Seed = Annotated[int, typer.Option(min=0, help="Of all that is random.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        from . import __version__

        print(f"fastlstm {__version__}")
        raise typer.Exit


@app.command(epilog="Example: `fastlstm demo --seconds 20`")
def demo(
    seconds: Annotated[float, typer.Option(help="Time for training.")] = DEMO_SECONDS,
    output: Output = Path("fastlstm-demo.safetensors"),
    seed: Seed = DEMO.seed,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Learn Python's language reference, letter by letter, and write in its manner.

    The text is the one that every Python has in `pydoc_data.topics`. Its last tenth is never trained on; the last line
    of the output says how well the model predicts it.
    """
    with _explained(debug):
        from .data.text import default_text
        from .models.language_model import LanguageModel, read_corpus

        _prepare(output, threads)
        options = DEMO.replaced({"seconds": seconds, "seed": seed})
        text = default_text()
        corpus = read_corpus(text, options)
        model = LanguageModel(corpus.vocabulary, options)
        print(f"Text: Python's language reference, {len(text):,} characters, {len(corpus.vocabulary)} different.")
        print(f"Model: {model}")
        _fit(model, corpus, output)
        prompt = "The "
        for title, choices in (
            ("greedy: always the most probable character", {"method": "greedy"}),
            ("top-k: one of the 5 most probable", {"top_k": 5}),
            ("top-p: one of those that make up 90 %", {"top_p": 0.9}),
            ("beam: the most probable text of 8 kept at each step", {"beam_width": 8}),
        ):
            print(f"\n--- {title}\n{prompt}{model.generate(prompt, length=200, **_seeded(choices, seed))}")
        print(f'\nNext: fastlstm generate {output} --prompt "The value" --temperature 0.7')
        print("      fastlstm train YOUR_TEXT.txt -o mine.safetensors")
        assert model.held_out is not None  # a tenth was held out
        print(f"held-out: {model.held_out.bits_per_character:.3f} bits/char")


@app.command(
    epilog="Examples: `fastlstm train book.txt -o book.safetensors`  \n"
    "`fastlstm train part1.txt part2.txt --level word --layers 2 --hidden 512 --dropout 0.3 --epochs 20`  \n"
    "`zcat big.txt.gz | fastlstm train - --seconds 600`"
)
def train(
    files: Files,
    output: Output = Path("model.safetensors"),
    encoding: Encoding = "utf-8",
    level: Annotated[str, _text("What the model reads and writes: `char` or `word`.")] = DEFAULTS.level,
    held_out: Annotated[float, _text("Share of the text, its end, to test on.")] = DEFAULTS.held_out,
    min_count: Annotated[int | None, _text("Rarer tokens are unknown. Default: 2 for words.")] = None,
    max_vocabulary: Annotated[int | None, _text("Most tokens to know. Default: all.")] = None,
    embedding: Annotated[int, _model("Features of a token's vector.")] = DEFAULTS.embedding,
    hidden: Annotated[int, _model("Units of each LSTM layer.")] = DEFAULTS.hidden,
    layers: Annotated[int, _model("LSTM layers.")] = DEFAULTS.layers,
    dropout: Annotated[float, _model("Share of values dropped in training.")] = DEFAULTS.dropout,
    tied: Annotated[bool, _model("Output by the embedding's weights.", "--tied")] = DEFAULTS.tied,
    epochs: Annotated[int | None, _training("Passes over the text. Default: 10.")] = None,
    seconds: Annotated[float | None, _training("Time for training, instead of epochs or as well.")] = None,
    patience: Annotated[
        int | None, _training("Stop after so many epochs without a better held-out loss, and keep the best.")
    ] = None,
    window: Annotated[int, _training("Steps that gradients flow back through.")] = DEFAULTS.window,
    streams: Annotated[int, _training("Pieces of the text read side by side.")] = DEFAULTS.streams,
    optimizer: Annotated[str, _training("`adam`, `adamw`, `rmsprop` or `sgd`.")] = DEFAULTS.optimizer,
    learning_rate: Annotated[float, _training("The largest.")] = DEFAULTS.learning_rate,
    schedule: Annotated[str, _training("How it falls: `constant`, `linear`, `cosine`.")] = DEFAULTS.schedule,
    warmup: Annotated[float, _training("Share of the training in which it rises.")] = DEFAULTS.warmup,
    clip: Annotated[float, _training("Largest norm of the gradients; 0: any.")] = DEFAULTS.clip or 0.0,
    seed: Seed = DEFAULTS.seed,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Learn one or more texts and save the model.

    Ctrl-C stops the training and saves what was learned.
    """
    changes = {name: value for name, value in locals().items() if name in LanguageModelOptions.__slots__}
    changes["clip"] = clip or None
    with _explained(debug):
        from .models.language_model import LanguageModel, read_corpus

        _prepare(output, threads)
        options = DEFAULTS.replaced(changes)
        corpus = read_corpus(_sources(files), options, encoding=encoding)
        model = LanguageModel(corpus.vocabulary, options)
        characters = corpus.train.characters + corpus.held_out.characters
        print(f"Text: {characters:,} characters, {len(corpus.vocabulary):,} different {options.level}s.")
        print(f"Model: {model}")
        _fit(model, corpus, output)
        if model.held_out is not None:
            _print_evaluation(model.held_out, "held-out: ")


@app.command(
    epilog='Examples: `fastlstm generate book.safetensors --prompt "It was" --top-k 5`  \n'
    '`fastlstm generate book.safetensors --prompt "It was" --beam-width 8 --length 80`'
)
def generate(
    model: Model,
    prompt: Annotated[str, typer.Option(help="What to continue; `-` reads standard input.")] = "",
    length: Annotated[int, typer.Option(min=1, help="Characters, or words, to write.")] = 200,
    method: Annotated[str | None, typer.Option(help="`greedy`, `sample` or `beam`. Default: by the others.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Below 1 more careful, above 1 bolder.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among so many of the most probable.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw among those that make up this probability.")] = None,
    beam_width: Annotated[int | None, typer.Option(help="Search, keeping so many texts.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed, the same text. Default: any.")] = None,
    encoding: Encoding = "utf-8",
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Continue a prompt and print it, continuation and all."""
    with _explained(debug):
        from .data.text import read_blocks
        from .models.language_model import LanguageModel

        _prepare(None, threads)
        if prompt == "-":
            prompt = "".join(read_blocks(sys.stdin.buffer, encoding))
        writer = LanguageModel.load(model)
        choices: dict[str, Any] = {"method": method, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        print(prompt + writer.generate(prompt, length=length, beam_width=beam_width, seed=seed, **choices))


@app.command(epilog="Example: `fastlstm evaluate book.safetensors another.txt`")
def evaluate(
    model: Model, files: Files, encoding: Encoding = "utf-8", threads: Threads = None, debug: Debug = False
) -> None:
    """Say how well a model predicts texts: bits per character and perplexity."""
    with _explained(debug):
        from .models.language_model import LanguageModel

        _prepare(None, threads)
        _print_evaluation(LanguageModel.load(model).evaluate(_sources(files), encoding=encoding))


@app.command(epilog='Example: `fastlstm inspect book.safetensors --text "It was the best" --output gates.svg`')
def inspect(
    model: Model,
    text: Annotated[str, typer.Option(help="What the model reads; `-` reads standard input.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the picture goes.")] = Path("gates.png"),
    layer: Annotated[str | None, typer.Option(help="Which layer to draw. Default: `lstm`, the first.")] = None,
    units: Annotated[str | None, typer.Option(help="Such as `0,3,7`. Default: those that vary most.")] = None,
    encoding: Encoding = "utf-8",
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Draw what happens inside a model while it reads a text: gates, cell and hidden state at each character.

    The output's ending says which kind of picture: `.png`, `.svg` or `.pdf`; `.npz` are the numbers of all layers.
    """
    with _explained(debug):
        from .data.text import read_blocks
        from .models.inspecting import inspect as look
        from .models.language_model import LanguageModel

        _prepare(output, threads)
        if (ending := output.suffix.lower()) not in (".png", ".svg", ".pdf", ".npz"):
            raise OptionError(f"inspect: the output is {output}; expected a name that ends in .png, .svg, .pdf or .npz")
        if ending == ".npz" and (layer or units):
            raise OptionError("inspect: --layer and --units go with a picture; an .npz file holds all of them")
        chosen = _numbers("inspect: --units", units)
        if text == "-":
            text = "".join(read_blocks(sys.stdin.buffer, encoding))
        trace = look(LanguageModel.load(model), text)
        trace.save(output) if ending == ".npz" else trace.plot(layer=layer, units=chosen).savefig(output)
        print(f"{', '.join(trace.layers)} over {len(trace.labels or ())} steps. Saved in {output}.")


@app.command(epilog="Example: `fastlstm bench --threads 4`")
def bench(
    seconds: Annotated[float, typer.Option(min=1.0, help="Time for all lines of the table.")] = BENCH_SECONDS,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Time inference, training and streaming on this machine, beside torch and ONNX Runtime if they are installed.

    Each shape on one core and on all. All outputs are compared before they are timed; a peer that computes something
    else is an error.
    """
    with _explained(debug):
        from .benchmark.short import show

        _prepare(None, threads)
        show(seconds)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its number
            stream.reconfigure(errors="backslashreplace")
    app()


# --- what commands share --------------------------------------------------------------------------------------------


@contextmanager
def _explained(debug: bool) -> Iterator[None]:
    """Turn errors that a user can mend into one line and an exit code."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output has gone; say nothing, and let Python flush into nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (FastLSTMError, OSError) as error:
        if debug:
            raise
        _complain(f"error: {_one_line(error)}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        if debug:
            raise
        _complain("interrupted")
        raise typer.Exit(130) from None


def _one_line(error: Exception) -> str:
    """Return what an error says; the operating system's as "what: why"."""
    if isinstance(error, OSError) and not isinstance(error, FastLSTMError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def _complain(message: str) -> None:
    print(f"fastlstm: {message}", file=sys.stderr)


def _prepare(output: Path | None, threads: int | None) -> None:
    """Set the threads, and find out before a long training whether its result can be saved."""
    if threads is not None:
        from .threads import set_num_threads

        set_num_threads(threads)
    if output is None:
        return
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder; name a file")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent} is no folder; make it first, or choose another place")
    if not os.access(output.parent, os.W_OK):
        raise PermissionError(f"{output.parent} cannot be written to; choose another place")


def _sources(files: list[str]) -> "list[Path | Readable]":
    return [sys.stdin.buffer if name == "-" else Path(name) for name in files]


def _numbers(what: str, given: str | None) -> list[int] | None:
    """Return the numbers of ``0,3,7``."""
    try:
        return None if given is None else [int(number) for number in given.split(",")]
    except ValueError:
        raise OptionError(f"{what} is {given!r}; expected whole numbers with commas between, such as 0,3,7") from None


def _seeded(choices: dict[str, Any], seed: int) -> dict[str, Any]:
    return {**choices, "seed": seed}


def _fit(model: "LanguageModel", corpus: "Corpus", output: Path) -> None:
    """Train and save; what was learned is saved too when the training ends early."""
    try:
        with _Reporter(model) as report:
            training = model.fit(corpus, report=report)
    except (KeyboardInterrupt, DivergedError) as reason:
        model.save(output)
        what = "interrupted" if isinstance(reason, KeyboardInterrupt) else "the training broke off"
        _complain(f"{what}; the model as it was is saved in {output}")
        raise
    model.save(output)
    print(f"Trained {training.steps:,} steps, {training.epochs} epochs, {training.seconds:.0f} s, ", end="")
    print(f"{training.speed:,.0f} {model.options.level}s/s. Saved in {output}.")


class _Reporter:
    """Show how a training goes: a live bar on a terminal, else a plain line for each tenth of it."""

    def __init__(self, model: "LanguageModel"):
        self._per_character = model.options.level == "char"
        self._unit = f"{model.options.level}s/s"
        self._loss: float | None = None  # mean over the last steps, the recent ones weighing most
        self._tenths = 0
        self._bar: Any = None

    def __enter__(self) -> "_Reporter":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TaskProgressColumn())
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._bar.start()
            self._bar.add_task("first step: kernels are compiled if they are not yet", total=1.0)
        return self

    def __exit__(self, *reason: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: "Progress") -> None:
        self._loss = progress.loss if self._loss is None else 0.95 * self._loss + 0.05 * progress.loss
        if self._bar is not None:
            self._bar.update(0, completed=progress.share, description=self._line(progress))
        elif progress.held_out_loss is not None or int(10 * progress.share) > self._tenths:
            self._tenths = int(10 * progress.share)
            print(f"{100 * progress.share:3.0f} %  {self._line(progress)}", file=sys.stderr, flush=True)

    def _line(self, progress: "Progress") -> str:
        loss = progress.held_out_loss if progress.held_out_loss is not None else self._loss or 0.0
        figure = f"{loss / math.log(2):.3f} bits/char" if self._per_character else f"perplexity {_exp(loss):.1f}"
        of = "held-out " if progress.held_out_loss is not None else ""
        left = progress.seconds * (1.0 - progress.share) / max(progress.share, 1e-9)
        rest = f"{left:.0f} s left" if progress.share < 1.0 else "done"
        return f"epoch {progress.epoch}  {of}{figure}  {progress.speed:,.0f} {self._unit}  {rest}"


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))


def _print_evaluation(result: "Evaluation", before: str = "") -> None:
    if result.unknown:
        print(f"{before}{result.unknown:,} of {result.tokens:,} tokens unknown")
    print(f"{before}perplexity {result.perplexity:.2f} per token")
    print(f"{before}{result.bits_per_character:.3f} bits/char")
