"""Recurrent cells: what one unit computes in one step, forward and back. One cell a file; loops are made for it."""

from .cell import Cell
from .lstm import lstm

__all__ = ["Cell", "lstm"]
