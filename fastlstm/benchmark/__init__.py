"""Floor 6: fastlstm beside its peers, outputs compared, then timed: for `fastlstm bench`, and for `bench/`."""
