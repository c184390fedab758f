"""The peer of `time_to_accuracy`: DAWNBench's ResNet-9 on Fashion-MNIST in torch.

    python -m benchmarks.resnet9 SEED

The network and the rate are those of David Page's "How to train your ResNet" (2018),
less wide, as two cores have minutes where he had a GPU; channels-last memory, bfloat16
by autocast, SGD in one kernel, each batch augmented at once. Batch, rate, labels,
augmentation and weight decay are our recipe's. Prints its result as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from keras_resnet.data.options import Options
from keras_resnet.data.sources import read
from keras_resnet.data.splits import split
from keras_resnet.recipes import get_recipe

RECIPE = get_recipe("fashion_mnist_fast")
WIDTH = 24  # channels of the first convolution; Page's is 64
EPOCHS = 15
PEAK = 0.2  # share of the training after which the rate falls, to zero
SCALE = 0.125  # of the logits


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*_conv(width, width), *_conv(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


def _conv(width: int, to: int, *, pool: bool = False) -> list[nn.Module]:
    convolution = nn.Conv2d(width, to, 3, padding=1, bias=False)
    found: list[nn.Module] = [convolution, nn.BatchNorm2d(to), nn.ReLU(inplace=True)]
    return [*found, nn.MaxPool2d(2)] if pool else found


def network(width: int, classes: int = 10) -> nn.Sequential:
    """From (n, 1, 28, 28) to logits."""
    return nn.Sequential(
        *_conv(1, width),
        *_conv(width, 2 * width, pool=True),
        Residual(2 * width),
        *_conv(2 * width, 4 * width, pool=True),
        *_conv(4 * width, 8 * width, pool=True),
        Residual(8 * width),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(8 * width, classes, bias=False),
    ).to(memory_format=torch.channels_last)


def augmented(x: torch.Tensor, pad: int) -> torch.Tensor:
    """A batch (n, height, width), shifted by up to `pad` pixels and half of it flipped.

    Zeros, the mean pixel, come in.
    """
    count, height, width = x.shape
    padded = functional.pad(x, (pad,) * 4)
    down, right = torch.randint(0, 2 * pad + 1, (2, count, 1))
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    flipped = torch.rand(count, 1) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    images = torch.arange(count)[:, None, None]
    return padded[images, rows[:, :, None], columns[:, None, :]]


def rate(done: float) -> float:
    """Share of the highest rate after a share of the training."""
    return done / PEAK if done < PEAK else (1 - done) / (1 - PEAK)


def train(seed: int) -> dict[str, Any]:
    """Seconds and validation accuracy of each epoch, and the test accuracy."""
    torch.manual_seed(seed)
    found = split(read("fashion_mnist", Options()), seed)
    mean, deviation = _stats(found["train"])
    train, val, test = (
        _tensors(found[name], mean, deviation) for name in ("train", "val", "test")
    )
    net = network(WIDTH)
    optimizer = torch.optim.SGD(
        net.parameters(),
        RECIPE.learning_rate,
        momentum=RECIPE.momentum,
        nesterov=RECIPE.nesterov,
        weight_decay=RECIPE.l2,
        fused=True,
    )
    loss = nn.CrossEntropyLoss(label_smoothing=RECIPE.label_smoothing)
    x, y = train
    steps, seconds, accuracies = len(x) // RECIPE.batch_size, [], []
    for epoch in range(EPOCHS):
        started = time.perf_counter()
        net.train()
        batches = torch.randperm(len(x)).split(RECIPE.batch_size)[:steps]
        for step, chosen in enumerate(batches):
            done = (epoch + step / steps) / EPOCHS
            optimizer.param_groups[0]["lr"] = RECIPE.learning_rate * rate(done)
            images = augmented(x[chosen], RECIPE.augment.pad)[:, None]
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(images)
            loss(SCALE * logits.float(), y[chosen]).backward()
            optimizer.step()
        accuracies.append(_accuracy(net, *val))
        seconds.append(time.perf_counter() - started)
        click.echo(f"{epoch + 1}: {accuracies[-1]:.4f}, {seconds[-1]:.1f} s", err=True)
    return {"seconds": seconds, "val": accuracies, "test": _accuracy(net, *test)}


def _stats(images: Any) -> tuple[float, float]:
    return float(images.pixels.mean()), float(images.pixels.std())


def _tensors(
    images: Any, mean: float, deviation: float
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = (images.pixels[..., 0].astype(np.float32) - mean) / deviation
    return torch.from_numpy(pixels), torch.from_numpy(images.labels)


def _accuracy(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    net.eval()
    with torch.inference_mode():
        right = sum(
            int((net(images[:, None]).argmax(1) == labels).sum())
            for images, labels in zip(x.split(500), y.split(500), strict=True)
        )
    return right / len(y)


if __name__ == "__main__":
    print(json.dumps(train(int(sys.argv[1]))))
