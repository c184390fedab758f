"""What a search varies, and how a sample of it becomes a network and its training.

A `Space` is data. KerasTuner's hyperparameters are declared from it once (`declare`),
and `spec_from_hp` and `recipe_from_hp` only read them. Neither KerasTuner nor
TensorFlow is imported here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from keras_resnet.data.settings import Augment
from keras_resnet.errors import UserError
from keras_resnet.plan import make_plan
from keras_resnet.spec import EXPANSION, MAX_CHANNELS, Order, ResNetSpec, SpecError
from keras_resnet.training.recipes import Recipe

SCHEMA = 1


class SpaceError(UserError):
    """A space that can't be searched; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from low to high.

    Attributes:
        low: the least; where the parameter is an integer, both are.
        high: the greatest, included.
        step: between two; None: 1 for integers, any number for others.
        log: whether they are drawn evenly by their logarithm.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False


Values = tuple[Any, ...] | Range


class Parameter(NamedTuple):
    """What a field of a space may hold."""

    kind: type
    check: Callable[[Any], bool]
    allowed: str
    bottleneck: bool = False  # means something in bottleneck units only


def _within(kind: type, low: float, high: float) -> Parameter:
    noun = "integers" if kind is int else "numbers"
    return Parameter(kind, lambda v: low <= v <= high, f"{noun} from {low:g} to {high}")


def _one_of(names: tuple[str, ...]) -> Parameter:
    return Parameter(str, lambda v: v in names, "one of " + ", ".join(map(repr, names)))


PARAMETERS: dict[str, Parameter] = {
    "block": _one_of(("basic", "bottleneck")),
    "depth": _within(int, 3, 10_000),
    "units": _within(int, 1, 1_000),
    "k": _within(float, 0.01, 64),
    "cardinality": _within(int, 1, 512)._replace(bottleneck=True),
    "group_width": _within(int, 1, 512)._replace(bottleneck=True),
    "order": _one_of(get_args(Order)),
    "survival": _within(float, 0.01, 1),
    "stem": _one_of(("imagenet", "cifar", "deep")),
    "learning_rate": _within(float, 1e-8, 100),
    "l2": _within(float, 0, 1),
    "augment": _within(float, 0, 4),
    "batch_size": _within(int, 1, 65_536),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """What is varied; None leaves the base's own. Choices are tuples.

    Attributes:
        name: of the space.
        block: "basic" or "bottleneck" units; the outer width follows (He 2015: a
            bottleneck's is four times its inner one).
        depth: layers, by the papers' formulas (6n+2, 9n+2 for three stages; He 2015,
            Table 1 for four), or the nearest that they give.
        units: units in every stage; instead of `depth`.
        k: width factor.
        cardinality: groups C of bottlenecks; without `group_width` the inner width
            stays as near as it can.
        group_width: channels d of a group in the first stage.
        order: where batch norm and ReLU stand.
        survival: p_L of stochastic depth.
        stem: "imagenet", "deep" or "cifar"; "cifar" where the image is too small.
        learning_rate: at the recipe's own batch size; it grows with the batch
            (Goyal 2017).
        l2: coupled weight decay.
        augment: strength of the recipe's augmentation: 0 none, 1 its own.
        batch_size: images a step.

    Raises:
        SpaceError: naming the field, its value and what is allowed.
    """

    name: str = "space"
    block: Values | None = None
    depth: Values | None = None
    units: Values | None = None
    k: Values | None = None
    cardinality: Values | None = None
    group_width: Values | None = None
    order: Values | None = None
    survival: Values | None = None
    stem: Values | None = None
    learning_rate: Values | None = None
    l2: Values | None = None
    augment: Values | None = None
    batch_size: Values | None = None

    def __post_init__(self) -> None:
        for field, parameter in PARAMETERS.items():
            values = getattr(self, field)
            if isinstance(values, list):
                values = tuple(values)
            if values is not None:
                object.__setattr__(self, field, _checked(field, parameter, values))
        if not self.searched:
            raise SpaceError(
                f"space: {self.name} is empty; give choices or ranges for some of "
                f"{', '.join(PARAMETERS)}"
            )
        if self.depth is not None and self.units is not None:
            raise SpaceError("space: units: with depth, which says the same; leave one")

    @property
    def searched(self) -> tuple[str, ...]:
        """Fields that are varied."""
        return tuple(f for f in PARAMETERS if getattr(self, f) is not None)

    def replace(self, **changes: Any) -> Space:
        """A copy with some fields changed."""
        _check_keys(changes)
        return dataclasses.replace(self, **changes)

    def blocks(self, base: ResNetSpec) -> tuple[str, ...]:
        """The kinds of units that its samples have."""
        return self.block if isinstance(self.block, tuple) else (base.block,)

    def check(self, recipe: Recipe) -> None:
        """Refuses a space that says nothing of this recipe.

        Raises:
            SpaceError: naming the field.
        """
        spec = recipe.model
        shapes = {"block", "depth", "k", "cardinality", "group_width", "order", "stem"}
        if spec.block == "dense" and shapes & set(self.searched):
            raise SpaceError(
                f"space: {', '.join(sorted(shapes & set(self.searched)))}: the base "
                f"{spec.name} has dense units; search its `units` and training"
            )
        blocks = self.blocks(spec)
        for field in self.searched:
            if PARAMETERS[field].bottleneck and "bottleneck" not in blocks:
                raise SpaceError(
                    f"space: {field}: the base {spec.name} has {spec.block} units, "
                    "which have no groups; let block have 'bottleneck'"
                )
        if self.l2 is not None and recipe.optimizer != "sgd":
            raise SpaceError(f"space: l2: {recipe.optimizer} has none; it is of sgd")

    def to_dict(self) -> dict[str, Any]:
        """The searched fields, name and schema, as JSON types."""
        fields = {field: getattr(self, field) for field in self.searched}
        return {
            "schema": SCHEMA,
            "name": self.name,
            **{
                field: dataclasses.asdict(values)
                if isinstance(values, Range)
                else list(values)
                for field, values in fields.items()
            },
        }

    def to_json(self) -> str:
        """As `to_dict`, sorted."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Space:
        """The inverse of `to_dict`."""
        if not isinstance(fields, Mapping):
            raise SpaceError(f"space: {fields!r} is not a JSON object of fields")
        schema = fields.get("schema", SCHEMA)
        if schema != SCHEMA:
            raise SpaceError(f"space: schema: {schema!r} is not {SCHEMA}")
        fields = {key: value for key, value in fields.items() if key != "schema"}
        _check_keys(fields)
        return cls(**{f: _range(f, v) for f, v in fields.items()})

    @classmethod
    def from_json(cls, text: str) -> Space:
        """The inverse of `to_json`."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpaceError(f"space: not JSON: {error}") from None
        return cls.from_dict(fields)


def _check_keys(fields: Mapping[str, Any]) -> None:
    unknown = sorted(str(key) for key in fields if key not in {"name", *PARAMETERS})
    if unknown:
        raise SpaceError(
            f"space: {', '.join(unknown)}: not a field; the fields are "
            f"{', '.join(PARAMETERS)}"
        )


def _range(field: str, values: Any) -> Any:
    """A range where JSON has an object."""
    if not isinstance(values, Mapping):
        return values
    known = {entry.name for entry in dataclasses.fields(Range)}
    if not {"low", "high"} <= set(values) <= known:
        raise SpaceError(
            f"space: {field}: {dict(values)!r} is not a list of choices or an object "
            "of low, high, step, log"
        )
    return Range(**values)


def _is(kind: type, value: Any) -> bool:
    """Whether a value is of a kind, integers being numbers too."""
    return type(value) is kind or (kind is float and type(value) is int)


def _checked(field: str, parameter: Parameter, values: Any) -> Values:
    """Values of one type, in their order, each once.

    Raises:
        SpaceError: they aren't allowed.
    """
    kind, check, allowed, _ = parameter
    if isinstance(values, Range):
        ends = (values.low, values.high)
        right = kind is not str and all(_is(kind, end) and check(end) for end in ends)
        step = values.step
        right = right and (step is None or (_is(kind, step) and step > 0))
        right = right and type(values.log) is bool and not (values.log and step)
        if not right or values.low > values.high or (values.log and values.low <= 0):
            raise SpaceError(
                f"space: {field}: {values} is not a range of {allowed}, the low end "
                "first (and above 0, without a step, if log)"
            )
        return dataclasses.replace(values, low=kind(ends[0]), high=kind(ends[1]))
    if not isinstance(values, tuple) or not values:
        raise SpaceError(
            f"space: {field}: {values!r} is not a list of choices, or empty"
        )
    for value in values:
        if not _is(kind, value) or not check(value):
            raise SpaceError(f"space: {field}: {value!r} is not {allowed}")
    return tuple(dict.fromkeys(map(kind, values)))


def declare(hp: Any, space: Space) -> None:
    """Tells KerasTuner's hyperparameters of a space.

    What means something in bottleneck units only is in a conditional scope where the
    block is searched.
    """
    for field in space.searched:
        values = getattr(space, field)
        conditions: dict[str, Any] = {}
        if PARAMETERS[field].bottleneck and space.block is not None:
            conditions = {"parent_name": "block", "parent_values": ["bottleneck"]}
        if isinstance(values, tuple):
            hp.Choice(field, list(values), **conditions)
        elif values.low == values.high:
            hp.Choice(field, [values.low], **conditions)
        elif PARAMETERS[field].kind is int:
            sampling = "log" if values.log else "linear"
            step = {} if values.log else {"step": int(values.step or 1)}
            hp.Int(
                field, values.low, values.high, sampling=sampling, **step, **conditions
            )
        else:
            sampling = "log" if values.log else "linear"
            hp.Float(
                field,
                values.low,
                values.high,
                step=values.step,
                sampling=sampling,
                **conditions,
            )


def sample_of(hp: Any, space: Space) -> dict[str, Any]:
    """The values of a space's parameters in KerasTuner's hyperparameters."""
    return {f: hp.values[f] for f in space.searched if f in hp.values}


# He 2015, Table 1 (and 2016, Table 5): units of four stages by the depth in the name.
_FOUR_STAGES = {
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


def spec_from_hp(hp: Any, space: Space, base: ResNetSpec) -> ResNetSpec:
    """The network of a sample: pure, and total over samples of the space.

    What does not go together is taken to the nearest that does: widths are rounded to
    what the units divide, groups of less than a channel get one, options that the order
    of a unit does not allow are left out.

    Args:
        hp: KerasTuner's hyperparameters, or anything with `values`.
        space: what is searched.
        base: gives everything else.
    """
    values = sample_of(hp, space)
    block = values.get("block", base.block)
    changed = block != base.block
    fields: dict[str, Any] = {"block": block}
    if changed:
        fields["kernels"] = None
        if block == "bottleneck" and base.shortcut == "pad":
            fields["shortcut"] = "project"  # as the papers' CIFAR networks
    fields |= _units(values, base, 3 if block == "bottleneck" else 2)
    fields |= _widths(values, base, block)
    fields |= _order(values, base)
    if "survival" in values and base.merge in ("add", "scale"):
        fields["survival"] = values["survival"]
    spec = base.replace(**fields)
    if "stem" not in values:
        return spec
    chosen = spec.replace(stem=values["stem"])
    try:
        make_plan(chosen.replace(depths=(1,) * len(spec.depths)))
    except SpecError:
        return spec.replace(stem="cifar")
    return chosen


def _units(values: Mapping[str, Any], base: ResNetSpec, layers: int) -> dict[str, Any]:
    """Depths by units a stage, or by the papers' formulas."""
    stages = len(base.depths)
    if "units" in values:
        return {"depths": (values["units"],) * stages}
    if "depth" not in values:
        return {}
    depth = values["depth"]
    if stages == 4 and depth in _FOUR_STAGES:
        return {"depths": _FOUR_STAGES[depth]}
    return {"depths": (max(round((depth - 2) / (layers * stages)), 1),) * stages}


def _widths(values: Mapping[str, Any], base: ResNetSpec, block: str) -> dict[str, Any]:
    """Outer widths, k, cardinality and group width, which go together."""
    grouped = block == base.block == "bottleneck"
    cardinality = values.get("cardinality", base.cardinality if grouped else 1)
    group_width = values.get("group_width", base.group_width if grouped else None)
    scale = {"basic": 1.0, "bottleneck": float(EXPANSION)}
    factor = scale[block] / scale[base.block] if block != base.block else 1.0
    outer = [width * factor for width in base.widths]
    chosen = "cardinality" in values and "group_width" not in values
    if chosen and (cardinality > 1 or group_width):
        inner = base.inner_width(0) / base.k if grouped else outer[0] / EXPANSION
        group_width = max(round(inner / cardinality), 1)
    k = values.get("k", base.k)
    multiple = EXPANSION if block == "bottleneck" and not group_width else 1
    if any(width * k % multiple for width in outer):
        # A factor that leaves no whole channels is taken into the widths.
        outer = [max(round(w * k / multiple), 1) * multiple for w in outer]
        group_width = group_width and max(round(group_width * k), 1)
        k = 1
    outer = [min(width, MAX_CHANNELS // multiple * multiple / k) for width in outer]
    if block != "bottleneck":
        cardinality, group_width = 1, None
    elif group_width:
        least, most = min(outer) / outer[0] * k, max(outer) / outer[0] * k
        group_width = min(group_width, int(MAX_CHANNELS / most) // cardinality)
        while int(group_width * least) < 1:
            group_width += 1
    return {
        "widths": tuple(int(width) for width in outer),
        "k": k,
        "cardinality": cardinality,
        "group_width": group_width,
        # Zeros can't be padded to fewer channels than there are.
        "stem_width": min(base.stem_width, int(outer[0] * k))
        if base.shortcut == "pad"
        else base.stem_width,
    }


def _order(values: Mapping[str, Any], base: ResNetSpec) -> dict[str, Any]:
    """The order, and the options that hang on it."""
    order = values.get("order", base.order)
    if order == base.order or (order == "bn_after_add" and base.norm == "none"):
        return {}
    return {
        "order": order,
        "zero_gamma": base.zero_gamma and order in ("post", "relu_only_pre"),
        # Pre-activation networks project as they are (He 2016, appendix).
        "project_norm": order != "pre",
    }


def recipe_from_hp(hp: Any, space: Space, recipe: Recipe) -> Recipe:
    """The recipe of a sample: its network and its training."""
    values = sample_of(hp, space)
    fields: dict[str, Any] = {"model": spec_from_hp(hp, space, recipe.model)}
    batch = values.get("batch_size", recipe.batch_size)
    rate = values.get("learning_rate", recipe.learning_rate)
    fields["batch_size"] = batch
    fields["learning_rate"] = rate * batch / recipe.batch_size
    if "l2" in values:
        fields["l2"] = values["l2"]
    if "augment" in values:
        fields["augment"] = scaled(recipe.augment, values["augment"])
    return recipe.replace(**fields)


def scaled(augment: Augment, strength: float) -> Augment:
    """An augmentation of another strength: 0 none, 1 as it is."""
    if strength == 0:
        return Augment()
    scale = augment.scale
    return dataclasses.replace(
        augment,
        pad=round(augment.pad * strength),
        scale=scale and (max(1 - (1 - scale[0]) * strength, 0.01), scale[1]),
        policy_magnitude=min(augment.policy_magnitude * strength, 1.0),
        color=min(augment.color * strength, 1.0),
        lighting=augment.lighting * strength,
        erase=min(augment.erase * strength, 1.0),
        mixup=augment.mixup * strength,
        cutmix=augment.cutmix * strength,
    )


Stem = Literal["cifar", "imagenet"]

_TRAINING: dict[str, Any] = {
    "learning_rate": Range(0.02, 0.5, log=True),
    "l2": Range(1e-5, 3e-3, log=True),
    "augment": (0.0, 0.5, 1.0),
    "batch_size": (64, 128, 256),
}
_ORDERS: dict[str, Any] = {"order": ("post", "pre"), "survival": (0.5, 0.8, 1.0)}
_CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110)
_IMAGENET_DEPTHS = (26, 50, 101, 152)
_WIDTHS = (1.0, 2.0, 4.0, 8.0, 10.0)
_IMAGENET_WIDTHS = (0.5, 1.0, 1.5, 2.0)
_GROUPS = (1, 2, 4, 8, 16, 32)
_BLOCKS = ("basic", "bottleneck")

# Name -> the space for images of about 32 pixels, and for those of ImageNet's size.
SPACES: dict[str, dict[Stem, Space]] = {
    "depth": {
        "cifar": Space(name="depth", depth=_CIFAR_DEPTHS),
        "imagenet": Space(name="depth", depth=_IMAGENET_DEPTHS),
    },
    "wide": {
        "cifar": Space(name="wide", depth=(10, 16, 22, 28, 40), k=_WIDTHS),
        "imagenet": Space(name="wide", depth=_IMAGENET_DEPTHS, k=_IMAGENET_WIDTHS),
    },
    "resnext": {
        "cifar": Space(
            name="resnext",
            block=("bottleneck",),
            depth=(11, 20, 29),
            cardinality=_GROUPS,
        ),
        "imagenet": Space(
            name="resnext",
            block=("bottleneck",),
            depth=_IMAGENET_DEPTHS,
            cardinality=(1, 2, 4, 8, 32),
        ),
    },
    "all": {
        "cifar": Space(
            name="all",
            block=_BLOCKS,
            depth=_CIFAR_DEPTHS,
            k=_WIDTHS,
            cardinality=_GROUPS,
            **_ORDERS,
            **_TRAINING,
        ),
        "imagenet": Space(
            name="all",
            block=_BLOCKS,
            depth=_IMAGENET_DEPTHS,
            k=_IMAGENET_WIDTHS,
            cardinality=(1, 2, 4, 8, 32),
            stem=("imagenet", "deep"),
            **_ORDERS,
            **_TRAINING,
        ),
    },
}


def get_space(name: str, base: ResNetSpec) -> Space:
    """A ready space for networks with a base's stem.

    Raises:
        SpaceError: no such space.
    """
    if name not in SPACES:
        raise SpaceError(f"space: {name!r} is not one of {', '.join(SPACES)}")
    return SPACES[name]["imagenet" if base.stem in ("imagenet", "deep") else "cifar"]
