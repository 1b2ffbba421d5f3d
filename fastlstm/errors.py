"""Named errors. Each is also the built-in error that a caller would catch without knowing fastlstm.

Every message says what was given, what was expected and what to do.
"""


class FastLSTMError(Exception):
    """Base of every error that fastlstm raises on purpose."""


class OptionError(FastLSTMError, ValueError):
    """An argument has a value that the call does not accept."""


class ShapeError(FastLSTMError, ValueError):
    """An array has the wrong rank, feature count or length."""


class DataError(FastLSTMError, ValueError):
    """The data cannot be used: empty, NaN or infinite, ids outside the vocabulary, text too short."""


class VocabularyError(DataError):
    """A text holds characters or words that the vocabulary lacks."""


class NotBuiltError(FastLSTMError, RuntimeError):
    """A layer or model was used before it knew its input size or was compiled."""


class DivergedError(FastLSTMError, RuntimeError):
    """Training broke off because the loss became NaN or infinite; the last good weights are kept."""


class ContractError(FastLSTMError, TypeError):
    """A layer, loss or metric of your own does not return what its base class asks for."""


class GradientError(FastLSTMError, AssertionError):
    """A gradient is not the derivative of what it claims to be."""


class ModelFileError(FastLSTMError, OSError):
    """A model file is missing, truncated, damaged, or not one of ours."""


class LogFileError(FastLSTMError, OSError):
    """A file of figures that a callback keeps cannot be read or written."""


class DifferentOutputError(FastLSTMError, AssertionError):
    """A contender of a benchmark computes something else: its time would mean nothing."""


class MissingPackageError(FastLSTMError, ImportError):
    """A package is not installed that only some calls need; the message names the extra that brings it."""
