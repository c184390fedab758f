from __future__ import annotations

from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from keras_resnet import PRESETS, analysis, get_spec, make_plan
from keras_resnet.cli import main

SVG = "{http://www.w3.org/2000/svg}"


def texts(name: str) -> list[str]:
    drawn = ElementTree.fromstring(analysis.draw_plan(make_plan(get_spec(name))))
    width, height = float(drawn.get("width")), float(drawn.get("height"))
    for box in drawn.iter(f"{SVG}rect"):
        if box.get("x"):
            assert 0 <= float(box.get("x")) <= width - float(box.get("width"))
            assert 0 <= float(box.get("y")) <= height - float(box.get("height"))
    return [text.text or "" for text in drawn.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet50", ["7x7 conv, 64 /2", "1x1 conv, 2048", "x + F(x)", "identity"]),
        ("cifar_resnet20", ["every second pixel", "16 zero channels", "dense, 10"]),
        ("cifar_highway20", ["(1 - g) x + g F(x), g = sigmoid(W x + b)"]),
        ("resnext50_32x4d", ["3x3 conv, 128, 32 groups"]),
        ("resnet50_d", ["2x2 average pool /2"]),
        ("cifar_resnet1202", ["... 196 more units ..."]),
        ("cifar_resnet110_sd", ["kept with p = 0.991"]),
        ("dense_resnet8", ["dense, 64"]),
    ],
)
def test_what_is_drawn(name, words):
    found = texts(name)
    assert set(words) <= set(found)


def test_every_preset_is_drawn_with_all_its_layers():
    for name, preset in PRESETS.items():
        found = texts(name)
        assert found[0].startswith(name)
        assert ("identity" in found) == (preset.spec.merge != "none")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("resnet18", {"identity", "changes the shape"}),
        ("dense_resnet8", {"identity"}),
        ("plain18", set()),
    ],
)
def test_the_legend_has_the_arcs_that_there_are(name, kinds):
    legend = {text for text in texts(name) if text.startswith("shortcut: ")}
    assert legend == {f"shortcut: {kind}" for kind in kinds}


def test_command(workplace):
    done = CliRunner().invoke(main, ["show", "resnet18", "--diagram", "net.svg"])
    assert done.exit_code == 0, done.output
    assert (workplace / "net.svg").read_text().startswith("<svg ")
    for file, message in (("net.svg", "exists"), ("net.png", "is no .svg file")):
        done = CliRunner().invoke(main, ["show", "resnet18", "--diagram", file])
        assert (done.exit_code, message in done.output) == (2, True)
