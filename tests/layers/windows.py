"""What tests of layers with sliding windows share: their options, what they do to lengths, and bits in any batch."""

import numpy as np
from hypothesis import strategies as st

from fastlstm.layers import PassContext
from tests import naive
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal


@st.composite
def options_of_convolutions(draw):
    """Padding, stride and dilation that go together."""
    options = {"padding": draw(st.sampled_from(["valid", "same", "causal"]))}
    word = draw(st.sampled_from(["strides", "dilation_rate"]))
    return options | {word: draw(st.integers(1, 4))}


def naive_options(options):
    """The same options by the words of the naive version."""
    words = {"strides": "stride", "dilation_rate": "dilation", "pool_size": "size"}
    return {words.get(word, word): value for word, value in options.items()}


def gradients_like(layer, sequences, features, rng):
    """Return random gradients of the layer's output for these sequences."""
    lengths = layer.lengths_out(np.array([len(x) for x in sequences]))
    return [rng.standard_normal((length, features)) for length in lengths]


def assert_alone_as_in_a_batch(layer, sequences, dy):
    """Each sequence has the output and the gradient that it has alone, bit for bit, in training and in inference."""
    y, dx, _ = forward_backward(layer, sequences, dy)
    called = layer(sequences)
    for n, x in enumerate(sequences):
        own, own_dx, _ = forward_backward(layer, [x], [dy[n]], PassContext(training=True))
        assert_bitwise_equal(own[0], y[n], what=f"output of sequence {n}")
        assert_bitwise_equal(own_dx[0], dx[n], what=f"gradient of sequence {n}")
        assert_bitwise_equal(called[n], y[n], what=f"inference of sequence {n}")


def random_case(rng, lengths, features, dtype="float64"):
    return [x.astype(dtype) for x in naive.random_sequences(rng, lengths, features)]
