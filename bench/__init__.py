"""fastlstm beside its peers. ``python -m bench`` times the layers and writes ``docs/benchmarks.md``."""

import sys
from pathlib import Path

# `python -m bench` puts the checkout first on the path. What is timed is the package that is installed: the sources
# here lack the compiled decoders. (An editable install leads back to them, and has the decoders there.)
_first = sys.path[0]
if Path(_first).resolve() == Path(__file__).resolve().parent.parent:
    del sys.path[0]
    try:
        import fastlstm  # noqa: F401
    finally:
        sys.path.insert(0, _first)
