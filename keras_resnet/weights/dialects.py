"""How torch's networks name and lay out what a spec plans: a table, a row a dialect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.errors import WeightsError
from keras_resnet.plan import (
    GATES,
    Conv,
    Dense,
    Merge,
    Norm,
    Plan,
    channels_of,
    make_plan,
)
from keras_resnet.presets import PRESETS
from keras_resnet.spec import ResNetSpec

HEAD = "predictions"
CIFAR = "torch's CIFAR"
Arrays = dict[str, list[np.ndarray]]  # by layer, in Keras' order and layout


class Dialect(NamedTuple):
    """What a library calls the layers of its residual networks, and how it wires them.

    Attributes:
        title: whose.
        sign: a tensor that only this dialect has.
        names: our layers of stem and head -> its modules.
        unit: its name of a unit, of {stage} and {unit} from 0.
        parts: the layers of a unit.
        facts: fields of a spec that it can't be loaded without: files don't tell.
        pooled: the number in its name of a projection that follows an average pool.
        first: what its numbers of stages lack to ours: 1 if it counts from 0.
        centered: whether option A pads channels on both sides, not after the data's.
        projects: whether its first unit must project: an identity would take the
            input before the activation, and ours after it.
    """

    title: str
    sign: str
    names: Mapping[str, str]
    unit: str
    parts: Mapping[str, str]
    facts: Mapping[str, Any]
    pooled: Mapping[str, str] = {}
    first: int = 0
    centered: bool = False
    projects: bool = False


_STEM = {"conv1_conv": "conv1", "conv1_bn": "bn1"}
_PARTS = {
    **{f"{i}_conv": f"conv{i}" for i in (1, 2, 3)},
    **{f"{i}_bn": f"bn{i}" for i in (1, 2, 3)},
}
_POST = {
    "order": "post",
    "bn_epsilon": 1e-5,
    "merge": "add",
    "conv_bias": "none",
    "stride_at": "first",
    "survival": 1.0,
}

# Units and facts of torchvision's and timm's ResNet, as several libraries have them.
_RESNET_PARTS = {**_PARTS, "0_conv": "downsample.0", "0_bn": "downsample.1"}
_RESNET_POOLED = {"0_conv": "downsample.1", "0_bn": "downsample.2"}
_RESNET = {**_POST, "stride_on": "3x3", "project_norm": True}

DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        title="timm's ResNetV2",
        sign="stages.0.blocks.0.norm1.weight",
        names={
            "conv1_conv": "stem.conv",
            "conv1_1_conv": "stem.conv1",
            "conv1_1_bn": "stem.norm1",
            "conv1_2_conv": "stem.conv2",
            "conv1_2_bn": "stem.norm2",
            "conv1_3_conv": "stem.conv3",
            "post_bn": "norm",
            HEAD: "head.fc",
        },
        unit="stages.{stage}.blocks.{unit}.",
        first=1,
        parts={
            "preact_bn": "norm1",
            "1_conv": "conv1",
            "1_bn": "norm2",
            "2_conv": "conv2",
            "2_bn": "norm3",
            "3_conv": "conv3",
            "0_conv": "downsample.conv",
        },
        # Its stem has no batch norm, as Keras' V2; the biases are loaded as zeros.
        facts={
            "order": "pre",
            "bn_epsilon": 1e-5,
            "merge": "add",
            "survival": 1.0,
            "conv_bias": "keras_v2",
            "stride_on": "3x3",
            "stride_at": "first",
            "project_norm": False,
            "stem_pool_pad": "minus_inf",
        },
        projects=True,
    ),
    Dialect(
        title=f"{CIFAR} networks with option A",
        sign="linear.weight",
        names={**_STEM, HEAD: "linear"},
        unit="layer{stage}.{unit}.",
        parts=_PARTS,
        facts={**_POST, "stem": "cifar", "shortcut": "pad", "pad_pool": "subsample"},
        centered=True,
    ),
    Dialect(
        title="torchvision's and timm's ResNet",
        sign="bn1.weight",
        names={
            **_STEM,
            # ResNet-C's stem, which timm has.
            "conv1_1_conv": "conv1.0",
            "conv1_1_bn": "conv1.1",
            "conv1_2_conv": "conv1.3",
            "conv1_2_bn": "conv1.4",
            "conv1_3_conv": "conv1.6",
            "conv1_3_bn": "bn1",
            HEAD: "fc",
        },
        unit="layer{stage}.{unit}.",
        parts=_RESNET_PARTS,
        facts=_RESNET,
        pooled=_RESNET_POOLED,
    ),
    # Its children in order, as torch.nn.Sequential numbers them; 2 and 3 are ReLU and
    # pool.
    Dialect(
        title="torchvision's ResNet in a Sequential",
        sign="4.0.conv1.weight",
        names={"conv1_conv": "0", "conv1_bn": "1", HEAD: "fc"},
        unit="{stage}.{unit}.",
        first=-3,
        parts=_RESNET_PARTS,
        facts={**_RESNET, "stem": "imagenet"},
        pooled=_RESNET_POOLED,
    ),
    Dialect(
        title="transformers' ResNet",
        sign="embedder.embedder.convolution.weight",
        names={
            "conv1_conv": "embedder.embedder.convolution",
            "conv1_bn": "embedder.embedder.normalization",
            HEAD: "classifier.1",
        },
        unit="encoder.stages.{stage}.layers.{unit}.",
        first=1,
        parts={
            **{f"{i}_conv": f"layer.{i - 1}.convolution" for i in (1, 2, 3)},
            **{f"{i}_bn": f"layer.{i - 1}.normalization" for i in (1, 2, 3)},
            "0_conv": "shortcut.convolution",
            "0_bn": "shortcut.normalization",
        },
        facts={**_RESNET, "stem": "imagenet"},
    ),
)

_NORM = ("weight", "bias", "running_mean", "running_var")


def dialect_of(tensors: Mapping[str, Any], spec: ResNetSpec, source: object) -> Dialect:
    """The first dialect whose sign is there.

    Raises:
        WeightsError: none; or two, as only their classifiers have other names.
    """
    for dialect in DIALECTS:
        if dialect.sign not in tensors:
            continue
        cifar = by_title(CIFAR)
        headless = f"{dialect.names[HEAD]}.weight" not in tensors
        if headless and dialect.unit == cifar.unit and not wrong_facts(spec, cifar):
            raise WeightsError(
                f"weights: {source} has no classifier, by whose name {cifar.title} are "
                f"told from {dialect.title}; give the dialect to weights.load"
            )
        return dialect
    some = ", ".join(list(tensors)[:3])
    raise WeightsError(
        f"weights: {source} holds {some}, ...: none of {_titles()} names tensors so"
    )


def first_tensors() -> set[str]:
    """The first unit's kernel in each dialect, which no other tensor is named like."""
    return {
        d.unit.format(stage=1 - d.first, unit=0) + d.parts["1_conv"] + ".weight"
        for d in DIALECTS
    }


def heads_among(
    left: Sequence[str],
    tensors: Mapping[str, np.ndarray],
    spec: ResNetSpec,
    dialect: Dialect,
) -> list[str]:
    """Of the tensors left over, those of the head, whatever it is called.

    It stands outside the modules of the body, and has matrices, vectors and 1x1
    convolutions.
    """
    names = names_of(make_plan(spec), dialect)
    body = {
        n.partition(".")[0] for layer in names if layer != HEAD for n in names[layer]
    }
    return [
        name
        for name in left
        if name.partition(".")[0] not in body
        and (tensors[name].ndim <= 2 or tensors[name].shape[2:] == (1, 1))
    ]


def linear(
    heads: Sequence[str], tensors: Mapping[str, np.ndarray]
) -> tuple[str, list[np.ndarray]] | None:
    """The name of a head that is one linear layer, and its kernel and bias."""
    name = heads[0].rpartition(".")[0] if heads else ""
    if sorted(heads) != [f"{name}.bias", f"{name}.weight"]:
        return None
    kernel, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    if bias.ndim != 1 or kernel.size % len(bias) or kernel.shape[0] != len(bias):
        return None
    return name, [kernel.reshape(len(bias), -1).T, bias]


def by_title(title: str) -> Dialect:
    """The dialect whose title begins so.

    Raises:
        WeightsError: none.
    """
    for dialect in DIALECTS:
        if dialect.title.startswith(title):
            return dialect
    raise WeightsError(f"dialect: {title!r} begins none of {_titles()}")


def _titles() -> str:
    return "; ".join(dialect.title for dialect in DIALECTS)


def shapes_of(plan: Plan) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of each layer's weights, in Keras' order and layout."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for op in plan.ops:
        channels = channels_of(op.shape)
        match op:
            case Conv():
                inputs = op.in_channels // op.groups
                shapes[op.name] = [(op.kernel, op.kernel, inputs, channels)]
            case Dense():
                shapes[op.name] = [(op.in_features, channels)]
            case Norm():
                shapes[op.name] = [(channels,)] * 4
            case Merge() if op.kind in GATES:
                shapes[op.name] = [(channels, channels), (channels,)]
            case _:
                continue
        if isinstance(op, Conv | Dense) and op.bias:
            shapes[op.name].append((channels,))
    return shapes


def _modules(plan: Plan, dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Our layers with weights, and what the dialect calls them."""
    pooled = dialect.pooled if plan.spec.project_pool else {}
    parts = {**dialect.parts, **pooled}
    for op in (*plan.stem, *plan.head):
        if op.name in dialect.names:
            yield op.name, dialect.names[op.name]
    for unit in plan.units:
        stage = unit.stage - dialect.first
        prefix = dialect.unit.format(stage=stage, unit=unit.block - 1)
        for op in unit.ops:
            part = op.name.removeprefix(f"{unit.name}_")
            if part in parts:
                yield op.name, prefix + parts[part]


def names_of(plan: Plan, dialect: Dialect) -> dict[str, list[str]]:
    """Our layers -> the dialect's tensors, in the order of the layer's weights."""
    shapes = shapes_of(plan)
    names = {}
    for layer, module in _modules(plan, dialect):
        if layer in shapes:
            norm = len(shapes[layer]) == 4
            tensors = _NORM if norm else ("weight", "bias")[: len(shapes[layer])]
            names[layer] = [f"{module}.{tensor}" for tensor in tensors]
    return names


def wrong_facts(spec: ResNetSpec, dialect: Dialect) -> dict[str, Any]:
    """Fields in which the dialect's networks are others, with what theirs are."""
    return {
        field: value
        for field, value in dialect.facts.items()
        if getattr(spec, field) != value and not _idle(spec, field)
    }


def check_facts(spec: ResNetSpec, dialect: Dialect, source: object) -> None:
    """Refuses a network of the right shapes that would compute something else.

    Raises:
        WeightsError: naming the field, and a preset that fits if there is one.
    """
    wrong = wrong_facts(spec, dialect)
    if not wrong:
        return
    field, value = next(iter(wrong.items()))
    presets = [
        name
        for name, preset in PRESETS.items()
        if not wrong_facts(preset.spec, dialect) and same_shapes(preset.spec, spec)
    ]
    advice = f"build {presets[0]!r}" if presets else "change the spec"
    raise WeightsError(
        f"weights: {source} is of {dialect.title}, with {field} {value!r}, and "
        f"{spec.name} has {getattr(spec, field)!r}: outputs would differ; {advice}"
    )


def same_shapes(first: ResNetSpec, second: ResNetSpec) -> bool:
    """Whether two networks have the same weights, but for images and classes."""
    fields = ("stem", "stem_width", "block", "depths", "widths", "k", "cardinality")
    more = ("group_width", "shortcut", "project_pool", "kernels")
    return all(getattr(first, f) == getattr(second, f) for f in (*fields, *more))


def _idle(spec: ResNetSpec, field: str) -> bool:
    """Whether a field makes no difference to this network."""
    if field == "survival":
        return spec.survival_mode == "sample"  # inference is the plain sum
    return field == "stride_on" and spec.block != "bottleneck"


def from_torch(
    tensors: Mapping[str, np.ndarray],
    spec: ResNetSpec,
    dialect: Dialect,
    source: object,
) -> tuple[Arrays, list[str]]:
    """A state dict in Keras' layout, by our layers; also the tensors left over.

    Layers that the state dict lacks, in whole or in part, are left out.

    Raises:
        WeightsError: a dialect that the spec doesn't speak.
    """
    check_facts(spec, dialect, source)
    plan = make_plan(spec)
    if dialect.projects and not plan.units[0].shortcut:
        raise WeightsError(
            f"weights: {source} is of {dialect.title}, whose first unit adds its input "
            f"before the activation; {spec.name} adds it after: outputs would differ"
        )
    names = names_of(plan, dialect)
    arrays: Arrays = {}
    for layer, wanted in names.items():
        if dialect.facts["conv_bias"] == "keras_v2" and wanted[-1] not in tensors:
            wanted = wanted[:1]  # a bias that is zero
        if all(name in tensors for name in wanted):
            arrays[layer] = [_to_keras(tensors[name]) for name in wanted]
    if HEAD in arrays:  # which ResNetV2 writes as a 1x1 convolution
        kernel, *bias = arrays[HEAD]
        arrays[HEAD] = [kernel.reshape(kernel.shape[-2:]), *bias]
    if dialect.facts["conv_bias"] == "keras_v2":
        for layer, shapes in shapes_of(plan).items():
            if layer in arrays and len(arrays[layer]) == len(shapes) - 1:
                arrays[layer].append(np.zeros(shapes[-1], "float32"))
    if dialect.centered:
        _permute(arrays, plan, _centered_order(plan))
    known = {name for wanted in names.values() for name in wanted}
    return arrays, sorted(set(tensors) - known)


def to_torch(arrays: Arrays, spec: ResNetSpec, dialect: Dialect) -> dict[str, Any]:
    """The inverse of `from_torch`.

    Raises:
        WeightsError: a network that the dialect can't express.
    """
    if dialect.facts["conv_bias"] != "none":
        raise WeightsError(f"dialect: {dialect.title} can be read, not written")
    check_facts(spec, dialect, f"a state dict of {spec.name}")
    plan = make_plan(spec)
    names = names_of(plan, dialect)
    lacking = sorted(set(arrays) - set(names))
    if lacking:
        raise WeightsError(
            f"weights: {dialect.title} has no place for {lacking[0]} of {spec.name}"
        )
    if dialect.centered:
        arrays = {layer: list(values) for layer, values in arrays.items()}
        order = [np.argsort(places) for places in _centered_order(plan)]
        _permute(arrays, plan, order)
    tensors: dict[str, Any] = {}
    for layer, values in arrays.items():
        for name, value in zip(names[layer], values, strict=False):
            tensors[name] = _to_torch(value)
        if len(values) == 4:  # torch counts batches, and uses the number nowhere
            prefix = names[layer][0].rsplit(".", 1)[0]
            tensors[f"{prefix}.num_batches_tracked"] = np.zeros((), np.int64)
    return tensors


def _to_keras(tensor: np.ndarray) -> np.ndarray:
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T


def _to_torch(array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T


def _centered_order(plan: Plan) -> list[np.ndarray]:
    """For each stage, where our channels of the trunk are among the dialect's.

    Its shortcut puts half of the new channels before the data's, ours puts all behind:
    the same network, with its channels in another order.
    """
    orders = [np.arange(channels_of(plan.units[0].in_shape))]
    for unit in plan.units:
        before, after = len(orders[-1]), channels_of(unit.shape)
        if unit.stage == len(orders):  # the first unit of its stage
            front = (after - before) // 2
            new = [*range(front), *range(front + before, after)]
            orders.append(np.concatenate([orders[-1] + front, new]).astype(int))
    return orders


def _permute(arrays: Arrays, plan: Plan, orders: Sequence[np.ndarray]) -> None:
    """Takes the trunk's channels in another order, in all layers that see them."""

    def take(layer: str, axis: int, order: np.ndarray) -> None:
        if layer in arrays:
            arrays[layer] = [
                _taken(value, order, axis if value.ndim > 1 else 0)
                for value in arrays[layer]
            ]

    for unit in plan.units:
        first = unit is plan.units[0] or unit.in_shape != unit.shape
        convs = [op for op in unit.residual if isinstance(op, Conv)]
        norms = [op for op in unit.residual if isinstance(op, Norm)]
        came = orders[unit.stage - 1] if first else orders[unit.stage]
        take(convs[0].name, -2, came)
        take(convs[-1].name, -1, orders[unit.stage])
        take(norms[-1].name, -1, orders[unit.stage])
    if HEAD in arrays:
        kernel, bias = arrays[HEAD]
        arrays[HEAD] = [_taken(kernel, orders[-1], 0), bias]


def _taken(value: np.ndarray, order: np.ndarray, axis: int) -> np.ndarray:
    """Another network's stay as they are, and are refused for their shape."""
    return value.take(order, axis) if value.shape[axis] == len(order) else value
