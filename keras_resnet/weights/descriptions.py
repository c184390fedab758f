"""What a repository's config.json says of its network: timm's or transformers'."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from typing import Any, NamedTuple

from keras_resnet import files, limits
from keras_resnet.errors import SpecError, UserError, WeightsError
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights import architectures
from keras_resnet.weights.hub import CONFIG, Repository

PROCESSOR = "preprocessor_config.json"  # transformers' file beside config.json
# Arguments of timm's networks that change nothing in inference.
_IDLE = ("drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last", "img_size")

# transformers' ResNet: the block's layers and depths -> timm's name.
_TRANSFORMERS = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (2, 2, 2, 2)): "resnet26",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
# What they have beside, as the default of its configuration.
_TRANSFORMERS_FIELDS = {
    "embedding_size": 64,
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


class Described(NamedTuple):
    """What a repository's config.json says of its network.

    Attributes:
        spec: the network, with its classes and the size that it is judged at.
        mean: of red, green and blue, in raw pixels.
        std: the same.
        resize: length of the shorter side that the crop is taken from.
        interpolation: how it is resized.
        class_names: where the publisher tells them.
        bgr: whether the network was trained on blue, green, red.
    """

    spec: ResNetSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    interpolation: str
    class_names: tuple[str, ...] | None
    bgr: bool = False

    @property
    def size(self) -> int:
        """Side of the images, in pixels."""
        return int(self.spec.input_shape[0] or 0)


def describe(repository: Repository) -> Described:
    """Reads the config.json of a repository of timm's, or of transformers' ResNet.

    Raises:
        WeightsError: it can't be had, or is of a network that no spec expresses.
    """
    config = _json(repository, CONFIG)
    transformers = config.get("model_type") == "resnet" and "architecture" not in config
    processor = _json(repository, PROCESSOR) if transformers else None
    return described(config, str(repository), processor)


def _json(repository: Repository, name: str) -> Mapping[str, Any]:
    path = repository.fetch(name)
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"weights: {repository}: its {name} is not JSON: {error}"
        ) from None
    if not isinstance(content, dict):
        raise WeightsError(f"weights: {repository}: its {name} is no object")
    return content


def described(
    config: Mapping[str, Any], source: str, processor: Mapping[str, Any] | None = None
) -> Described:
    """What a config.json says.

    Args:
        config: timm's; or transformers', then with its preprocessor_config.json.
        source: what messages call the repository.
        processor: the latter.

    Raises:
        WeightsError: a network that no spec expresses, or neither's config.
    """
    try:
        with files.reading():
            if processor is not None:
                config = _of_transformers(config, processor, source)
            return _read_config(config, source)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise WeightsError(
            f"weights: {source}: its {CONFIG} is not whole: {error}"
        ) from None


def _of_transformers(
    config: Mapping[str, Any], processor: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """The same as timm would write it."""
    block, depths = config["layer_type"], tuple(config["depths"])
    name = _TRANSFORMERS.get((block, depths))
    widths = [64 * 2**stage * (4 if block == "bottleneck" else 1) for stage in range(4)]
    expected = {**_TRANSFORMERS_FIELDS, "hidden_sizes": widths}
    other = [f for f, value in expected.items() if config.get(f, value) != value]
    if name is None or other:
        what = f"{other[0]} {config[other[0]]}" if other else f"depths {list(depths)}"
        raise WeightsError(
            f"weights: {source} is transformers' resnet of {block} units with {what}, "
            "which no network of timm's has"
        )
    if not (processor.get("do_rescale", True) and processor.get("do_normalize", True)):
        raise WeightsError(
            f"weights: {source}: its {PROCESSOR} leaves pixels as they are; only "
            "normalized ones are read"
        )
    size = processor["size"]
    side = size.get("shortest_edge") or size["height"]
    return {
        "architecture": name,
        "num_classes": len(config["id2label"]),
        "label_names": config["id2label"],
        "input_size": [config.get("num_channels", 3), side, side],
        "crop_pct": processor.get("crop_pct") or 1,
        "interpolation": _PILLOW.get(processor.get("resample", 3), "bicubic"),
        "mean": processor["image_mean"],
        "std": processor["image_std"],
    }


def _read_config(config: Mapping[str, Any], source: str) -> Described:
    given = config.get("pretrained_cfg", config)
    architecture = config.get("architecture", given.get("architecture"))
    if not isinstance(architecture, str):
        kind = config.get("model_type")
        whose = f"transformers' {kind}" if kind else "none of timm's"
        raise WeightsError(
            f"weights: {source}: its {CONFIG} names no architecture of timm's ({whose})"
        )
    spec = architectures.spec_of(architecture, source)
    return _described(spec, config, given, source)


def _described(
    spec: ResNetSpec, config: Mapping[str, Any], given: Mapping[str, Any], source: str
) -> Described:
    arguments = dict(config.get("model_args", {}))
    channels, height, width = given.get("test_input_size") or given["input_size"]
    crop = given.get("test_crop_pct") or given.get("crop_pct") or 1
    changes: dict[str, Any] = {
        "input_shape": (height, width, arguments.pop("in_chans", channels)),
        "classes": arguments.pop("num_classes", None) or _classes(config, given),
    }
    if "output_stride" in arguments:
        stride = arguments.pop("output_stride")
        changes["output_stride"] = None if stride == 32 else stride
    other = [
        name for name, value in arguments.items()
        if name not in _IDLE and (name, value) != ("global_pool", "avg")
    ]  # fmt: skip
    if other:
        raise WeightsError(
            f"weights: {source} is a {spec.name} with {', '.join(sorted(other))}, "
            "which no spec expresses"
        )
    try:
        spec = spec.replace(**changes)
    except SpecError as error:
        raise WeightsError(f"weights: {source}: {error}") from None
    mean, std = (
        [255 * float(value) for value in given[key]] for key in ("mean", "std")
    )
    if len(mean) != channels or len(std) != channels or not all(map(isfinite, mean)):
        raise ValueError(f"mean and std are no {channels} numbers")
    if not all(0 < value < inf for value in std):
        raise ValueError("std: one is not above 0")
    if not 0.1 <= crop <= 10:
        raise ValueError(f"crop_pct: {crop!r} is no share of an image")
    return Described(
        spec,
        tuple(mean),
        tuple(std),
        round(height / crop),
        limits.clean(str(given.get("interpolation", "bicubic"))),
        _names(config, given, spec.classes, source),
    )


def _classes(config: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    """Of a network without classifier, whose number is 0, as many as ImageNet's."""
    return config.get("num_classes", given.get("num_classes")) or 1000


def _names(
    config: Mapping[str, Any], given: Mapping[str, Any], classes: int, source: str
) -> tuple[str, ...] | None:
    """Names of the classes, spelled out where that tells them apart."""
    names: Sequence[str] | Mapping[str, str] | None
    names = config.get("label_names") or given.get("label_names")
    if not names:
        return None
    if isinstance(names, Mapping):  # by index
        names = [names[index] for index in sorted(names, key=int)]
    told = config.get("label_descriptions") or given.get("label_descriptions") or {}
    if len(names) != classes:
        raise WeightsError(
            f"weights: {source}: its {CONFIG} has {len(names)} label_names for "
            f"{classes} classes"
        )
    plain = tuple(str(name) for name in names)
    described = tuple(limits.clean(str(told.get(name, name))) for name in plain)
    for each in (described, plain):
        try:
            limits.check_names(each)
        except limits.LimitError as error:
            reason = error
        else:
            return each
    raise WeightsError(f"weights: {source}: its {CONFIG}: {reason}")
