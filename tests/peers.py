"""Networks of torchvision and timm as state dicts that need neither.

`python tests/peers.py` records, with the real ones installed, the names and shapes of
their tensors and what they make of an image; the tensors themselves are drawn again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).parent / "golden" / "peers.json"
SIDE = 64
LOGITS = 8  # of each network, that are kept

State = dict[str, np.ndarray]


def draw(shapes: Mapping[str, Sequence[int]]) -> State:
    """A state dict with non-trivial statistics, the same every time."""
    state = {}
    for name, shape in shapes.items():
        random = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            state[name] = np.zeros(shape, np.int64)
            continue
        if name.endswith("running_var"):
            values = random.uniform(0.5, 2.0, shape)
        elif len(shape) > 1:
            values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith("weight"):
            values = random.uniform(0.5, 1.5, shape)
        else:
            values = random.normal(0, 0.2, shape)
        state[name] = values.astype("float32")
    return state


def images(channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal(size=(2, SIDE, SIDE, channels)).astype("float32")


def record() -> None:
    import timm
    import torch
    import torchvision

    from benchmarks.checks.cifar_torch import CifarResNet

    recorded = {}
    for name, module in {
        "torchvision resnet18": torchvision.models.resnet18(weights=None),
        "torchvision resnext50_32x4d": torchvision.models.resnext50_32x4d(weights=None),
        "torchvision resnet50, output stride 8": torchvision.models.resnet50(
            weights=None, replace_stride_with_dilation=[False, True, True]
        ),
        "timm resnet50d": timm.create_model("resnet50d"),
        "timm resnetv2_50": timm.create_model("resnetv2_50"),
        "torch cifar20": CifarResNet(3),
    }.items():
        shapes = {key: list(value.shape) for key, value in module.state_dict().items()}
        state = {key: torch.from_numpy(value) for key, value in draw(shapes).items()}
        module.load_state_dict(state)
        with torch.no_grad():
            x = torch.from_numpy(images()).permute(0, 3, 1, 2)
            logits = module.eval()(x)[:, :LOGITS]
        recorded[name] = {"shapes": shapes, "logits": logits.double().tolist()}
    RECORDED.write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    record()
