"""What a repository's config.json says of its network, as timm writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_resnet import files
from keras_resnet.errors import SpecError, UserError, WeightsError
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights import architectures
from keras_resnet.weights.hub import CONFIG, Repository

# Arguments of timm's networks that change nothing in inference.
_IDLE = ("drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last", "img_size")


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
    """Reads the config.json of a repository of timm's.

    Raises:
        WeightsError: it can't be had, or is of a network that no spec expresses.
    """
    path = repository.fetch(CONFIG)
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"weights: {repository}: its {CONFIG} is not JSON: {error}"
        ) from None
    return described(config, str(repository))


def described(config: Mapping[str, Any], source: str) -> Described:
    """What timm's config.json says.

    Raises:
        WeightsError: a network that no spec expresses, or no config of timm's.
    """
    try:
        with files.reading():
            return _read_config(config, source)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise WeightsError(
            f"weights: {source}: its {CONFIG} is not whole: {error}"
        ) from None


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
    return Described(
        spec,
        tuple(255 * float(value) for value in given["mean"]),
        tuple(255 * float(value) for value in given["std"]),
        round(height / crop),
        given.get("interpolation", "bicubic"),
        _names(config, given),
    )


def _classes(config: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    """Of a network without classifier, whose number is 0, as many as ImageNet's."""
    return config.get("num_classes", given.get("num_classes")) or 1000


def _names(
    config: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[str, ...] | None:
    """Names of the classes, spelled out where they are described."""
    names: Sequence[str] | Mapping[str, str] | None
    names = config.get("label_names") or given.get("label_names")
    if not names:
        return None
    if isinstance(names, Mapping):  # by index
        names = [names[index] for index in sorted(names, key=int)]
    told = config.get("label_descriptions") or given.get("label_descriptions") or {}
    return tuple(str(told.get(name, name)) for name in names)
