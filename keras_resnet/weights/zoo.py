"""Published checkpoints: a table of whose, of what, where, and how images went in."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal, NamedTuple

from keras_resnet.errors import WeightsError
from keras_resnet.presets import get_spec
from keras_resnet.weights import download, torch_files
from keras_resnet.weights.descriptions import Described
from keras_resnet.weights.hub import TENSORS, Repository

TORCHVISION = "https://download.pytorch.org/models/"
TIMM = (
    "https://github.com/huggingface/pytorch-image-models/releases/download/"
    "v0.1-rsb-weights/"
)
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"

Pixels = tuple[float, ...]
_V1, _V2 = "IMAGENET1K_V1", "IMAGENET1K_V2"

# Of ImageNet's pixels, red, green and blue, from 0 to 255.
_TORCH = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_CAFFE = (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)
_TF = (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)


class Published(NamedTuple):
    """Weights trained on ImageNet, and how images are prepared for them.

    Attributes:
        preset: the network.
        url: where the publisher has it.
        digest: its MD5, or how its SHA-256 begins.
        mean: of red, green and blue, in raw pixels.
        std: the same.
        bgr: whether the network was trained on blue, green, red.
        size: side of the crop that it was judged on.
        resize: length of the shorter side that the crop was taken from.
        interpolation: how it was resized.
        hub: timm's repository of the same weights on the Hugging Face Hub.
    """

    preset: str
    url: str
    digest: str
    mean: Pixels
    std: Pixels
    bgr: bool
    size: int
    resize: int
    interpolation: Literal["bilinear", "bicubic"]
    hub: str | None = None

    def fetch(self) -> Path:
        """The file, downloaded unless it is there.

        The hub's, which is read without torch; with torch the publisher's own if it is
        there already, or the hub can't be reached.

        Raises:
            WeightsError: it can't be had.
        """
        path = download.cache_folder() / self.url.rsplit("/", 1)[1]
        if self.hub is None:
            return download.fetch(self.url, self.digest, path)
        if path.is_file() and torch_files.has_torch():
            return download.fetch(self.url, self.digest, path)
        try:
            return Repository(self.hub).fetch(TENSORS)
        except WeightsError:
            if not torch_files.has_torch():
                raise
        return download.fetch(self.url, self.digest, path)

    def describe(self) -> Described:
        """The network and its images, as a repository of the hub is described."""
        shape = (self.size, self.size, 3)
        return Described(
            get_spec(self.preset).replace(input_shape=shape),
            self.mean,
            self.std,
            self.resize,
            self.interpolation,
            None,
            self.bgr,
        )


def _torchvision(preset: str, file: str, version: str, resize: int) -> Published:
    digest = file.rsplit("-", 1)[1].removesuffix(".pth")
    url = TORCHVISION + file
    network = file.partition("-")[0]
    hub = f"timm/{network}.{'tv2' if version == _V2 else 'tv'}_in1k"
    return Published(preset, url, digest, *_TORCH, False, 224, resize, "bilinear", hub)


def _timm(preset: str, network: str, recipe: str, digest: str) -> Published:
    url = f"{TIMM}{network}_{recipe}_0-{digest}.pth"
    size, resize = (224, 236) if recipe == "a3" else (288, 288)
    hub = f"timm/{network}.{recipe}_in1k"
    return Published(preset, url, digest, *_TORCH, False, size, resize, "bicubic", hub)


def _keras(preset: str, name: str, digest: str) -> Published:
    url = f"{KERAS}{name}_weights_tf_dim_ordering_tf_kernels.h5"
    stats = _TF if preset.endswith("_v2") else _CAFFE
    return Published(preset, url, digest, *stats, stats is _CAFFE, 224, 224, "bilinear")


PUBLISHED: dict[str, Published] = {
    **{
        f"torchvision/{network}.{version}": _torchvision(preset, file, version, resize)
        for network, version, preset, file, resize in (
            ("resnet18", _V1, "resnet18", "resnet18-f37072fd.pth", 256),
            ("resnet34", _V1, "resnet34", "resnet34-b627a593.pth", 256),
            ("resnet50", _V1, "resnet50_v1_5", "resnet50-0676ba61.pth", 256),
            ("resnet50", _V2, "resnet50_v1_5", "resnet50-11ad3fa6.pth", 232),
            ("resnet101", _V1, "resnet101_v1_5", "resnet101-63fe2227.pth", 256),
            ("resnet101", _V2, "resnet101_v1_5", "resnet101-cd907fc2.pth", 232),
            ("resnet152", _V1, "resnet152_v1_5", "resnet152-394f9c45.pth", 256),
            ("resnet152", _V2, "resnet152_v1_5", "resnet152-f82ba261.pth", 232),
            *(
                (network, version, network, f"{network}-{digest}.pth", resize)
                for network, version, digest, resize in (
                    ("resnext50_32x4d", _V1, "7cdf4587", 256),
                    ("resnext50_32x4d", _V2, "1a0047aa", 232),
                    ("resnext101_32x8d", _V1, "8ba56ff5", 256),
                    ("resnext101_32x8d", _V2, "110c445d", 232),
                    ("resnext101_64x4d", _V1, "173b62eb", 232),
                    ("wide_resnet50_2", _V1, "95faca4d", 256),
                    ("wide_resnet50_2", _V2, "9ba9bcbe", 232),
                    ("wide_resnet101_2", _V1, "32ee1156", 256),
                    ("wide_resnet101_2", _V2, "d733dc28", 232),
                )
            ),
        )
    },
    # Wightman 2021 (2110.00476): A1 and A2 judged at 288 pixels, A3 at 224.
    **{
        f"timm/{network}.{recipe}_in1k": _timm(preset, network, recipe, digest)
        for network, recipe, preset, digest in (
            ("resnet18", "a1", "resnet18", "d63eafa0"),
            ("resnet18", "a2", "resnet18", "b61bd467"),
            ("resnet18", "a3", "resnet18", "40c531c8"),
            ("resnet34", "a1", "resnet34", "46f8f793"),
            ("resnet34", "a2", "resnet34", "82d47d71"),
            ("resnet34", "a3", "resnet34", "a20cabb6"),
            ("resnet50", "a1", "resnet50_v1_5", "14fe96d1"),
            ("resnet50", "a2", "resnet50_v1_5", "a2746f79"),
            ("resnet50", "a3", "resnet50_v1_5", "59cae1ef"),
            ("resnet50d", "a1", "resnet50_d", "e20cff14"),
            ("resnet50d", "a2", "resnet50_d", "a3adc64d"),
            ("resnet50d", "a3", "resnet50_d", "403fdfad"),
            ("resnet101", "a1", "resnet101_v1_5", "cdcb52a9"),
            ("resnet101", "a2", "resnet101_v1_5", "6edb36c7"),
            ("resnet101", "a3", "resnet101_v1_5", "1db14157"),
            ("resnet152", "a1", "resnet152_v1_5", "2eee8a7a"),
            ("resnet152", "a2", "resnet152_v1_5", "b4c6978f"),
            ("resnet152", "a3", "resnet152_v1_5", "134d4688"),
        )
    },
    **{
        f"keras/{name}": _keras(preset, name, digest)
        for name, preset, digest in (
            ("resnet50", "keras_resnet50", "2cb95161c43110f7111970584f804107"),
            ("resnet101", "keras_resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5"),
            ("resnet152", "keras_resnet152", "100835be76be38e30d865e96f2aaae62"),
            ("resnet50v2", "keras_resnet50_v2", "3ef43a0b657b3be2300d5770ece849e0"),
            ("resnet101v2", "keras_resnet101_v2", "6343647c601c52e1368623803854d971"),
            ("resnet152v2", "keras_resnet152_v2", "a49b44d1979771252814e80f8ec446f9"),
        )
    },
}


def published(name: str) -> Published:
    """The row of a name.

    Raises:
        WeightsError: no such row; the closest names are given.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    raise WeightsError(f"weights: nothing is published here as {name!r}{closest(name)}")


def closest(name: str) -> str:
    """Of a message: the names that are like a wrong one."""
    close = difflib.get_close_matches(name, PUBLISHED, 3, 0.5)
    return f"; closest: {', '.join(close)}" if close else ""
