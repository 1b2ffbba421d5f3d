"""Recurrent cells: what one unit computes in one step, forward and back. One cell a file; loops are made for it."""

from .cell import Cell
from .gru import gru
from .lstm import lstm
from .rnn import rnn

__all__ = ["Cell", "gru", "lstm", "rnn"]
