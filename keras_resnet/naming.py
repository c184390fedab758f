"""Names of networks that are no longer what their name says. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator

from keras_resnet.plan import make_plan
from keras_resnet.presets import PRESETS
from keras_resnet.spec import ResNetSpec


def renamed(spec: ResNetSpec, base: ResNetSpec | None = None) -> ResNetSpec:
    """The spec, whose name tells what of its shape is not its namesake's.

    `cifar_resnet20` with other depths is `cifar_resnet20_depth32`. A name of its own
    stays, as do those of networks that differ in what isn't their shape.

    Args:
        spec: a network.
        base: what it was made of; the preset of its name if None.
    """
    if base is None and spec.name in PRESETS:
        base = PRESETS[spec.name].spec
    if base is None or spec.name != base.name:
        return spec
    return spec.replace(name="_".join([spec.name, *_differences(spec, base)]))


def _differences(spec: ResNetSpec, base: ResNetSpec) -> Iterator[str]:
    """What of the shape differs, as parts of a name."""
    for field in ("block", "order", "stem", "merge", "shortcut"):
        if getattr(spec, field) != getattr(base, field):
            yield getattr(spec, field)
    if (spec.block, spec.depths) != (base.block, base.depths):
        small = {"input_shape": (224, 224, 3)} if len(spec.input_shape) == 3 else {}
        yield f"depth{make_plan(spec.replace(**small)).depth}"
    outer, before = _outer(spec), _outer(base)
    if outer != before and spec.widths == base.widths:
        yield f"k{spec.k:g}".replace(".", "_")
    elif outer != before:
        yield f"width{outer[0]}"
    groups = (spec.cardinality, spec.group_width)
    if groups != (base.cardinality, base.group_width):
        yield f"{spec.cardinality}x{spec.inner_width(0) // spec.cardinality}d"


def _outer(spec: ResNetSpec) -> list[int]:
    return [spec.outer_width(stage) for stage in range(len(spec.widths))]
