"""The training step of every wiring as GPUs run it: compiled by XLA, in float16."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from test_folding import FAMILIES, IMAGENET

from keras_resnet import ResNetSpec, build, get_spec
from keras_resnet.network import under_policy
from keras_resnet.optimizers import SGD

SPECS: dict[str, ResNetSpec] = {name: spec for name, (spec, _) in FAMILIES.items()} | {
    "keras_resnet_v2": get_spec(
        "keras_resnet50_v2", input_shape=(64, 64, 3), classes=10, depths=(1, 2),
        widths=(16, 32), stem_width=8,
    ),
    "dilated": IMAGENET.replace(
        stem="deep", project_pool=True, depths=(1, 1, 1, 1), widths=(16, 24, 32, 48),
        output_stride=8,
    ),
    "shortcut_gate": FAMILIES["cifar_resnet"][0].replace(merge="shortcut_gate"),
    "by Winograd": FAMILIES["preactivation"][0].replace(widths=(96, 96, 96)),
    "dense": get_spec("dense_resnet8"),
}  # fmt: skip
# XLA, and float16, draw other numbers of the same seed.
DRAWING = {"wide_with_dropout", "shortcut_dropout", "stochastic_depth_sample"}


def trained(
    spec: ResNetSpec, *, jit: bool, recompute: bool = False, steps: int = 2
) -> tuple[list[float], list[np.ndarray]]:
    """Losses of some steps, and the weights after them."""
    keras.utils.set_random_seed(0)
    model = build(spec, recompute=recompute)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(SGD(0.02, momentum=0.9, l2=1e-4), loss, jit_compile=jit)
    random = np.random.default_rng(0)
    x = random.normal(size=(6, *spec.input_shape)).astype("float32")
    y = random.integers(0, spec.classes, 6)
    losses = [float(model.train_on_batch(x, y)) for _ in range(steps)]
    return losses, model.get_weights()


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_step_compiled_by_xla_is_the_same(name):
    spec = SPECS[name]
    if name == "stochastic_depth":  # XLA needs to know sizes, and a branch is cut
        with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
            assert np.isfinite(trained(spec, jit=True)[0]).all()
        return
    losses, weights = trained(spec, jit=True)
    assert np.isfinite(losses).all()
    if name in DRAWING:
        compared = trained(spec, jit=True, recompute=True)
    else:
        compared = trained(spec, jit=False)
    np.testing.assert_allclose(losses, compared[0], rtol=1e-4)
    for a, b in zip(weights, compared[1], strict=True):
        scale = max(np.abs(b).max(), 1e-2)  # gradients near zero are rounding
        np.testing.assert_allclose(a, b, atol=5e-3 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_in_float16_with_a_scaled_loss(name):
    """Losses are those of float32, but for rounding; no weight is lost."""
    spec = SPECS[name]
    with under_policy("mixed_float16"):
        losses, weights = trained(spec, jit=False)
    assert np.isfinite(losses).all()
    if name not in DRAWING:
        np.testing.assert_allclose(losses, trained(spec, jit=False)[0], rtol=0.1)
    assert all(np.isfinite(weight).all() for weight in weights)
