"""How networks are trained: the fields of a recipe, their checks, their JSON form.

The recipes themselves are in `recipes`. No TensorFlow at import.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from keras_resnet import records
from keras_resnet.data.augment import Augment, Sampling
from keras_resnet.errors import RecipeError, UserError
from keras_resnet.limits import is_clean
from keras_resnet.naming import renamed
from keras_resnet.plan import STAGE
from keras_resnet.presets import get_spec
from keras_resnet.spec import ResNetSpec
from keras_resnet.tasks import Task

Schedule = Literal["constant", "cosine", "steps", "plateau"]
WarmUpKind = Literal["linear", "constant"]
OptimizerName = Literal["sgd", "lamb", "adamw"]
BatchNormMode = Literal["follow", "frozen", "train"]
LossName = Literal["cross_entropy", "binary"]
ClassWeight = Literal["none", "balanced"]


ALL_STAGES = "all"


_POSITIVE = records.integer(1, allowed="a positive integer")
_SIZE = (lambda value: value is None or _POSITIVE[0](value)), "a number of pixels"
_NUMBER = records.number(0, allowed="a number, not negative")
_BELOW_ONE = records.number(0, 1, below=True)
_FRACTION = records.number(0, 1, above=True, below=True)

_CHECKS: dict[str, records.Check] = {
    "name": (
        lambda value: (
            isinstance(value, str)
            and bool(value)
            and "/" not in value
            and is_clean(value)
        ),
        "a name without '/' and control characters",
    ),
    "model": (lambda value: isinstance(value, ResNetSpec), "a spec"),
    "task": records.choice(Task),
    "epochs": _POSITIVE,
    "batch_size": _POSITIVE,
    "image_size": _SIZE,
    "test_size": _SIZE,
    "learning_rate": records.number(0, above=True, allowed="a positive number"),
    "schedule": records.choice(Schedule),
    "drops": (
        lambda value: (
            isinstance(value, tuple)
            and all(map(_FRACTION[0], value))
            and list(value) == sorted(set(value))
        ),
        "a list of increasing fractions between 0 and 1",
    ),
    "drop": _NUMBER,
    "patience": _POSITIVE,
    "warmup_epochs": _NUMBER,
    "warmup_start": _BELOW_ONE,
    "warmup": records.choice(WarmUpKind),
    "optimizer": records.choice(OptimizerName),
    "momentum": _BELOW_ONE,
    "rate_in_velocity": records.FLAG,
    "nesterov": records.FLAG,
    "l2": _NUMBER,
    "weight_decay": _NUMBER,
    "l2_on_vectors": records.FLAG,
    "clip_norm": _NUMBER,
    "ema": _BELOW_ONE,
    "loss": records.choice(LossName),
    "label_smoothing": _BELOW_ONE,
    "class_weight": records.choice(ClassWeight),
    "sampling": records.choice(Sampling),
    "freeze": (
        lambda value: (
            value is None
            or (
                isinstance(value, str)
                and (value == ALL_STAGES or bool(STAGE.fullmatch(value)))
            )
        ),
        "a stage, such as 'conv4', or 'all'",
    ),
    "batch_norm": records.choice(BatchNormMode),
    "stage_decay": records.number(0, 1, above=True),
    "steps_per_execution": _POSITIVE,
    "early_stopping": records.integer(0, allowed="a number of epochs, or 0"),
    "needs_weights": records.FLAG,
    "augment": (lambda value: isinstance(value, Augment), "an Augment"),
    "source": (lambda value: isinstance(value, str), "a string"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(records.Record):
    """A network and how it is trained; where it runs is an argument of the run.

    Devices, precision and XLA are no fields: a recipe runs anywhere.

    Attributes:
        name: name of the recipe.
        model: the network; its input shape and classes give way to the data's.
        task: what it learns of an image: "classes", one of several; "binary", one of
            two, by one logit; "labels", any of several, each by a sigmoid;
            "regression", one or several numbers. See `tasks.TASKS`.
        epochs: passes over the training images.
        batch_size: images a step, over all devices.
        image_size: side in pixels of the training images; None: as the data has them.
        test_size: side of the images that the network is judged by, where it is
            another one (Wightman 2021: trained at 160, tested at 224).
        learning_rate: the highest.
        schedule: "constant"; "cosine" to zero; "steps": times `drop` at each of
            `drops`; "plateau": times `drop` after `patience` epochs without a lower
            validation error (He 2015, section 3.4), or higher score of the task.
        drops: fractions of the training after which the learning rate drops.
        drop: factor of each drop.
        patience: epochs that a plateau lasts.
        warmup_epochs: epochs of smaller rates at the start; drops count from the start
            of the training, the cosine from the end of the warm-up.
        warmup_start: the first rate, as a share of the highest.
        warmup: "linear" increase (Goyal 2017), or "constant" at the first rate (He
            2015, section 4.2, for ResNet-110).
        optimizer: "sgd", or Keras' "lamb" or "adamw".
        momentum: of SGD.
        rate_in_velocity: whether the learning rate is inside the momentum's velocity
            (Caffe, Keras; He 2015) or outside (torch; the later papers): they differ
            after each drop.
        nesterov: Nesterov's momentum.
        l2: weight decay coupled to the gradient, the papers'; of SGD.
        weight_decay: decoupled, as AdamW and LAMB have it: w -= rate * decay * w.
        l2_on_vectors: whether biases and batch norms' gamma and beta decay too, in
            both ways.
        clip_norm: greatest norm of all gradients together; 0 leaves them.
        ema: decay a step of the exponential moving average of all weights, batch
            norms' statistics too, which is validated, kept as best model and left
            at the end; 0 has none. It is less at first: (1 + step) / (10 + step).
        loss: "cross_entropy" of the softmax, or "binary" cross-entropies of one
            sigmoid a class (Wightman 2021).
        label_smoothing: share of a label spread over all classes.
        class_weight: "balanced": an image's loss counts n / (k * m), of n training
            images in k classes, m of them in its own (scikit-learn's formula; King
            2001). Of mixed images each label counts so; validation's loss does too.
        sampling: "balanced": an epoch has as many images of each class, of a rare
            one several times, of a common one a part that changes; "uniform": each
            image once.
        freeze: the last stage that keeps its weights, such as "conv4"; "all" but the
            head; None freezes none. See `training.freeze`.
        batch_norm: "follow": batch norms are frozen with their stage; "frozen": all
            are; "train": none is.
        stage_decay: factor of the learning rate from a stage to the one before it; the
            head has the whole rate. Of SGD.
        steps_per_execution: steps between two looks at the outside; saves time where
            steps are short.
        early_stopping: epochs in a row without a lower validation loss (of labels: a
            higher mean average precision) after which the training ends; 0: it doesn't.
        needs_weights: whether it is for weights to start from, and refused without.
        augment: random changes of the training images.
        source: paper, section, and what differs from it here.

    Raises:
        UserError: naming the field, its value and what is allowed.
    """

    _kind = "recipe"
    _error = RecipeError
    _checks = _CHECKS
    _prefix = "recipe: "
    _schema = 1

    name: str
    model: ResNetSpec
    epochs: int
    task: Task = "classes"
    batch_size: int = 128
    image_size: int | None = None
    test_size: int | None = None
    learning_rate: float = 0.1
    schedule: Schedule = "cosine"
    drops: tuple[float, ...] = ()
    drop: float = 0.1
    patience: int = 5
    warmup_epochs: float = 0.0
    warmup_start: float = 0.0
    warmup: WarmUpKind = "linear"
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    rate_in_velocity: bool = True
    nesterov: bool = False
    l2: float = 1e-4
    weight_decay: float = 0.0
    l2_on_vectors: bool = True
    clip_norm: float = 0.0
    ema: float = 0.0
    loss: LossName = "cross_entropy"
    label_smoothing: float = 0.0
    class_weight: ClassWeight = "none"
    sampling: Sampling = "uniform"
    freeze: str | None = None
    batch_norm: BatchNormMode = "follow"
    stage_decay: float = 1.0
    steps_per_execution: int = 1
    early_stopping: int = 0
    needs_weights: bool = False
    augment: Augment = dataclasses.field(default_factory=Augment)
    source: str = ""

    def _check_combinations(self) -> None:
        _check_combinations(self)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types; a task only where it isn't of classes.

        So recipes, runs and searches that were written before there were others are
        equal to what is written now.
        """
        fields = super().to_dict()
        if self.task == "classes":
            del fields["task"]
        return fields

    @property
    def freezes(self) -> bool:
        """Whether anything of the network stays as it was."""
        return self.freeze is not None or self.batch_norm == "frozen"

    def set(self, assignments: Sequence[str]) -> Recipe:
        """A copy with some fields changed, each by a text such as "learning_rate=0.1".

        Values are JSON, or words as they are; fields of the network and of the
        augmentation are dotted: "model.zero_gamma=true", "augment.pad=4". With other
        epochs the warm-up keeps its share, unless it is set too.

        Raises:
            UserError: no assignment, a field that there isn't or is set twice, or a
                value that it can't have.
        """
        parts: dict[str, dict[str, Any]] = {"": {}, "model": {}, "augment": {}}
        for text in assignments:
            name, equals, value = text.partition("=")
            part, _, field = name.rpartition(".")
            if not equals or part not in parts:
                raise RecipeError(
                    f"set: {text!r} is not FIELD=VALUE, model.FIELD=VALUE or "
                    "augment.FIELD=VALUE"
                )
            if field in parts[part]:
                raise RecipeError(
                    f"set: {name} is given twice; to try several values: keras-resnet "
                    "tune"
                )
            parts[part][field] = _value(text, value)
        changes = parts.pop("")
        for part, fields in parts.items():
            if part in changes:
                changes[part] = self._from_json(part, changes[part])
            if fields:
                before = changes.get(part, getattr(self, part))
                changes[part] = before.replace(**fields)
                if part == "model":
                    changes[part] = renamed(changes[part], before)
        if type(epochs := changes.get("epochs")) is int and epochs > 0:
            changes = {"warmup_epochs": self.over(epochs).warmup_epochs} | changes
        return self.replace(**changes)

    def differences(self, given: Mapping[str, Any]) -> list[str]:
        """Fields whose values in another recipe's `to_dict` are others.

        Fields that it lacks, of a version without them, are as here. The network is
        what it is by any name.
        """
        found = [] if given.get("task", "classes") == self.task else ["task"]
        for name, value in self.to_dict().items():
            if name in ("source", "task"):
                continue
            other = given.get(name, value)
            if isinstance(value, dict) and isinstance(other, Mapping):
                value = {key: value[key] for key in value if key in other}
                if name == "model":
                    value["name"] = other.get("name")
            if value != other:
                found.append(name)
        return found

    def over(self, epochs: int) -> Recipe:
        """The same over another number of epochs; the warm-up keeps its share."""
        share = self.warmup_epochs / self.epochs
        return self.replace(epochs=epochs, warmup_epochs=share * epochs)

    def smoke(self) -> Recipe:
        """A small network of the same family over two epochs of small images.

        It shows on a laptop that the recipe runs. The learning rate is scaled with
        the batch (Goyal 2017).
        """
        batch = min(self.batch_size, _SMOKE_BATCH)
        size = min(self.image_size or _SMOKE_SIZE, _SMOKE_SIZE)
        changes: dict[str, Any] = {
            "model": _small(self.model),
            "batch_size": batch,
            "learning_rate": self.learning_rate * batch / self.batch_size,
            "steps_per_execution": 1,
            "needs_weights": False,
        }
        if self.image_size:
            changes["image_size"] = size
        if self.test_size:
            changes["test_size"] = min(self.test_size, _SMOKE_SIZE)
        if self.augment.resize:
            least, greatest = self.augment.resize
            lengths = (size, max(size, size * greatest // least))
            changes["augment"] = self.augment.replace(resize=lengths)
        return self.over(min(self.epochs, 2)).replace(**changes)

    @classmethod
    def _from_json(cls, field: str, value: Any) -> Any:
        """As it is; "model" may also be the name of a preset."""
        if field == "model":
            named = isinstance(value, str)
            return get_spec(value) if named else ResNetSpec.from_dict(value)
        return Augment.from_dict(value) if field == "augment" else value

    def compile_args(
        self, model: Any, steps: int, class_counts: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Arguments for `model.compile`; see `training.compile_args`."""
        from keras_resnet import training

        return training.compile_args(self, model, steps, class_counts)

    def callbacks(
        self, folder: Path | str | None = None, data: Any = None, **options: Any
    ) -> list[Any]:
        """Callbacks for `model.fit`; see `training.callbacks_for`."""
        from keras_resnet import training

        return training.callbacks_for(self, folder, data, **options)


def check_weights(recipe: Recipe, weights: object) -> None:
    """Refuses a training that would begin at random where old weights are meant.

    Raises:
        UserError: the recipe is for weights or keeps layers as they were, and there are
            none to start from.
    """
    if weights is not None:
        return
    if recipe.freezes:
        what = recipe.freeze or "batch norms"
        raise UserError(
            f"freeze: {what} would stay as drawn at random; give the weights to start "
            "from (--weights)"
        )
    if recipe.needs_weights:
        raise UserError(
            f"weights: {recipe.name} starts from old ones; name a run folder, a file "
            "or a published name by --weights, or take a recipe for training from "
            "scratch"
        )


def _value(text: str, value: str) -> Any:
    """A value as JSON or, if it is none, a word."""
    try:
        return json.loads(value)
    except ValueError:
        pass
    if "," in value:
        raise RecipeError(
            f"set: {text!r} has several values; set one (a list is [1, 2]), or try "
            "them by keras-resnet tune"
        )
    return {"True": True, "False": False, "None": None}.get(value, value)


SMOKE_STEPS = 50  # of an epoch, where only a trial is wanted
_SMOKE_BATCH = 32
_SMOKE_SIZE = 64


def _small(spec: ResNetSpec) -> ResNetSpec:
    """The same family with one unit a stage and a stem of 16 channels or so."""
    factor = max(spec.stem_width // 16, 1)
    return spec.replace(
        name=spec.name.removesuffix("_smoke") + "_smoke",
        depths=(1,) * len(spec.depths),
        stem_width=spec.stem_width // factor,
        widths=tuple(width // factor for width in spec.widths),
        k=min(spec.k, 2),
        cardinality=min(spec.cardinality, 4),
        group_width=spec.group_width and max(spec.group_width // factor, 4),
    )


def _check_combinations(recipe: Recipe) -> None:
    """Refuses fields that contradict each other or would do nothing."""
    schedule = recipe.schedule
    if bool(recipe.drops) != (schedule == "steps"):
        raise RecipeError(
            f"recipe: drops: {list(recipe.drops)} with schedule {schedule!r}; "
            "'steps' needs them, the others have none"
        )
    if recipe.warmup_epochs >= recipe.epochs:
        raise RecipeError(
            f"recipe: warmup_epochs: {recipe.warmup_epochs:g} are not fewer than the "
            f"{recipe.epochs} epochs"
        )
    if recipe.warmup_epochs and schedule == "plateau":
        raise RecipeError(
            f"recipe: warmup_epochs: {recipe.warmup_epochs:g} with schedule 'plateau', "
            "which has no warm-up; leave one of them out"
        )
    if recipe.warmup_epochs and recipe.warmup == "constant" and not recipe.warmup_start:
        raise RecipeError(
            "recipe: warmup_start: 0 with warmup 'constant', which would not train; a "
            "tenth is usual"
        )
    if recipe.l2 and recipe.optimizer != "sgd":
        raise RecipeError(
            f"recipe: l2: {recipe.l2:g} with optimizer {recipe.optimizer!r}, which "
            "takes weight_decay; set l2 to 0"
        )
    if recipe.stage_decay != 1 and (recipe.optimizer != "sgd" or recipe.weight_decay):
        other = "weight_decay" if recipe.optimizer == "sgd" else recipe.optimizer
        raise RecipeError(
            f"recipe: stage_decay: {recipe.stage_decay:g} with {other}, for which "
            "Keras has one rate for all weights; use 'sgd' with l2"
        )
    if recipe.class_weight == recipe.sampling == "balanced":
        raise RecipeError(
            "recipe: class_weight: 'balanced' with sampling 'balanced', which would "
            "count rare classes twice; leave one of them out"
        )
    _check_task(recipe)
    if recipe.test_size and not recipe.image_size:
        raise RecipeError(
            f"recipe: test_size: {recipe.test_size} without image_size, the training "
            "images' side"
        )


def _check_task(recipe: Recipe) -> None:
    """Refuses what the recipe's task has no use for."""
    if recipe.task == "classes":
        return
    for field in ("class_weight", "sampling"):
        if recipe.task != "binary" and getattr(recipe, field) == "balanced":
            raise RecipeError(
                f"recipe: {field}: 'balanced' with task {recipe.task!r}, whose images "
                "have no one class to be counted; leave it out"
            )
    if recipe.loss != "cross_entropy":
        raise RecipeError(
            f"recipe: loss: {recipe.loss!r} is of task 'classes'; {recipe.task!r} has "
            "a loss of its own, leave it out"
        )
    if recipe.task == "regression" and recipe.label_smoothing:
        raise RecipeError(
            f"recipe: label_smoothing: {recipe.label_smoothing:g} with task "
            "'regression', whose targets are no labels; set it to 0"
        )
    if recipe.task == "regression" and recipe.augment.cutmix:
        raise RecipeError(
            f"recipe: augment.cutmix: {recipe.augment.cutmix:g} with task "
            "'regression': a part of an image has no share of its value; mixup has"
        )
