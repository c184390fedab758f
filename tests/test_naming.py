"""Names of networks that are no longer what their name says."""

from __future__ import annotations

import json

import pytest

from keras_resnet import get_spec
from keras_resnet.naming import renamed
from keras_resnet.recipe import Recipe
from keras_resnet.recipes import get_recipe
from keras_resnet.run import Run


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"depths": (5, 5, 5)}, "cifar_resnet20_depth32"),
        ({"k": 1.5}, "cifar_resnet20_k1_5"),
        ({"k": 2, "depths": (1, 1, 1)}, "cifar_resnet20_depth8_k2"),
        ({"widths": (20, 40, 80)}, "cifar_resnet20_width20"),
        ({"order": "pre", "project_norm": False}, "cifar_resnet20_pre"),
        ({"shortcut": "project"}, "cifar_resnet20_project"),
        ({"survival": 0.5, "classes": 3, "input_shape": (8, 8, 1)}, "cifar_resnet20"),
        ({"name": "mine", "k": 2}, "mine"),
    ],
)
def test_another_shape_has_another_name(changes, name):
    spec = get_spec("cifar_resnet20", **changes)
    assert renamed(spec).name == name
    assert renamed(renamed(spec)) == renamed(spec)


def test_groups_are_named():
    spec = get_spec("cifar_resnext29_8x64d", cardinality=4, group_width=24)
    assert renamed(spec).name == "cifar_resnext29_8x64d_4x24d"


def test_a_field_that_is_set_names_the_network():
    recipe = get_recipe("digits").set(["model.depths=[2, 2, 2]", "model.dropout=0.1"])
    assert recipe.model.name == "digits_resnet8_depth14"
    named = get_recipe("digits").set(["model.depths=[2, 2, 2]", "model.name=mine"])
    assert named.model.name == "mine"


def test_a_run_that_was_begun_under_the_old_name_is_resumed(tmp_path):
    recipe = get_recipe("digits").set(["model.depths=[2, 2, 2]"])
    before = recipe.to_dict()
    before["model"]["name"] = "digits_resnet8"
    (tmp_path / "recipe.json").write_text(json.dumps(before))
    assert Run(tmp_path).open(recipe)
    assert Recipe.from_dict(before).differences(recipe.to_dict()) == []
