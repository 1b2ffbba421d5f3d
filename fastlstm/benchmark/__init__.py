"""Floor 6: us beside our peers, outputs compared, then timed in turn: for `fastlstm bench`, and for `bench/`."""
