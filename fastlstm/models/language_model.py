"""LanguageModel: learn a text, say how well another is predicted, and write more of it."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.numbers import as_numbers, whole
from ..data.text import Corpus, TextSource, read_blocks
from ..data.vocabulary import EncodedText, Vocabulary
from ..errors import DataError, ModelFileError, OptionError, ShapeError
from ..training import checkpoint
from .generation import GenerationOptions, generate_ids
from .language_checks import checked_ids, checked_options, checked_state, expect
from .language_evaluation import Evaluation
from .language_network import LanguageNetwork, NetworkState
from .language_options import LanguageModelOptions
from .language_training import Report, Training, train_network

__all__ = ["Evaluation", "LanguageModel"]


class LanguageModel:
    """An LSTM that predicts the next character or word of a text.

    `train` makes and trains one in a line; with ``LanguageModel(vocabulary)`` and `fit` it outlives an interrupt.

    Parameters
    ----------
    vocabulary : Vocabulary
        The tokens that it reads and writes.
    options : LanguageModelOptions, optional
        Sizes, training, seed.
    **changes
        Options by name, instead of those in `options`.

    Raises
    ------
    OptionError
        Arguments of another kind; an unknown option, or an impossible value; a vocabulary of another level.

    Examples
    --------
    >>> import fastlstm as fl
    >>> model = fl.LanguageModel.train("to be or not to be, " * 20, hidden=16, window=8, streams=4, epochs=8)
    >>> len(model.generate("to be", length=10, seed=1))
    10
    >>> model.evaluate("to be or not").bits_per_character < 4
    True
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        options: LanguageModelOptions | None = None,
        *,
        _fresh: bool = True,
        **changes: Any,
    ):
        expect("vocabulary", vocabulary, Vocabulary, "as Vocabulary.of_counts or a Corpus makes")
        options = checked_options(options, changes)
        if (level := vocabulary.level) != options.level:
            raise OptionError(
                f"LanguageModel: the vocabulary is of level {level!r}, the options of {options.level!r}; make them one"
            )
        self.vocabulary, self.options = vocabulary, options
        self.network = LanguageNetwork(options, len(vocabulary), fresh=_fresh)
        self.held_out: Evaluation | None = None

    def __repr__(self) -> str:
        o = self.options
        sizes = f"embedding={o.embedding}, hidden={o.hidden}, layers={o.layers}, parameters={self.parameters:,}"
        return f"LanguageModel({len(self.vocabulary)} {o.level}s, {sizes})"

    @property
    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(value.size for value in self.network.params.values())

    # --- learning -----------------------------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        source: TextSource,
        options: LanguageModelOptions | None = None,
        *,
        encoding: str = "utf-8",
        report: Report | None = None,
        **changes: Any,
    ) -> "LanguageModel":
        """Learn a text and return the model.

        Parameters
        ----------
        source : str, path, binary file, or a list of paths and files
            The text, or where it stands; see `fastlstm.data.text.read_blocks`.
        options : LanguageModelOptions, optional
            Sizes and training.
        encoding : str
            Of the files.
        report : callable, optional
            Called with a `Progress` after each step.
        **changes
            Options by name: ``level="word", hidden=512, epochs=5``.

        Returns
        -------
        LanguageModel
            Its `held_out` says how well it predicts the end of the text, which it was not trained on.

        Raises
        ------
        DataError
            The text is empty, shorter than a window, or not in this encoding.
        DivergedError
            The loss became NaN or infinite.
        OptionError
            An unknown option, or an impossible value; a source that is no text, bytes for example.
        OSError
            A file cannot be read.
        """
        options = checked_options(options, changes)
        try:
            corpus = read_corpus(source, options, encoding=encoding)
            model = cls(corpus.vocabulary, options)
            model.fit(corpus, report=report)
        except DataError as error:
            if isinstance(source, str) and len(source) < 256 and "\n" not in source:
                raise type(error)(f"{error} (there is no file {source!r}, so this str was taken as the text)") from None
            raise
        return model

    def fit(self, corpus: Corpus, *, report: Report | None = None) -> Training:
        """Train on a corpus, then evaluate on its held-out part.

        Parameters
        ----------
        corpus : Corpus
            Encoded with this model's vocabulary.
        report : callable, optional
            Called with a `Progress` after each step.

        Returns
        -------
        Training

        Raises
        ------
        DataError
            The corpus has another vocabulary, or is shorter than a window.
        DivergedError
            The loss became NaN or infinite; as after an interrupt, the model has the last good weights.
        OptionError
            Arguments of another kind.
        """
        expect("fit: corpus", corpus, Corpus, "as Corpus.of(text) makes")
        if report is not None and not callable(report):
            raise OptionError(f"fit: report is {report!r}; expected something to call with a Progress, or None")
        if corpus.vocabulary != self.vocabulary:
            raise DataError(
                "LanguageModel: the corpus has another vocabulary than the model; encode it with the model's"
            )
        held_out = corpus.held_out if len(corpus.held_out.ids) > 1 else None
        self.held_out = None
        training = train_network(
            self.network,
            corpus.train.ids,
            self.options,
            report=report,
            held_out_loss=None if held_out is None else lambda: self.evaluate_encoded(held_out).loss,
        )
        if held_out is not None:
            self.held_out = self.evaluate_encoded(held_out)
        return training

    # --- judging ------------------------------------------------------------------------------------------------

    def evaluate(self, source: TextSource, *, encoding: str = "utf-8") -> Evaluation:
        """Say how well a text is predicted, read once from its beginning as one stream.

        Parameters
        ----------
        source, encoding
            As for `train`.

        Raises
        ------
        DataError
            The text has fewer than two tokens, or is not in this encoding.
        VocabularyError
            It has characters that the vocabulary lacks.
        OptionError
            The source is no text, bytes for example; or the encoding is unknown.
        OSError
            A file cannot be read.
        """
        return self.evaluate_encoded(self.vocabulary.encode_text(read_blocks(source, encoding)))

    def evaluate_encoded(self, text: EncodedText) -> Evaluation:
        """Say how well a text is predicted that is ids already.

        Parameters
        ----------
        text : EncodedText
            As this model's `vocabulary.encode_text` gives.

        Raises
        ------
        DataError
            It has fewer than two tokens.
        OptionError
            It is something else.
        """
        expect("evaluate_encoded: text", text, EncodedText, "as vocabulary.encode_text(text) gives")
        tokens = len(text.ids) - 1
        if tokens < 1:
            raise DataError(f"evaluate: the text has {tokens + 1} tokens; expected at least 2, one to predict")
        nats = sum(float(losses.sum()) for losses in self.network.losses(text.ids))
        characters = max(1, text.characters - len(self.vocabulary.tokens[int(text.ids[0])]))
        return Evaluation.of_nats(nats, tokens, characters, text.unknown)

    # --- writing ------------------------------------------------------------------------------------------------

    def generate(
        self, prompt: str = "", *, length: int = 200, options: GenerationOptions | None = None, **choices: Any
    ) -> str:
        """Continue a text.

        Parameters
        ----------
        prompt : str
            What to continue; where it is empty, a new line.
        length : int
            How many tokens to write.
        options : GenerationOptions, optional
            How to choose them.
        **choices
            The fields of `GenerationOptions` by name: `method`, `temperature`, `top_k`, `top_p`, `beam_width`, `seed`.

        Returns
        -------
        str
            The continuation, without the prompt.

        Raises
        ------
        VocabularyError
            The prompt has characters that the vocabulary lacks; the message names them.
        OptionError
            A choice that there is not, or choices that do not go together; a prompt that is no str, a length or seed
            that is no whole number.
        """
        expect("generate: prompt", prompt, str, "the text to continue")
        if options is None:
            try:
                options = GenerationOptions(**choices)
            except TypeError as error:
                raise OptionError(f"generate: {error}") from None
        elif choices:
            raise OptionError(f"generate: give options= or {', '.join(choices)}, not both")
        expect("generate: options", options, GenerationOptions, "or choices by name")
        length = whole(length, "generate: length")
        return self.vocabulary.decode(list(self._continue(prompt, length, options)))

    def _continue(self, prompt: str, length: int, options: GenerationOptions) -> Iterator[int]:
        ids = self.vocabulary.encode(prompt)
        if not len(ids):
            tokens = self.vocabulary.tokens
            ids = np.array([tokens.index("\n") if "\n" in tokens else len(tokens) - 1])
        return generate_ids(self.network, self.vocabulary, ids, length, options)

    def start(self, count: int = 1) -> NetworkState:
        """Return the state of `count` sequences before their first token, for `step`.

        Raises
        ------
        OptionError
            `count` is no whole number from 1 on.
        """
        return self.network.start(whole(count, "start: count"))

    def step(self, tokens: ArrayLike, state: NetworkState) -> tuple[NDArray[Any], NetworkState]:
        """Read one token of each of B sequences; fits `fastlstm.decode.beam_search`.

        Parameters
        ----------
        tokens : array of int, shape (B,)
        state : tuple of LSTMState
            From `start` or an earlier step; it is not written to.

        Returns
        -------
        logits : ndarray, shape (B, V)
            Of the token that follows.
        state : tuple of LSTMState

        Raises
        ------
        DataError
            Tokens that are no integers, or not in the vocabulary.
        ShapeError
            A state that is not of this model, or of another number of sequences.
        """
        ids = checked_ids(tokens)
        return self.network.step(ids, checked_state(state, len(ids), self.options))

    # --- keeping ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return a copy of the weights by torch's names.

        ``embedding.weight``, ``lstm.weight_ih_l0`` and so on for each layer, ``output.weight`` (not where it is tied to
        the embedding) and ``output.bias``: without their prefixes, what `torch.nn.Embedding`, `torch.nn.LSTM` and
        `torch.nn.Linear` load.
        """
        return {name: value.copy() for name, value in self.network.params.items()}

    def load_state_dict(self, tensors: Mapping[str, ArrayLike]) -> None:
        """Take over weights by name; all must be there, and fit.

        Raises
        ------
        ShapeError
            A tensor is missing, unknown, or of another shape.
        DataError
            A tensor holds no numbers.
        OptionError
            This is no mapping.
        """
        expect("load_state_dict: tensors", tensors, Mapping, "of names to arrays, as state_dict() returns")
        params = self.network.params
        if params.keys() != tensors.keys():
            missing, unknown = sorted(params.keys() - tensors.keys()), sorted(tensors.keys() - params.keys())
            raise ShapeError(f"LanguageModel: tensors missing: {missing}; unknown: {unknown}")
        arrays = {name: as_numbers(value, f"LanguageModel: {name}") for name, value in tensors.items()}
        for name, value in arrays.items():
            if value.shape != params[name].shape:
                raise ShapeError(f"LanguageModel: {name} has shape {value.shape}; expected {params[name].shape}")
        for name, value in arrays.items():
            params[name][...] = value
        self.network.changed()

    def config(self) -> dict[str, Any]:
        """Return what a file says of the model beside its weights."""
        return {
            "model": "LanguageModel",
            "vocabulary": self.vocabulary.config(),
            "options": self.options.config(),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file; an old one stays whole until the new one is.

        Raises
        ------
        ModelFileError
            The file cannot be written.
        OptionError
            `path` is no path.
        """
        checkpoint.save_file(path, self.network.params, self.config())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LanguageModel":
        """Read a model that `save` wrote.

        Raises
        ------
        ModelFileError
            The file is missing, damaged, or not a language model.
        """
        tensors, config = checkpoint.load_file(path)
        return cls.from_saved(tensors, config, str(path))

    @classmethod
    def from_saved(cls, tensors: dict[str, NDArray[Any]], config: dict[str, Any], path: str) -> "LanguageModel":
        """Return the model that the contents of a file describe."""
        if config.get("model") != "LanguageModel":
            raise ModelFileError(f"{path} holds a {config.get('model')}, not a LanguageModel; fastlstm.load opens any")
        try:
            vocabulary = Vocabulary.from_config(config["vocabulary"])
            model = cls(vocabulary, LanguageModelOptions(**config["options"]), _fresh=False)
            model.load_state_dict(dict(tensors))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{path} is not a language model that this version can read: {error}") from error
        return model


def read_corpus(source: TextSource, options: LanguageModelOptions, *, encoding: str = "utf-8") -> Corpus:
    """Read a text once, as the corpus that a model with these options is trained on."""
    return Corpus.of(
        read_blocks(source, encoding),
        options.level,
        held_out=options.held_out,
        min_count=options.least_count,
        max_size=options.max_vocabulary,
    )
