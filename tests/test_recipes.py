from __future__ import annotations

import json

import numpy as np
import pytest

from keras_resnet import SpecError, build, cifar_resnet
from keras_resnet.data import Augment
from keras_resnet.errors import UserError
from keras_resnet.training import RECIPES, Recipe, RecipeError, get_recipe

DIGITS = get_recipe("digits")


@pytest.mark.parametrize("name", RECIPES)
def test_json_round_trip(name):
    recipe = RECIPES[name]
    assert recipe.source
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    assert list(json.loads(text)) == sorted(json.loads(text))


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
        ({"momentum": 1}, "recipe: momentum: 1 "),
        ({"augment": {"pad": -1}}, "recipe: augment: .* is not"),
        ({"augment": {"pat": 1}}, "recipe: augment: pat: not a field; the fields are"),
        ({"augment": 3}, "recipe: augment: 3 is not an object"),
        ({"lr": 0.1}, "recipe: lr: not a field; the fields are name, model, "),
        ({"schema": 7}, "recipe: schema is not 1"),
        ({"name": None}, "recipe: name: None"),
    ],
)
def test_wrong_fields_are_named(changes, message):
    fields = json.loads(DIGITS.to_json()) | changes
    with pytest.raises(RecipeError, match=message) as error:
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


def test_unknown_recipe():
    with pytest.raises(RecipeError, match="recipe: 'digit' is not one of 'digits'"):
        get_recipe("digit")


def rates(recipe, model, steps):
    schedule = recipe.compile_args(model, steps)["optimizer"]._learning_rate
    return np.array([float(schedule(step)) for step in range(recipe.epochs * steps)])


def test_cosine_with_warm_up(tiny_spec):
    recipe = DIGITS.replace(epochs=10, warmup_epochs=2, learning_rate=0.4)
    values = rates(recipe, build(tiny_spec), 5)
    np.testing.assert_allclose(values[:10], 0.4 * np.arange(10) / 10, atol=1e-7)
    decay = 0.2 * (1 + np.cos(np.pi * np.arange(40) / 40))
    np.testing.assert_allclose(values[10:], decay, atol=1e-6)


def test_steps_drop_at_their_step(tiny_spec):
    recipe = DIGITS.replace(
        epochs=8,
        schedule="steps",
        drops=(0.5, 0.75),
        learning_rate=1.0,
        warmup_epochs=0,
    )
    values = rates(recipe, build(tiny_spec), 10)
    expected = [1.0] * 40 + [0.1] * 20 + [0.01] * 20
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_constant(tiny_spec):
    recipe = DIGITS.replace(schedule="constant", learning_rate=0.3, warmup_epochs=0)
    optimizer = recipe.compile_args(build(tiny_spec), 5)["optimizer"]
    assert float(optimizer.learning_rate) == pytest.approx(0.3)
    assert (optimizer.l2, optimizer.weight_decay) == (recipe.l2, None)


def test_a_model_that_ends_in_a_softmax_is_refused(tiny_spec):
    model = build(tiny_spec, classifier_activation="softmax")
    with pytest.raises(RecipeError, match="model: ends in a softmax; build it with"):
        DIGITS.compile_args(model, 5)
    for changes, message in (
        ({"classifier_activation": "sigmoid"}, "neither logits nor a softmax"),
        ({"include_top": False}, "is no classifier"),
    ):
        with pytest.raises(UserError, match=message):
            DIGITS.compile_args(build(tiny_spec, **changes), 5)


def test_other_lengths_keep_the_share_of_the_warm_up():
    assert DIGITS.over(50).warmup_epochs == 2 * DIGITS.warmup_epochs
    assert DIGITS.over(1).epochs == 1


def test_augment_is_data():
    assert DIGITS.replace(augment=Augment(pad=2)).augment.pad == 2


def test_steps_warm_up_too():
    recipe = DIGITS.replace(
        epochs=10, schedule="steps", drops=(0.5,), learning_rate=0.4, warmup_epochs=2
    )
    schedule = recipe._learning_rates(steps=10)
    rates = [float(schedule(step)) for step in (0, 10, 20, 49, 50)]
    np.testing.assert_allclose(rates, [0.0, 0.2, 0.4, 0.4, 0.04], rtol=1e-6)
