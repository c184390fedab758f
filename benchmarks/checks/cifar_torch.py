"""The CIFAR ResNet of He 2015 with option A as torch's ports write it.

Their shortcut pads as many zero channels before the data's as after.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.half = stride, (outputs - inputs) // 2

    def forward(self, x: Any) -> Any:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(out + F.pad(shortcut, (0, 0, 0, 0, self.half, self.half)))


class CifarResNet(nn.Module):
    """6n+2 layers; `conv1`, `bn1`, `layer1.0.conv1`, ..., `linear`."""

    def __init__(self, units: int, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage in (1, 2, 3):
            outputs = width * 2 ** (stage - 1)
            parts = []
            for unit in range(units):
                stride = 2 if stage > 1 and unit == 0 else 1
                parts.append(Unit(inputs, outputs, stride))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*parts))
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.mean(x, dim=(2, 3)))
