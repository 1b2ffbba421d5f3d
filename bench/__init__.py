"""fastlstm beside its peers. ``python -m bench`` times the layers and writes ``docs/benchmarks.md``."""
