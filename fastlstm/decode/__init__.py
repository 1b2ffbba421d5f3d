"""Floor 2: checked Python faces of the Cython decoders: numbers in, ids out."""

from .arpa import read_arpa
from .beam import beam_search
from .beam_options import BeamOptions, Constraints
from .beam_stochastic import stochastic_beam_search
from .constraints import Trie
from .contrastive import contrastive_search
from .ctc import (
    CTCDecoder,
    CTCFusion,
    CTCHotWords,
    CTCHypothesis,
    CTCLexicon,
    CTCPruning,
    CTCStream,
    CTCUnits,
    CTCWord,
    ctc_beam_search,
    ctc_greedy,
)
from .ctc_align import CTCAlignment, ctc_align
from .hypothesis import Hypothesis
from .ngram import NGramModel
from .sampling import Sampled, greedy, log_probabilities, sample, sample_scored
from .sampling_options import SamplingOptions
from .stopping import StopSequences
from .viterbi import viterbi

__all__ = [
    "BeamOptions",
    "CTCAlignment",
    "CTCDecoder",
    "CTCFusion",
    "CTCHotWords",
    "CTCHypothesis",
    "CTCLexicon",
    "CTCPruning",
    "CTCStream",
    "CTCUnits",
    "CTCWord",
    "Constraints",
    "Hypothesis",
    "NGramModel",
    "Sampled",
    "SamplingOptions",
    "StopSequences",
    "Trie",
    "beam_search",
    "contrastive_search",
    "ctc_align",
    "ctc_beam_search",
    "ctc_greedy",
    "greedy",
    "log_probabilities",
    "read_arpa",
    "sample",
    "sample_scored",
    "stochastic_beam_search",
    "viterbi",
]
