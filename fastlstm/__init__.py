"""fastlstm: train, stream and decode LSTMs on an ordinary CPU, from NumPy arrays."""
