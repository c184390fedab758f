from __future__ import annotations

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from keras_resnet import (
    PRESETS,
    SpecError,
    build,
    cifar_resnet,
    estimate_cost,
    get_spec,
    make_plan,
)
from keras_resnet.data import Augment
from keras_resnet.errors import RunFolderError, UserError
from keras_resnet.limits import is_clean
from keras_resnet.recipes import ROWS
from keras_resnet.run import Run
from keras_resnet.training import RECIPES, Recipe, RecipeError, get_recipe
from keras_resnet.training.compile import compile_args
from keras_resnet.training.schedules import learning_rates

DIGITS = get_recipe("digits")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_the_table_come_back_from_json(name):
    recipe = RECIPES[name]
    assert recipe.source
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    assert list(json.loads(text)) == sorted(json.loads(text))


shares = st.floats(0, 0.99)


@st.composite
def recipes(draw):
    """Any valid recipe."""
    epochs = draw(st.integers(1, 500))
    optimizer = draw(st.sampled_from(["sgd", "lamb", "adamw"]))
    schedule = draw(st.sampled_from(["constant", "cosine", "steps", "plateau"]))
    drops = st.sets(st.floats(0.01, 0.99), min_size=1, max_size=4).map(sorted)
    warm = draw(st.booleans()) and schedule != "plateau" and epochs > 1
    size = draw(st.none() | st.integers(8, 512))
    names = st.text(st.characters(exclude_characters="/"), min_size=1)
    return Recipe(
        name=draw(names.filter(is_clean)),
        model=get_spec(draw(st.sampled_from(sorted(PRESETS)))),
        epochs=epochs,
        batch_size=draw(st.integers(1, 8192)),
        image_size=size,
        test_size=draw(st.none() | st.integers(8, 512)) if size else None,
        learning_rate=draw(st.floats(1e-6, 10)),
        schedule=schedule,
        drops=tuple(draw(drops)) if schedule == "steps" else (),
        drop=draw(shares),
        warmup_epochs=draw(st.floats(0, epochs / 2)) if warm else 0.0,
        warmup_start=draw(st.floats(0.01, 0.99)),
        warmup=draw(_kinds),
        optimizer=optimizer,
        l2=draw(shares) if optimizer == "sgd" else 0.0,
        weight_decay=draw(shares),
        nesterov=draw(st.booleans()),
        freeze=draw(st.sampled_from([None, "all", "conv2"])),
        batch_norm=draw(st.sampled_from(["follow", "frozen", "train"])),
        ema=draw(shares),
        loss=draw(st.sampled_from(["cross_entropy", "binary"])),
        augment=Augment(
            flip=draw(st.booleans()),
            resize=draw(st.none() | st.just((256, 480))),
            mixup=draw(shares),
        ),
        source=draw(st.text()),
    )


_kinds = st.sampled_from(["linear", "constant"])


@given(recipes())
def test_any_recipe_comes_back_from_json(recipe):
    assert Recipe.from_json(recipe.to_json()) == recipe


@given(recipes())
def test_any_recipe_shrinks_to_a_valid_one(recipe):
    before = recipe.to_json()
    small = recipe.smoke()
    assert recipe.to_json() == before
    assert small.smoke() == small
    assert small.epochs <= 2
    assert small.batch_size <= 32
    assert max(small.image_size or 0, small.test_size or 0) <= 64
    model, small_model = recipe.model, small.model
    assert small_model.block == model.block
    assert small_model.order == model.order
    assert len(small_model.depths) == len(model.depths)
    assert make_plan(small_model)


@pytest.mark.parametrize("name", RECIPES)
def test_smoke_makes_networks_of_a_laptops_size(name):
    small = RECIPES[name].smoke()
    size = small.image_size or min(small.model.input_shape[0], 32)
    spec = small.model.replace(input_shape=(size, size, small.model.input_shape[2]))
    # Twice ResNet-20 on CIFAR, which makes some 600 images a second on 2 cores.
    assert estimate_cost(spec).macs < 2 * 41e6


def test_json_may_name_a_preset():
    recipe = Recipe.from_json('{"name": "a", "model": "cifar_resnet20", "epochs": 1}')
    assert recipe.model == cifar_resnet(20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "recipe: epochs: 0 is not a positive integer"),
        ({"epochs": True}, "recipe: epochs: True"),
        ({"learning_rate": "fast"}, "recipe: learning_rate: 'fast' is not a positive"),
        ({"schedule": "cosinus"}, "recipe: schedule: 'cosinus' is not one of 'const"),
        ({"drops": [0.5, 0.2]}, "recipe: drops: .* increasing fractions"),
        ({"drops": [0.5]}, r"recipe: drops: \[0\.5\] with schedule 'cosine'"),
        ({"schedule": "steps"}, r"recipe: drops: \[\] with schedule 'steps'"),
        ({"warmup_epochs": 40}, "fewer than the 25 epochs"),
        ({"warmup": "constant"}, "warmup_start: 0 with warmup 'constant'"),
        (
            {"warmup": "constant", "schedule": "constant"},
            "warmup_start: 0 with warmup 'constant', which would not train",
        ),
        ({"schedule": "plateau"}, "warmup_epochs: 2 with schedule 'plateau'"),
        ({"patience": 0}, "recipe: patience: 0 is not a positive"),
        ({"optimizer": "adam"}, "'adam' is not one of 'sgd', 'lamb', 'adamw'"),
        ({"optimizer": "lamb"}, "l2: 0.001 with optimizer 'lamb', which takes weight_"),
        ({"momentum": 1}, "recipe: momentum: 1 "),
        ({"ema": 1.0}, "recipe: ema: 1.0 is not a number from 0 to below 1"),
        ({"label_smoothing": -0.1}, "recipe: label_smoothing: -0.1"),
        ({"clip_norm": None}, "recipe: clip_norm: None is not a number"),
        ({"loss": "mse"}, "recipe: loss: 'mse' is not one of"),
        ({"freeze": "stem"}, "recipe: freeze: 'stem' is not a stage, such as 'conv4'"),
        ({"batch_norm": "off"}, "recipe: batch_norm: 'off' is not one of 'follow'"),
        ({"stage_decay": 0}, "recipe: stage_decay: 0 is not a number above 0"),
        (
            {"stage_decay": 0.5, "l2": 0, "optimizer": "adamw"},
            "recipe: stage_decay: 0.5 with adamw, for which Keras",
        ),
        (
            {"stage_decay": 0.5, "weight_decay": 0.1},
            "recipe: stage_decay: 0.5 with weight_decay, for which",
        ),
        ({"steps_per_execution": 0}, "recipe: steps_per_execution: 0"),
        ({"image_size": 0}, "recipe: image_size: 0 is not a number of pixels"),
        ({"test_size": 224}, "recipe: test_size: 224 without image_size"),
        ({"augment": {"pad": -1}}, "augment: pad: -1 is not"),
        ({"augment": {"pat": 1}}, "augment: pat: not a field; the fields are"),
        ({"augment": 3}, "augment: 3 is not a JSON object"),
        ({"lr": 0.1}, "recipe: lr: not a field; the fields are name, model, "),
        ({"schema": 7}, "recipe: schema: 7 is not 1"),
        ({"name": None}, "recipe: name: None"),
    ],
)
def test_wrong_fields_are_named(changes, message):
    fields = json.loads(DIGITS.to_json()) | changes
    with pytest.raises(UserError, match=message) as error:
        Recipe.from_json(json.dumps(fields))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("{", RecipeError, "recipe: not JSON"),
        ("3", RecipeError, "recipe: 3 is not a JSON object"),
        ('{"name": "a"}', RecipeError, "recipe: epochs, model: missing"),
        ('{"name": "a", "epochs": 1, "model": "resnet51"}', SpecError, "closest"),
    ],
)
def test_wrong_json(text, kind, message):
    with pytest.raises(kind, match=message):
        Recipe.from_json(text)


def test_a_run_without_its_recipe_is_a_line(tmp_path):
    (tmp_path / "recipe.json").write_text(DIGITS.to_json())
    assert Run(tmp_path).recipe == DIGITS
    (tmp_path / "recipe.json").write_bytes(b"\xff")
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunFolderError, match="run: can't read") as error:
            _ = Run(folder).recipe
        assert "\n" not in str(error.value)


def test_unknown_recipe():
    with pytest.raises(RecipeError, match="recipe: 'digit' is not one of 'digits'"):
        get_recipe("digit")


def test_the_committed_result_is_of_this_recipe():
    """Of the README; what was measured with it depends on every field."""
    fields = dataclasses.asdict(DIGITS) | {"model": None, "augment": None}
    assert DIGITS.augment == Augment(pad=1)
    changed = {
        field.name: fields[field.name]
        for field in dataclasses.fields(Recipe)
        if fields[field.name] not in (field.default, None)
    }
    changed.pop("source")
    assert changed == {
        "name": "digits", "epochs": 25, "batch_size": 32, "warmup_epochs": 2,
        "nesterov": True, "l2": 1e-3,
    }  # fmt: skip


# Recipe, steps an epoch, step -> learning rate. 352 steps are 45,000 images of CIFAR-10
# in batches of 128; ImageNet has 1,281,167 images.
RATES = [
    (
        "he2015_cifar",
        352,
        {0: 0.1, 32_031: 0.1, 32_032: 0.01, 48_047: 0.01, 48_048: 1e-3, 64_000: 1e-3},
    ),
    ("he2015_cifar110", 352, {0: 0.01, 399: 0.01, 400: 0.1, 32_032: 0.01}),
    ("he2016_cifar164", 352, {399: 0.01, 400: 0.1, 48_048: 1e-3}),
    ("he2016_cifar1001", 352, {399: 0.01, 400: 0.1, 48_048: 1e-3}),
    ("huang2016_cifar110", 352, {0: 0.1, 250 * 352: 0.01, 375 * 352: 1e-3}),
    *(
        (
            f"zagoruyko2016_cifar{dropout}",
            352,
            {0: 0.1, 21_119: 0.1, 60 * 352: 0.02, 120 * 352: 4e-3, 160 * 352: 8e-4},
        )
        for dropout in ("", "_dropout")
    ),
    ("xie2016_cifar", 352, {0: 0.1, 147 * 352: 0.01, 222 * 352: 1e-3}),
    ("xie2016_imagenet", 5005, {0: 0.1, 30 * 5005: 0.01, 90 * 5005: 1e-4}),
    ("he2015_imagenet", 5005, {0: 0.1, 600_000: 0.1}),  # without a plateau
    (
        "goyal2017_imagenet",
        157,
        {
            0: 0.1,
            157: 0.72,
            785: 3.2,
            30 * 157: 0.32,
            60 * 157: 0.032,
            80 * 157: 3.2e-3,
        },
    ),
    (
        "bag_of_tricks",
        1252,
        {0: 0.0, 2 * 1252: 0.16, 5 * 1252: 0.4, 128_330: 0.2, 200 * 1252: 0.0},
    ),
    ("wightman2021_a3", 626, {0: 8e-7, 5 * 626: 8e-3, 32_865: 4e-3, 100 * 626: 0.0}),
]


@pytest.mark.parametrize(("name", "steps", "expected"), RATES)
def test_learning_rates_of_the_papers(name, steps, expected):
    rates = learning_rates(get_recipe(name), steps)
    values = {s: float(rates(s)) if callable(rates) else rates for s in expected}
    for step, rate in expected.items():
        assert values[step] == pytest.approx(rate, rel=1e-5, abs=1e-7), step


def test_every_paper_has_its_rates_checked():
    clothes = {f"fashion_mnist{which}" for which in ("", "_fast", "_full")}
    ours = {"digits", *clothes, "folder", "finetune"}
    assert {name for name, _, _ in RATES} == set(RECIPES) - ours


def test_cosine_with_warm_up():
    recipe = DIGITS.replace(epochs=10, warmup_epochs=2, learning_rate=0.4)
    schedule = learning_rates(recipe, 5)
    values = np.array([float(schedule(step)) for step in range(50)])
    np.testing.assert_allclose(values[:10], 0.4 * np.arange(10) / 10, atol=1e-7)
    decay = 0.2 * (1 + np.cos(np.pi * np.arange(40) / 40))
    np.testing.assert_allclose(values[10:], decay, atol=1e-6)


def test_cosine_after_a_constant_warm_up():
    recipe = DIGITS.replace(
        epochs=10,
        warmup_epochs=2,
        learning_rate=0.4,
        warmup="constant",
        warmup_start=0.1,
    )
    schedule = learning_rates(recipe, 5)
    rates = [float(schedule(step)) for step in (0, 9, 10, 30, 50)]
    np.testing.assert_allclose(rates, [0.04, 0.04, 0.4, 0.2, 0.0], atol=1e-6)


def test_steps_warm_up_too():
    recipe = DIGITS.replace(
        epochs=10, schedule="steps", drops=(0.5,), learning_rate=0.4, warmup_epochs=2
    )
    schedule = learning_rates(recipe, 10)
    rates = [float(schedule(step)) for step in (0, 10, 20, 49, 50)]
    np.testing.assert_allclose(rates, [0.0, 0.2, 0.4, 0.4, 0.04], rtol=1e-6)


def test_the_optimizer_has_the_recipes_numbers(tiny_spec):
    model = build(tiny_spec)
    recipe = DIGITS.replace(
        schedule="constant", learning_rate=0.3, warmup_epochs=0, clip_norm=2.0
    )
    args = recipe.compile_args(model, 5)
    optimizer = args["optimizer"]
    assert float(optimizer.learning_rate) == pytest.approx(0.3)
    assert (optimizer.l2, optimizer.weight_decay) == (recipe.l2, None)
    assert (optimizer.nesterov, optimizer.global_clipnorm) == (True, 2.0)
    assert args["steps_per_execution"] == 1
    args = recipe.replace(steps_per_execution=7).compile_args(model, 5)
    model.compile(**args)
    assert model.steps_per_execution == 7


def test_classes_are_weighed_by_their_training_images(tiny_spec):
    model, recipe = build(tiny_spec, classes=3), DIGITS.replace(class_weight="balanced")
    loss = recipe.compile_args(model, 5, class_counts=(60, 30, 10))["loss"]
    assert loss.class_weight == pytest.approx((100 / 180, 100 / 90, 100 / 30))
    with pytest.raises(RecipeError, match="class_weight: 'balanced' needs the"):
        recipe.compile_args(model, 5)


@pytest.mark.parametrize("name", ["sgd", "lamb", "adamw"])
@pytest.mark.parametrize("on_vectors", [True, False])
def test_decoupled_decay(tiny_spec, name, on_vectors):
    """Without gradients, a step only decays: w -= rate * decay * w."""
    model = build(tiny_spec)
    recipe = DIGITS.replace(
        optimizer=name, l2=0.0, weight_decay=0.5, l2_on_vectors=on_vectors,
        learning_rate=0.1, schedule="constant", warmup_epochs=0,
    )  # fmt: skip
    optimizer = recipe.compile_args(model, 5)["optimizer"]
    before = [v.numpy() for v in model.trainable_variables]
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        decays = on_vectors or len(variable.shape) > 1
        np.testing.assert_allclose(variable, old * (0.95 if decays else 1), rtol=1e-6)


def test_mixed_labels_train_and_classes_validate(tiny_spec):
    recipe = DIGITS.replace(
        augment=Augment(cutmix=1.0), label_smoothing=0.1, steps_per_execution=3
    )
    model = build(tiny_spec)
    model.compile(**recipe.compile_args(model, 5))
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 8, 8, 1)).astype("uint8")
    shares = random.dirichlet(np.ones(10), 40).astype("float32")
    classes = random.integers(0, 10, 40)
    history = model.fit(
        images, shares, batch_size=8, validation_data=(images, classes), verbose=0
    ).history
    logits = model.predict(images, verbose=0)
    assert history["val_accuracy"][0] == pytest.approx(
        np.mean(logits.argmax(-1) == classes)
    )
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name):
    """Two steps of its small form, by its own loss, optimizer and callbacks."""
    recipe = RECIPES[name].smoke()
    size = 8 if name == "digits" else 32
    channels = recipe.model.input_shape[2]
    spec = recipe.model.replace(input_shape=(size, size, channels), classes=10)
    model = build(spec, pixel_stats=((128.0,) * channels, (74.0,) * channels))
    model.compile(**recipe.compile_args(model, 2))
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, size, size, channels)).astype("uint8")
    classes = random.integers(0, 10, 8)
    shares = random.dirichlet(np.ones(10), 8).astype("float32")
    before = model.get_weights()
    history = model.fit(
        images,
        shares if recipe.augment.mixes else classes,
        batch_size=4,
        validation_data=(images, classes),
        verbose=0,
        callbacks=recipe.callbacks(),
    ).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_many_classes_count_five_guesses(tiny_spec):
    model = build(tiny_spec, classes=100)
    names = [
        [getattr(metric, "name", metric) for metric in args["metrics"]]
        for args in (
            DIGITS.compile_args(model, 1),
            DIGITS.replace(augment=Augment(mixup=0.2)).compile_args(model, 1),
            DIGITS.compile_args(build(tiny_spec), 1),
        )
    ]
    assert names == [["accuracy", "top5_accuracy"]] * 2 + [["accuracy"]]


def test_a_model_that_ends_in_a_softmax_is_refused(tiny_spec):
    model = build(tiny_spec, classifier_activation="softmax")
    with pytest.raises(RecipeError, match="model: ends in a softmax; build it with"):
        DIGITS.compile_args(model, 5)
    for changes, message in (
        ({"classifier_activation": "sigmoid"}, "ends in a sigmoid; build it"),
        ({"include_top": False}, "is no classifier"),
    ):
        with pytest.raises(UserError, match=message):
            compile_args(DIGITS, build(tiny_spec, **changes), 5)


def test_other_lengths_keep_the_share_of_the_warm_up():
    assert DIGITS.over(50).warmup_epochs == 2 * DIGITS.warmup_epochs
    assert DIGITS.over(1).epochs == 1


def test_the_papers_forms_of_sgd():
    """Caffe's velocity holds the rate, torch's doesn't; the papers' decay is 1e-4."""
    for name, recipe in RECIPES.items():
        if name.startswith("he201"):
            assert (recipe.rate_in_velocity, recipe.nesterov) == (True, False)
            assert recipe.l2 == 1e-4
        elif name != "digits" and recipe.optimizer == "sgd":
            assert (recipe.rate_in_velocity, recipe.nesterov) == (False, True)
    decays = {name for name, recipe in RECIPES.items() if not recipe.l2_on_vectors}
    assert decays == {
        "folder", "goyal2017_imagenet", "bag_of_tricks", "wightman2021_a3"
    }  # fmt: skip
    for row in ROWS:
        if "he2015" in row.recipe.name:
            assert "1e-4" in row.recipe.source


def test_the_page_has_every_row():
    page = " ".join((ROOT / "docs" / "recipes.md").read_text().split())
    for row in ROWS:
        assert f"`{row.command}`" in page
        assert row.expected in page
        assert row.hardware in page


def test_fields_are_set_by_texts():
    recipe = DIGITS.set(
        [
            "learning_rate=0.2",
            "schedule=steps",
            "class_weight=balanced",
            "drops=[0.5, 0.75]",
            "model.zero_gamma=true",
            "augment.pad=2",
        ]
    )
    assert (recipe.learning_rate, recipe.drops) == (0.2, (0.5, 0.75))
    assert recipe.model == DIGITS.model.replace(zero_gamma=True)
    assert (recipe.class_weight, recipe.augment) == ("balanced", Augment(pad=2))
    other = DIGITS.set(["model=resnet18", "model.survival=0.5"])
    assert other.model == get_spec("resnet18").replace(survival=0.5)
    assert DIGITS.set([]) == DIGITS


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["epochs"], "set: 'epochs' is not FIELD=VALUE"),
        (["data.pad=1"], "set: 'data.pad=1' is not FIELD=VALUE"),
        (["epochs=3", "epochs=4"], "set: epochs is given twice"),
        (["learning_rate=0.1,0.2"], "has several values; set one"),
        (["lr=1"], "lr: not a field; the fields are"),
        (["epochs=many"], "epochs: 'many' is not a positive integer"),
        (["model.depths=[1]"], "depths: 1 stages, but widths has 3"),
        (["class_weight=auto"], "class_weight: 'auto' is not one of 'none', 'bal"),
        (["class_weight=balanced", "sampling=balanced"], "count rare classes twice"),
        (["early_stopping=-1"], "early_stopping: -1 is not a number of epochs"),
    ],
)
def test_wrong_settings_are_named(texts, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        DIGITS.set(texts)
    assert "\n" not in str(error.value)


def test_differences_are_named():
    other = DIGITS.replace(epochs=3, augment=Augment(pad=2)).to_dict()
    assert DIGITS.differences(other) == ["epochs", "augment"]
    assert DIGITS.differences(DIGITS.to_dict()) == []
    del other["epochs"], other["augment"]["pad"]  # of a version that hasn't got them
    assert DIGITS.differences(other) == []


def test_other_epochs_scale_the_warm_up_however_they_are_given():
    recipe = get_recipe("folder").over(100)
    assert recipe.set(["epochs=3"]) == recipe.over(3)
    given = recipe.set(["epochs=3", "warmup_epochs=1"])
    assert (given.epochs, given.warmup_epochs) == (3, 1)
    with pytest.raises(UserError, match="epochs: 'three' is not"):
        recipe.set(["epochs=three"])
