"""How networks were trained: a table, and its JSON form. No TensorFlow at import."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from keras_resnet.data.settings import Augment
from keras_resnet.errors import UserError
from keras_resnet.presets import cifar_resnet, get_spec
from keras_resnet.spec import ResNetSpec

SCHEMA = 1
Schedule = Literal["constant", "cosine", "steps"]


class RecipeError(UserError):
    """A recipe that can't be run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network and how it is trained; where it runs is an argument of the run.

    Attributes:
        name: name of the recipe.
        model: the network; its input shape and classes give way to the data's.
        epochs: passes over the training images.
        batch_size: images a step, over all devices.
        learning_rate: the highest.
        schedule: "constant"; "cosine" to zero; "steps": times `drop` at each of
            `drops`.
        drops: fractions of the training after which the learning rate drops.
        drop: factor of each drop.
        warmup_epochs: epochs of linear increase from zero; drops count from the start
            of the training, the cosine from the end of the warm-up.
        momentum: of SGD.
        rate_in_velocity: whether the learning rate is inside the momentum's velocity
            (Caffe, Keras; He 2015) or outside (torch; the later papers): they differ
            after each drop.
        nesterov: Nesterov's momentum.
        l2: coupled weight decay.
        l2_on_vectors: whether biases and batch norms' gamma and beta decay too.
        augment: random changes of the training images.
        source: paper, table and what to expect.
    """

    name: str
    model: ResNetSpec
    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    schedule: Schedule = "cosine"
    drops: tuple[float, ...] = ()
    drop: float = 0.1
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    rate_in_velocity: bool = True
    nesterov: bool = False
    l2: float = 1e-4
    l2_on_vectors: bool = True
    augment: Augment = dataclasses.field(default_factory=Augment)
    source: str = ""

    def __post_init__(self) -> None:
        drops: Any = self.drops
        if isinstance(drops, list):
            object.__setattr__(self, "drops", tuple(drops))
        for field, (check, allowed) in _CHECKS.items():
            value = getattr(self, field)
            if not check(value):
                shown = list(value) if isinstance(value, tuple) else value
                raise RecipeError(f"recipe: {field}: {shown!r} is not {allowed}")
        if bool(self.drops) != (self.schedule == "steps"):
            raise RecipeError(
                f"recipe: drops: {list(self.drops)} with schedule {self.schedule!r}; "
                "'steps' needs them, the others have none"
            )
        if self.warmup_epochs >= self.epochs:
            raise RecipeError(
                f"recipe: warmup_epochs: {self.warmup_epochs:g} are not fewer than the "
                f"{self.epochs} epochs"
            )

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed."""
        _check_keys("recipe", Recipe, changes)
        return dataclasses.replace(self, **changes)

    def over(self, epochs: int) -> Recipe:
        """The same over another number of epochs; the warm-up keeps its share."""
        share = self.warmup_epochs / self.epochs
        return self.replace(epochs=epochs, warmup_epochs=share * epochs)

    def to_json(self) -> str:
        """All fields and the schema, sorted."""
        fields = vars(self) | {
            "model": self.model.to_dict(),
            "augment": vars(self.augment),
            "drops": list(self.drops),
            "schema": SCHEMA,
        }
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of `to_json`; "model" may also be the name of a preset."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"recipe: not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise RecipeError(f"recipe: {fields!r} is not a JSON object of fields")
        if fields.pop("schema", SCHEMA) != SCHEMA:
            raise RecipeError(f"recipe: schema is not {SCHEMA}")
        _check_keys("recipe", cls, fields)
        missing = sorted({"name", "model", "epochs"} - set(fields))
        if missing:
            raise RecipeError(f"recipe: {', '.join(missing)}: missing")
        model = fields["model"]
        fields["model"] = (
            get_spec(model) if isinstance(model, str) else ResNetSpec.from_dict(model)
        )
        if "augment" in fields:
            _check_keys("recipe: augment", Augment, fields["augment"])
            fields["augment"] = Augment(**fields["augment"])
        return cls(**fields)

    def compile_args(self, model: Any, steps: int) -> dict[str, Any]:
        """Arguments for `model.compile`: optimizer, loss on logits, metrics.

        Args:
            model: the model to train; it must put out logits.
            steps: steps an epoch, `Splits.steps`.

        Raises:
            UserError: the model does not put out logits.
        """
        import keras

        from keras_resnet.network import ends_in_softmax
        from keras_resnet.optimizers import SGD

        if ends_in_softmax(model):
            raise RecipeError(
                "model: ends in a softmax; build it with classifier_activation=None, "
                "or compile it yourself"
            )
        return {
            "optimizer": SGD(
                self._learning_rates(steps),
                momentum=self.momentum,
                nesterov=self.nesterov,
                l2=self.l2,
                l2_on_vectors=self.l2_on_vectors,
                rate_in_velocity=self.rate_in_velocity,
            ),
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": ["accuracy"],
        }

    def callbacks(self, folder: Any) -> list[Any]:
        """Callbacks for `model.fit` that keep and continue the run in `folder`."""
        from keras_resnet.training.callbacks import RunState

        return [RunState(Path(folder), self)]

    def _learning_rates(self, steps: int) -> Any:
        """The schedule in steps."""
        from keras import optimizers

        from keras_resnet.optimizers import WarmUp, step_decay

        total, warmup = self.epochs * steps, round(self.warmup_epochs * steps)
        if self.schedule == "cosine":
            return optimizers.schedules.CosineDecay(
                0.0 if warmup else self.learning_rate,
                max(total - warmup, 1),
                warmup_target=self.learning_rate if warmup else None,
                warmup_steps=warmup,
            )
        rates = self.learning_rate
        if self.schedule == "steps":
            drops = [round(drop * total) for drop in self.drops]
            rates = step_decay(self.learning_rate, drops, self.drop)
        return WarmUp(rates, warmup) if warmup else rates


def _positive_int(value: Any) -> bool:
    return type(value) is int and value > 0


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


_CHECKS: dict[str, tuple[Any, str]] = {
    "name": (
        lambda value: isinstance(value, str) and value and "/" not in value,
        "a name without '/'",
    ),
    "model": (lambda value: isinstance(value, ResNetSpec), "a spec"),
    "epochs": (_positive_int, "a positive integer"),
    "batch_size": (_positive_int, "a positive integer"),
    "learning_rate": (lambda value: _number(value) and value > 0, "a positive number"),
    "schedule": (
        lambda value: isinstance(value, str) and value in get_args(Schedule),
        "one of " + ", ".join(map(repr, get_args(Schedule))),
    ),
    "drops": (
        lambda value: (
            isinstance(value, tuple)
            and all(_number(drop) and 0 < drop < 1 for drop in value)
            and list(value) == sorted(set(value))
        ),
        "a list of increasing fractions between 0 and 1",
    ),
    "drop": (_number, "a number, not negative"),
    "warmup_epochs": (_number, "a number, not negative"),
    "momentum": (lambda value: _number(value) and value < 1, "a number from 0 to 1"),
    "rate_in_velocity": (lambda value: type(value) is bool, "true or false"),
    "nesterov": (lambda value: type(value) is bool, "true or false"),
    "l2_on_vectors": (lambda value: type(value) is bool, "true or false"),
    "l2": (_number, "a number, not negative"),
    "augment": (
        lambda value: (
            isinstance(value, Augment)
            and type(value.pad) is int
            and value.pad >= 0
            and type(value.flip) is bool
        ),
        '{"pad": pixels, "flip": true or false}',
    ),
    "source": (lambda value: isinstance(value, str), "a string"),
}


def _check_keys(what: str, kind: Any, fields: Any) -> None:
    allowed = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(fields, Mapping):
        raise RecipeError(
            f"{what}: {fields!r} is not an object of {', '.join(allowed)}"
        )
    unknown = sorted(set(fields) - set(allowed))
    if unknown:
        raise RecipeError(
            f"{what}: {', '.join(unknown)}: not a field; the fields are "
            f"{', '.join(allowed)}"
        )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in [
        Recipe(
            name="digits",
            model=cifar_resnet(
                8,
                name="digits_resnet8",
                input_shape=(8, 8, 1),
                stem_width=32,
                widths=(32, 64, 64),
            ),
            epochs=25,
            batch_size=32,
            learning_rate=0.1,
            warmup_epochs=2,
            nesterov=True,
            l2=1e-3,
            augment=Augment(pad=1),
            source="Ours: ResNet-8 on scikit-learn's digits. No figure of a small "
            "residual network was found for them.",
        ),
    ]
}


def get_recipe(name: str) -> Recipe:
    """A recipe of the table.

    Raises:
        RecipeError: no such recipe.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise RecipeError(
            f"recipe: {name!r} is not one of {', '.join(map(repr, RECIPES))}"
        )
    return RECIPES[name]
