"""A network in torch, as the comparisons of speed have it, and the same in Keras.

    python -m benchmarks.checks.torch_form cifar_resnet20

Parameters, outputs and gradients must agree, with the same weights.
"""

from __future__ import annotations

from typing import Any

import click
import numpy as np
import torch

from benchmarks.inference_peers import trained
from benchmarks.torch_nets import images, network
from keras_resnet import runtime
from keras_resnet.cost import estimate_cost
from keras_resnet.presets import PRESETS, get_spec
from keras_resnet.spec import ResNetSpec

runtime.prepare()
import tensorflow as tf

from keras_resnet import build


def copy_weights(model: Any, net: torch.nn.Module) -> None:
    """From the Keras model, layer by layer of one name."""
    modules = {path.rsplit(".", 1)[-1]: module for path, module in net.named_modules()}
    for layer in filter(lambda layer: layer.weights, model.layers):
        module = modules[layer.name]
        tensors = [module.weight, module.bias]
        if isinstance(module, torch.nn.BatchNorm2d):
            tensors += [module.running_mean, module.running_var]
        present = [tensor for tensor in tensors if tensor is not None]
        for tensor, value in zip(present, layer.get_weights(), strict=True):
            axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
            tensor.data.copy_(torch.from_numpy(value).permute(axes))


def compare(spec: ResNetSpec) -> dict[str, float]:
    """Largest differences from the Keras network, relative to its largest value.

    Weights are copied, with statistics that are not the initial ones. The gradient is
    the stem kernel's, of a step in training.
    """
    random = np.random.default_rng(0)
    model, net = trained(build(spec)), network(spec)
    copy_weights(model, net)
    x = random.normal(size=(4, *spec.input_shape)).astype("float32")
    target = random.normal(size=(4, spec.classes)).astype("float32")

    def difference(keras_tensor, torch_tensor) -> float:
        expected = keras_tensor.numpy()
        gap = np.abs(torch_tensor.detach().numpy() - expected).max()
        return float(gap / np.abs(expected).max())

    net.eval()
    inference = difference(model(x), net(images(torch.from_numpy(x))))
    stem = next(weight for weight in model.trainable_weights if weight.name == "kernel")
    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        loss = tf.reduce_sum(outputs * target)
    expected = tape.gradient(loss, stem.value)
    net.train()
    result = net(images(torch.from_numpy(x)))
    (result * torch.from_numpy(target)).sum().backward()
    gradient = next(net.parameters()).grad.permute(2, 3, 1, 0)
    return {
        "inference": inference,
        "training": difference(outputs, result),
        "gradient": difference(expected, gradient),
    }


@click.command()
@click.argument("name", type=click.Choice(list(PRESETS)), metavar="NETWORK")
@click.option("--side", type=int, help="Pixels of the image's side.")
def main(name: str, side: int | None) -> None:
    """Compare a network's torch form with its Keras form."""
    spec = get_spec(name)
    if side:
        spec = spec.replace(input_shape=(side, side, 3))
    params = sum(weight.numel() for weight in network(spec).parameters())
    expected = estimate_cost(spec).params
    click.echo(f"parameters: {params:,} of {expected:,}")
    gaps = compare(spec)
    for what, gap in gaps.items():
        click.echo(f"{what}: {gap:.1e}")
    if params != expected or gaps["inference"] > 1e-4:
        raise click.ClickException("they differ")


if __name__ == "__main__":
    main()
