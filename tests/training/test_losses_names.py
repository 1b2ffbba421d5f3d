"""Names of losses: Keras's strings and classes, descriptions in files, arguments that make no sense."""

import pytest

from fastlstm.errors import OptionError
from fastlstm.training import losses
from fastlstm.training.losses import (
    MAE,
    MAPE,
    MSE,
    MSLE,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    Pinball,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)
from tests.training.test_losses import LOSSES


def test_names_and_descriptions_make_the_same_loss_again():
    for loss in [*LOSSES.values(), BinaryCrossentropy(True), SparseCategoricalCrossentropy(False, 3)]:
        assert losses.known(loss)
        again = losses.get(loss.name, loss.config())
        assert type(again) is type(loss)
        assert again.config() == loss.config()
    assert losses.get(loss) is loss


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("mse MSE mean_squared_error MeanSquaredError", MSE),
        ("mae MAE mean_absolute_error MeanAbsoluteError", MAE),
        ("mape MAPE mean_absolute_percentage_error MeanAbsolutePercentageError", MAPE),
        ("msle MSLE mean_squared_logarithmic_error MeanSquaredLogarithmicError", MSLE),
        ("huber Huber", Huber),
        ("log_cosh logcosh LogCosh", LogCosh),
        ("binary_crossentropy bce BCE BinaryCrossentropy", BinaryCrossentropy),
        ("categorical_crossentropy CategoricalCrossentropy", CategoricalCrossentropy),
        ("sparse_categorical_crossentropy SparseCategoricalCrossentropy", SparseCategoricalCrossentropy),
        ("kl_divergence kld KLD KLDivergence kullback_leibler_divergence", KLDivergence),
        ("poisson Poisson", Poisson),
        ("cosine_similarity CosineSimilarity", CosineSimilarity),
        ("hinge Hinge", Hinge),
        ("squared_hinge SquaredHinge", SquaredHinge),
        ("categorical_hinge CategoricalHinge", CategoricalHinge),
        ("pinball quantile Pinball", Pinball),
    ],
)
def test_keras_strings_and_classes(names, kind):
    for name in names.split():
        assert type(losses.get(name)) is kind
    assert type(losses.get(kind)) is kind
    assert losses.MeanSquaredError is MSE


def test_what_is_no_loss_is_refused():
    with pytest.raises(OptionError, match=r"'tversky'.*binary_crossentropy.*pinball"):
        losses.get("tversky")
    with pytest.raises(OptionError, match="a function has no gradient here"):
        losses.get(lambda y, p: 0.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Huber(0), "Huber: delta=0"),
        (lambda: BinaryCrossentropy(label_smoothing=1.5), r"label_smoothing=1\.5; expected a number from 0 to 1"),
        (lambda: CategoricalCrossentropy(label_smoothing="a"), "CategoricalCrossentropy: label_smoothing='a'"),
        (lambda: SparseCategoricalCrossentropy(ignore_class=0.5), r"ignore_class=0\.5"),
        (lambda: Pinball([0.5, 1.0]), r"quantiles=\[0\.5, 1\.0\]"),
        (lambda: Pinball([0.0]), r"quantiles=0\.0"),
        (lambda: Pinball([]), "quantiles is empty"),
    ],
)
def test_arguments_that_cannot_be_used(make, words):
    with pytest.raises(OptionError, match=words):
        make()
