from __future__ import annotations

import keras
import numpy as np
import pytest
import targets

from keras_resnet import analysis
from keras_resnet.analysis.published import reduction_cost
from keras_resnet.analysis.reference import REFERENCES, googlenet
from keras_resnet.errors import UserError

# Rows of the golden file -> networks.
ROWS = {
    "AlexNet (2 groups, 227) (Canziani code)": "alexnet",
    "BN-AlexNet (one-tower, BN after conv+fc) (Canziani code)": "bn_alexnet",
    "BN-NiN ImageNet (ninbn.lua) (Canziani code)": "bn_nin",
    "VGG-16 (Canziani code)": "vgg16",
    "VGG-19 (Canziani code)": "vgg19",
    "GoogLeNet": "googlenet",
    "Inception-v4": "inception_v4",
    "keras InceptionV3": "inception_v3",
    "keras InceptionResNetV2": "inception_resnet_v2",
}
# Counted, but no row of the file: the one-tower AlexNet (torchvision's) and NiN.
OTHERS = {
    "alexnet_one_tower": (61_100_840, 714_188_480),
    "nin": (7_595_176, 1_100_188_800),
}


def counts() -> dict[str, tuple[int, int]]:
    rows = {row["model"]: row for row in targets.rows()}
    golden = {
        name: (int(rows[row]["params"]), int(rows[row]["macs"]))
        for row, name in ROWS.items()
    }
    return golden | OTHERS


def test_every_reference_network_is_counted():
    assert counts().keys() == REFERENCES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCES)
def test_exact_counts(name):
    model = analysis.build_reference(name)
    found = analysis.profile(model)
    assert (found.params, found.macs) == counts()[name]
    assert not found.uncounted
    assert model.output_shape == (None, 1000)
    assert (model.layers[-1].name == "predictions") == (name != "nin")


def test_auxiliary_heads():
    model = googlenet(auxiliary=True)
    found = analysis.profile(model)
    assert (found.params, found.macs) == (13_378_280, 1_591_044_096)
    images = np.zeros((1, 224, 224, 3), "float32")
    assert [logits.shape for logits in model(images)] == [(1, 1000)] * 3


def test_response_normalization_is_the_papers(tmp_path):
    image = keras.Input((1, 1, 7))
    layer = analysis.reference.LocalResponseNormalization()
    model = keras.Model(image, layer(image))
    model.save(tmp_path / "model.keras")
    x = np.arange(1.0, 8.0, dtype="float32")
    sums = [np.sum(x[max(i - 2, 0) : i + 3] ** 2) for i in range(7)]
    expected = x / (2 + 1e-4 * np.array(sums)) ** 0.75
    for found in (model, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_allclose(found(x[None, None, None])[0, 0, 0], expected, 1e-5)


def test_reduction_example_of_the_lecture():
    cost = reduction_cost()
    assert (cost.direct, cost.reduction, cost.after) == (
        120_422_400,
        2_408_448,
        10_035_200,
    )
    assert cost.reduced == 12_443_648
    assert cost.direct / cost.reduced == pytest.approx(9.68, abs=0.01)


def test_unknown_name():
    with pytest.raises(UserError, match="'alex' is not one of alexnet"):
        analysis.build_reference("alex")
