"""Networks of torchvision, timm and Keras, and ours with their weights.

    python -m benchmarks.checks.parity

Prints a row for each network: the greatest difference of logits, relative to the
greatest logit, in float32, with random weights and statistics; there and back.
`--write` puts the table into docs/weights.md.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

# Before TensorFlow: triton, which torch loads, crashes if it comes after it.
import timm
import torch
import torchvision

from benchmarks.checks.cifar_torch import CifarResNet
from keras_resnet import build, get_spec, runtime, weights
from keras_resnet.spec import ResNetSpec

PAGE = Path(__file__).parents[2] / "docs" / "weights.md"
LIMIT = 1e-4
SIDE = 64


class Case(NamedTuple):
    """One network of another library and the spec that takes its weights."""

    peer: str
    spec: ResNetSpec
    make: Callable[[], Any]
    dialect: str = "torchvision"


def _torchvision(name: str, **arguments: Any) -> Callable[[], Any]:
    return partial(getattr(torchvision.models, name), weights=None, **arguments)


def _keras(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import keras

        return getattr(keras.applications, name)(
            weights=None, classifier_activation=None, input_shape=(SIDE, SIDE, 3)
        )

    return make


_V1_5 = {name: f"{name}_v1_5" for name in ("resnet50", "resnet101", "resnet152")}
_TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
    "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
# Repositories of the hub, made by timm itself: read by their config.json.
_TIMM = (
    "resnet18", "resnet18d", "resnet34", "resnet34d", "resnet26", "resnet26d",
    "resnet50", "resnet50c", "resnet50d", "resnet50s", "resnet101", "resnet101c",
    "resnet101d", "resnet101s", "resnet152", "resnet152d", "resnet200d",
    "resnext50_32x4d", "resnext50d_32x4d", "resnext101_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "resnetv2_50",
    "resnetv2_50d", "resnetv2_101", "resnetv2_101d", "resnetv2_152",
)  # fmt: skip
_KERAS = {
    "ResNet50": "keras_resnet50",
    "ResNet101": "keras_resnet101",
    "ResNet152": "keras_resnet152",
    "ResNet50V2": "keras_resnet50_v2",
    "ResNet101V2": "keras_resnet101_v2",
    "ResNet152V2": "keras_resnet152_v2",
}

CASES = [
    *(
        Case(f"torchvision {n}", get_spec(_V1_5.get(n, n)), _torchvision(n))
        for n in _TORCHVISION
    ),
    Case(
        "torchvision resnet50, output stride 8",
        get_spec("resnet50_v1_5", output_stride=8),
        _torchvision("resnet50", replace_stride_with_dilation=[False, True, True]),
    ),
    *(
        Case(
            f"torch CIFAR ResNet-{6 * units + 2}, option A",
            get_spec(f"cifar_resnet{6 * units + 2}"),
            partial(CifarResNet, units),
            "torch's CIFAR",
        )
        for units in (3, 9, 18)
    ),
    *(Case(f"keras {n}", get_spec(p), _keras(n)) for n, p in _KERAS.items()),
]


def difference(case: Case, folder: Path) -> float:
    """Of logits, relative to the greatest; and checks that the way back is exact."""
    side = 32 if case.spec.stem == "cifar" else SIDE
    random = np.random.default_rng(0)
    images = random.normal(size=(2, side, side, 3)).astype("float32")
    model = build(case.spec, input_shape=(side, side, 3))
    peer = case.make()
    if case.peer.startswith("keras"):
        _randomize_keras(peer, random)
        path = folder / "peer.weights.h5"
        peer.save_weights(path)
        expected = peer.predict(images, verbose=0)
        weights.load(model, path)
    else:
        _randomize_torch(peer, random)
        path = folder / "peer.pth"
        torch.save(peer.state_dict(), path)
        with torch.no_grad():
            expected = peer.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        weights.load(model, path)
        back = folder / "back.pth"
        if case.spec.conv_bias == "none":
            weights.save(model, back, dialect=case.dialect)
            state = torch.load(back, weights_only=True)
            for name, tensor in peer.state_dict().items():
                if not torch.equal(state[name], tensor):
                    raise SystemExit(f"{case.peer}: {name} does not come back")
            peer.load_state_dict(state)
    found = model.predict(images, verbose=0)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def timms(name: str, folder: Path) -> float:
    """Of logits of a repository's network, from raw pixels, as `difference`."""
    from timm.models import _hub

    random = np.random.default_rng(0)
    peer = timm.create_model(name).eval()
    _randomize_torch(peer, random)
    place = folder / "timm" / f"{name}.random"
    place.parent.mkdir(exist_ok=True)
    _hub.save_for_hf(peer, place, safe_serialization=True)
    given = peer.pretrained_cfg
    pixels = random.uniform(0, 255, (2, SIDE, SIDE, 3)).astype("float32")
    normal = (pixels / 255 - given["mean"]) / given["std"]
    with torch.no_grad():
        x = torch.from_numpy(normal.astype("float32")).permute(0, 3, 1, 2)
        expected = peer(x).numpy()
    model = weights.pretrained(f"timm/{name}.random", input_shape=(SIDE, SIDE, 3))
    found = model.predict(pixels, verbose=0)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def checkpoints(folder: Path) -> int:
    """How many kinds of files load: wrapped, nested, with arguments, legacy."""
    peer = torchvision.models.resnet18(weights=None)
    state = peer.state_dict()
    under = {f"module.{name}": value for name, value in state.items()}
    arguments = argparse.Namespace(lr=0.1, model="resnet18")
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "plain.pth": (state, {}),
        "parallel.pt": (under, {}),
        "timm.pth.tar": ({"state_dict": state, "args": arguments, "epoch": 3}, {}),
        "torchvision.PTH": ({"model": state, "args": arguments}, {}),
        "lightning.ckpt": ({"state_dict": under, "loops": {}}, {}),
        "old.th": ({"state_dict": under}, {"_use_new_zipfile_serialization": False}),
        "swa.bin": (torch.optim.swa_utils.AveragedModel(peer).state_dict(), {}),
    }
    model = build("resnet18", input_shape=(SIDE, SIDE, 3))
    for name, (content, options) in kinds.items():
        torch.save(content, folder / name, **options)
        model.layers[-1].kernel.assign(np.zeros((512, 1000)))
        weights.load(model, folder / name)
        kernel = model.layers[-1].kernel.numpy()
        if not np.array_equal(kernel, state["fc.weight"].numpy().T):
            raise SystemExit(f"{name} was not read")
    return len(kinds)


def pushed(folder: Path) -> float:
    """Of logits of a run that timm loads from the files that `push` writes."""
    import keras

    from keras_resnet import training

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (64, 32, 32, 3)).astype("uint8")
    recipe = training.get_recipe("digits").over(1)
    recipe = recipe.replace(model=get_spec("resnet18"), warmup_epochs=0)
    training.train(
        recipe, data=(images, np.arange(64) % 4), folder=folder / "run", export=False
    )
    place = weights.push(folder / "run", "me/run", dry_run=folder / "pushed")
    peer = timm.create_model(f"local-dir:{place}", pretrained=True).eval()
    given = timm.data.resolve_model_data_config(peer)
    normal = (images[:8] / 255 - given["mean"]) / given["std"]
    with torch.no_grad():
        x = torch.from_numpy(normal.astype("float32")).permute(0, 3, 1, 2)
        expected = peer(x).numpy()
    model = keras.models.load_model(folder / "pushed" / "model.keras")
    found = model.predict(images[:8], verbose=0)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _randomize_torch(module: Any, random: np.random.Generator) -> None:
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                _fill(part, random)


def _fill(norm: Any, random: np.random.Generator) -> None:
    size = norm.num_features
    for tensor, values in (
        (norm.weight, random.uniform(0.5, 1.5, size)),
        (norm.bias, random.normal(0, 0.2, size)),
        (norm.running_mean, random.normal(0, 0.2, size)),
        (norm.running_var, random.uniform(0.5, 2.0, size)),
    ):
        tensor.copy_(torch.from_numpy(values))


def _randomize_keras(model: Any, random: np.random.Generator) -> None:
    for layer in model.layers:
        if len(layer.weights) == 4:
            size = layer.weights[0].shape[0]
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, size),
                    random.normal(0, 0.2, size),
                    random.normal(0, 0.2, size),
                    random.uniform(0.5, 2.0, size),
                ]
            )
        elif len(layer.weights) == 2:
            layer.bias.assign(random.normal(0, 0.2, layer.bias.shape))


@click.command()
@click.option("--only", default="", help="Part of the peers' names.")
@click.option("--write", is_flag=True, help="Put the table into docs/weights.md.")
def main(only: str, write: bool) -> None:
    """Compare all networks; exit code 1 if one differs by more than 1e-4."""
    runtime.prepare()
    lines = ["| network | weights from | greatest difference |", "|---|---|---|"]
    worst = 0.0
    from tests.hub_server import addressed, served

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cases = [(c.peer, c.spec.name, partial(difference, c, place)) for c in CASES]
        cases += [
            (f"timm {name}, from the hub", name, partial(timms, name, place))
            for name in _TIMM
        ]
        with served(place) as hub, addressed(hub, place / "cache"):
            for peer, name, compared in cases:
                if only not in peer:
                    continue
                found = compared()
                worst = max(worst, found)
                lines.append(f"| `{name}` | {peer} | {found:.1e} |")
                click.echo(lines[-1])
        if not only or only == "push":
            worst = max(worst, pushed(place))
            click.echo(f"a pushed run, loaded by timm: {worst:.1e} at most")
            click.echo(f"{checkpoints(place)} kinds of checkpoints load")
    if write:
        marked = r"(<!-- parity -->\n).*(<!-- end -->)"
        table = "\n".join(lines) + "\n"
        page = re.sub(
            marked, lambda m: m[1] + table + m[2], PAGE.read_text(), flags=re.S
        )
        PAGE.write_text(page)
    raise SystemExit(worst > LIMIT)


if __name__ == "__main__":
    main()
