from __future__ import annotations

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_resnet import build, data
from keras_resnet.cli import main
from keras_resnet.training import get_recipe
from keras_resnet.training.rate_range import range_test
from keras_resnet.training.resume import TrainingError

RECIPE = get_recipe("digits")


def test_the_loss_falls_and_rises_over_the_range(tiny_spec):
    splits = data.load("digits", batch_size=32)
    keras.utils.set_random_seed(0)
    model = build(tiny_spec, pixel_stats=splits.pixel_stats)
    found = range_test(model, RECIPE, splits, steps=60)
    growth = np.diff(np.log(found.rates))
    np.testing.assert_allclose(growth, np.log(1e6) / 59, rtol=1e-4)
    assert found.rates[0] == pytest.approx(1e-5)
    assert 1e-3 < found.suggestion < 1
    least = int(np.argmin(found.losses))
    assert found.rates.index(found.suggestion) < least
    assert found.losses[least] < found.losses[0] - 0.2


def test_a_loss_that_is_no_number_is_a_line(tiny_spec):
    splits = data.load("digits", batch_size=32)
    model = build(tiny_spec, pixel_stats=splits.pixel_stats)
    with pytest.raises(TrainingError, match="rate: the loss is no number"):
        range_test(model, RECIPE, splits, low=1e30, high=1e35, steps=20)


def test_the_command_draws_and_suggests(tmp_path):
    out = tmp_path / "rate.png"
    arguments = ["rate", "--steps", "20", "--out", str(out)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert "no proof" in done.output
    assert out.stat().st_size > 5000
    wrong = CliRunner().invoke(main, ["rate", "--low", "2", "--high", "1"])
    assert (wrong.exit_code, wrong.output) == (
        2, "Error: low: 2 is not below --high, 1\n",
    )  # fmt: skip
