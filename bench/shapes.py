"""The shapes that the suites time."""

from fastlstm.benchmark.problems import Shape

__all__ = ["SHAPES", "STREAMED"]

SHAPES = [
    Shape(1, 1, 128, 128),
    Shape(1, 100, 64, 64),
    Shape(1, 100, 128, 128),
    Shape(1, 100, 256, 256),
    Shape(1, 100, 512, 512),
    Shape(4, 2000, 32, 96),
    Shape(8, 100, 128, 128),
    Shape(32, 100, 128, 128),
    Shape(32, 100, 256, 256),
    Shape(32, 50, 512, 512),
    Shape(64, 50, 1024, 1024),
    Shape(128, 35, 64, 64),
    Shape(3, 57, 45, 77),
    Shape(16, 200, 128, 256, layers=2),
    Shape(8, 100, 80, 192, directions=2),
]

STREAMED = [8, 64, 128, 256, 512, 1024]
"""D = H of a streaming step. With 8 there is next to nothing to compute: what is left is the price of a call."""
