"""What is said of a language model: how well it predicted a text."""

import math
from dataclasses import dataclass

__all__ = ["Evaluation"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a text was predicted, each token from all before it; the first is only read.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats per token.
    perplexity : float
        ``exp(loss)``: among how many tokens, as it were, the model had to choose.
    bits_per_character : float
        Bits of all predicted tokens by their characters: comparable between characters and words.
    tokens, characters : int
        How many were predicted.
    unknown : int
        How many of the tokens the vocabulary lacks; each is predicted as the unknown token, which is easier.
    """

    loss: float
    perplexity: float
    bits_per_character: float
    tokens: int
    characters: int
    unknown: int = 0

    @classmethod
    def of_nats(cls, nats: float, tokens: int, characters: int, unknown: int = 0) -> "Evaluation":
        """Return the figures of a text whose predicted tokens cost `nats` in all.

        Examples
        --------
        >>> Evaluation.of_nats(2 * math.log(8), tokens=2, characters=3).bits_per_character
        2.0
        """
        loss = nats / tokens
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return cls(loss, perplexity, nats / math.log(2) / characters, tokens, characters, unknown)
