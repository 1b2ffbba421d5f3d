"""Writing text with a language model: greedy, drawn at random, or by beam search."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..data.numbers import whole
from ..data.vocabulary import Vocabulary
from ..decode.beam import beam_search
from ..decode.beam_options import Constraints
from ..decode.sampling import sample
from ..decode.sampling_options import SamplingOptions
from ..errors import OptionError
from .language_network import LanguageNetwork, NetworkState

__all__ = ["GenerationOptions", "Method", "generate_ids"]

Method: TypeAlias = Literal["greedy", "sample", "beam"]
"""Take the most probable token; draw one at random; search for the most probable text as a whole."""

_DEFAULT_BEAM = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationOptions:
    """How a text is continued.

    Attributes
    ----------
    method : {"greedy", "sample", "beam"}
        None: "beam" where a beam width is given, "greedy" where the temperature is 0, else "sample".
    temperature : float
        Logits are divided by it before drawing: below 1 more careful, above 1 bolder.
    top_k : int
        Draw among the k most probable tokens only.
    top_p : float
        Draw among the fewest most probable tokens that together have this probability.
    beam_width : int
        How many texts a beam search keeps at each step; default 8.
    seed : int
        Of what is drawn; None: another text each time.

    Raises
    ------
    OptionError
        Options that do not go together; a seed that is no whole number from 0 on. Other ranges are checked by
        `fastlstm.decode`.

    Examples
    --------
    >>> GenerationOptions(beam_width=4).chosen, GenerationOptions(top_k=5).chosen
    ('beam', 'sample')
    """

    method: Method | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    beam_width: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in get_args(Method):
            raise OptionError(f"generate: method is {self.method!r}; expected one of {', '.join(get_args(Method))}")
        if self.seed is not None:
            whole(self.seed, "generate: seed", 0)
        draws = [name for name in ("temperature", "top_k", "top_p") if getattr(self, name) is not None]
        if self.beam_width is not None:
            draws.append("beam_width")
        allowed = {
            "greedy": ["temperature"] if self.temperature == 0 else [],
            "sample": ["temperature", "top_k", "top_p"],
            "beam": ["beam_width"],
        }[self.chosen]
        if wrong := [name for name in draws if name not in allowed]:
            raise OptionError(
                f"generate: {' and '.join(wrong)} cannot go with {self.chosen}; "
                "drawing takes temperature, top_k and top_p, beam search beam_width, greedy none of them"
            )

    @property
    def chosen(self) -> Method:
        """The method that these options mean."""
        if self.method is not None:
            return self.method
        if self.beam_width is not None:
            return "beam"
        return "greedy" if self.temperature == 0 else "sample"


def generate_ids(
    network: LanguageNetwork,
    vocabulary: Vocabulary,
    prompt: NDArray[Any],
    length: int,
    options: GenerationOptions,
) -> Iterator[int]:
    """Yield the ids that continue a prompt; the unknown token is never among them.

    Parameters
    ----------
    network, vocabulary
        The model.
    prompt : ndarray of int, shape (T,)
        At least one id.
    length : int
        How many ids.
    options : GenerationOptions
        How they are chosen.
    """
    state = network.start(1)
    if len(prompt) > 1:
        _, state = network.read(prompt[:-1], state)
    if options.chosen == "beam":
        yield from _searched(network, vocabulary, int(prompt[-1]), length, options, state)
    else:
        yield from _drawn(network, vocabulary, int(prompt[-1]), length, options, state)


def _drawn(
    network: LanguageNetwork,
    vocabulary: Vocabulary,
    token: int,
    length: int,
    options: GenerationOptions,
    state: NetworkState,
) -> Iterator[int]:
    rng = np.random.default_rng(options.seed)
    choices = {
        "temperature": 0.0 if options.chosen == "greedy" else options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "banned_ids": None if vocabulary.unknown is None else (vocabulary.unknown,),
    }
    sampling = SamplingOptions().replaced({name: value for name, value in choices.items() if value is not None})
    stream = network.stream(state)
    last = np.array([token])
    for _ in range(length):
        last = sample(stream.step(last), options=sampling, rng=rng)
        yield int(last[0])


def _searched(
    network: LanguageNetwork,
    vocabulary: Vocabulary,
    token: int,
    length: int,
    options: GenerationOptions,
    state: NetworkState,
) -> Iterator[int]:
    banned = () if vocabulary.unknown is None else ((vocabulary.unknown,),)
    [best] = beam_search(
        network.step,
        token,
        state=state,
        beam_width=_DEFAULT_BEAM if options.beam_width is None else options.beam_width,
        max_length=length,
        constraints=Constraints(banned=banned),
    )
    yield from best.ids
