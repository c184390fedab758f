from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT
from servers import served

from keras_resnet import PRESETS, ResNetSpec, cifar_resnet, data, get_spec
from keras_resnet.cli import main, options, output
from keras_resnet.recipes import get_recipe


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_list_shows_every_network():
    result = invoke("list")
    assert result.exit_code == 0
    for name in PRESETS:
        assert f" {name} " in result.output
    assert "25,557,032" in result.output


def test_list_filters_and_writes_json():
    rows = json.loads(invoke("list", "cifar_resnet20", "--json").output)
    assert rows == [
        {
            "name": "cifar_resnet20",
            "depth": 20,
            "params": 269722,
            "total_params": 271098,
            "macs": 40551040,
            "source": "He 2015 (1512.03385) T6",
        }
    ]


def test_a_recipe_by_its_name_is_the_file_that_trains(workplace):
    from keras_resnet.cli.options import recipe_and_data

    Path("mine.json").write_text(invoke("recipes", "he2015_cifar", "--json").output)
    expected = get_recipe("he2015_cifar"), "tfds:cifar10"
    assert recipe_and_data("mine.json", None) == expected
    rows = json.loads(invoke("recipes", "he2015*", "--json").output)
    assert rows[0]["recipe"]["name"] == "he2015_cifar"


@pytest.mark.parametrize("name", ["resnext50_32x4d", "cifar_highway20", "resnet18"])
def test_show_adds_up(name):
    shown = json.loads(invoke("show", name, "--json").output)
    for cost in ("params", "macs"):
        assert sum(part[cost] for part in shown["parts"]) == shown["cost"][cost]
    spec = get_spec(name)
    assert ResNetSpec.from_dict(shown["spec"]) == spec
    assert len(shown["parts"]) == sum(spec.depths) + 2
    text = invoke("show", name).output
    for part in shown["parts"]:
        assert part["name"] in text


def test_show_knows_open_sizes_and_saves_specs(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(cifar_resnet(20, input_shape=(None, None, 3)).to_json())
    assert "?x?x16" in invoke("show", "--spec", path).output
    saved = tmp_path / "saved.json"
    assert invoke("show", "wrn_16_4", "--save-spec", saved).exit_code == 0
    assert ResNetSpec.from_json(saved.read_text()) == get_spec("wrn_16_4")
    again = invoke("show", "wrn_16_4", "--save-spec", saved)
    assert again.exit_code == 2


def test_listing_never_imports_tensorflow():
    code = (
        "import sys; from keras_resnet.cli import main; "
        "main(['show', 'resnet50'], standalone_mode=False); "
        "main(['list'], standalone_mode=False); "
        "print(sorted({'tensorflow', 'keras', 'mlflow', 'sklearn', 'matplotlib', "
        "'keras_tuner', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


FINISHED = ROOT / "tests" / "golden" / "previous" / "finished"
PREVIOUS = FINISHED.parent
SAMPLE = FINISHED / "samples" / "0-is-7.png"
DEAD_STORE = ("--tracking-uri", "http://me:secret@127.0.0.1:1")
RESNET18 = "resnet18-run"  # a run folder whose network is for larger images
EARLY = [
    (["train", "--data", "folder:nowhere"], 2, "folder nowhere doesn't exist"),
    (["train", "--data", "folder:empty"], 2, "empty has 0 folders of images"),
    (["train", "--data", "csv:notes.txt"], 2, "has no column for the path"),
    (["train", "--data", "tfrecord:x*"], 2, "no file fits x*"),
    (["train", "--data", "../nowhere"], 2, "is named by folder:../nowhere"),
    (["train", "--weights", "nowhere"], 2, "nowhere is no file, run folder or"),
    (["train", "--weights", "nowhere.h5"], 2, "file nowhere.h5 doesn't exist"),
    (["train", "--weights", "."], 2, "run: . is not a run folder"),
    (["train", "--model", "resnet50"], 2, "at least 32x32 pixels"),
    (["train", "--image-size", "48x48"], 2, "'48x48' is not one number, the side"),
    (["train", "--register", "a@latest"], 2, "MLflow keeps the aliases latest"),
    (["train", "--no-resume", "--folder", PREVIOUS / "unfinished"], 2, "an unfinished"),
    (["tune", "--space", "wied"], 2, "'wied' is not one of depth, wide"),
    (["tune", "--budget", "5"], 2, "budget: '5' is not a number and a unit"),
    (["tune", "--over", "iso"], 2, "'iso' needs multiply-adds"),
    (["tune", "--over", "repair"], 2, "'repair' makes networks narrower"),
    (["tune", "--folder", FINISHED], 2, "exists and is not a search"),
    (["tune", "--budget", "1kMAC"], 2, "no network of the space wide meets it"),
    (["tune", "--data", "tfds:nowhere"], 2, "neither prepared in TFDS' data folder"),
    (["train", "--data", "tfds:mnist", "--data-dir", "empty"], 2, "prepared in empty"),
    (["rate", "--data", "tfds:mnisty"], 2, "there is mnist"),
    (
        ["train", "--data", "fashion_mnist", "--data-dir", "empty"],
        2,
        "fashion_mnist is not in empty",
    ),
    (
        ["train", "--weights", RESNET18, "--set", "image_size=8"],
        2,
        "at least 32x32 pixels",
    ),
    (["tune", "--trials", 3, "--baseline", 3], 2, "3 of 3 trials would be of the"),
    (["tune", "--data", "folder:nowhere"], 2, "folder nowhere doesn't exist"),
    (["rate", "--out", "rate.xyz"], 2, "rate.xyz is no .png file"),
    (["rate", FINISHED, "--data", "digits"], 2, "has its own; leave one of them out"),
    (["predict", FINISHED, "notes.txt"], 1, "notes.txt"),
    (["predict", "nowhere", "notes.txt"], 2, "nowhere is not a run folder"),
    (["predict", "a.tflite", SAMPLE], 2, "it is damaged, or no .tflite file"),
    (["convert", "nowhere.h5", "a.keras"], 2, "file nowhere.h5 doesn't exist"),
    (["convert", "empty.h5", "a.keras"], 2, "name a preset by --model"),
    (["convert", FINISHED, "a.pth", "--dialect", "tf"], 2, "dialect: 'tf' begins none"),
    (["convert", FINISHED, "a.keras", "--model", "resnet18"], 2, "is not resnet18"),
    (["convert", FINISHED, "a/b/c.pth"], 2, "can't write a/b/c.pth: its folder"),
    (["explain", "nowhere"], 2, "nowhere is not a run folder"),
    (["explain", "a.keras", "--image", SAMPLE], 2, "file a.keras doesn't exist"),
    (["explain", FINISHED, "--image", "notes.txt"], 2, "notes.txt is not an image"),
    (["explain", FINISHED, "--data", "folder:nowhere"], 2, "folder nowhere doesn't"),
    (["explain", FINISHED, "--out", "notes.txt/x"], 2, "to notes.txt/x: notes.txt is"),
    (["evaluate", "nowhere"], 2, "nowhere is not a run folder"),
    (["evaluate", FINISHED, "--data", "folder:nowhere"], 2, "folder nowhere doesn't"),
    (
        ["export", FINISHED, "--to", "notes.txt"],
        2,
        "to notes.txt: notes.txt is a file",
    ),
    (["export", FINISHED, "--to", PREVIOUS / "export", "--version", 1], 2, "exists"),
    (["export", FINISHED, "--force"], 2, "force: says nothing without --quantize"),
    (["export", FINISHED, "--limit", "nan"], 2, "'nan' is not a finite number"),
    (["rate", "--high", "inf"], 2, "'inf' is not a finite number"),
    (["rate", FINISHED, "--data-dir", "x"], 2, "data-dir: "),
    (["tune", "--budget", "1e999MAC"], 2, "'1e999MAC' is not a number and a unit"),
    (["serve", "nowhere"], 2, "nowhere holds no SavedModel"),
    (["serve", PREVIOUS / "export", "--rest-port", 8500], 2, "that of gRPC too"),
    (["publish", PREVIOUS / "export", "--alias", "a b"], 2, "'a b' is not a word"),
    (
        [
            "publish",
            PREVIOUS / "export",
            "--alias",
            "a",
            "--version",
            1,
            "--model",
            "m",
        ],
        2,
        "needs no registry; leave --model",
    ),
    (
        ["publish", PREVIOUS / "export", "--alias", "a", *DEAD_STORE],
        2,
        "in MLflow at http://me:***@127.0.0.1:1",
    ),
    (["client", SAMPLE, "--url", "grpc://localhost"], 2, "ends in no model's name"),
    (
        ["client", SAMPLE, "--url", "grpc://h/x", "--version", 1, "--label", "a"],
        2,
        "give a version or a label, not both",
    ),
    (["client", "no.png", "--url", "grpc://localhost/x"], 1, "can't read no.png"),
    (["profile", "resnet51"], 2, "no preset is named 'resnet51'"),
    (["profile", "nowhere.keras"], 2, "file nowhere.keras doesn't exist"),
    (["profile", "resnet50", "--csv", "notes.txt"], 2, "notes.txt exists; name a new"),
    (["profile", "alexnet", "--image-size", 32], 2, "alexnet has its own"),
    (["compare", "--test-set", "mine"], 2, "test-set: says nothing without --budget"),
    (["push", FINISHED, "mine"], 2, "'mine' is not OWNER/NAME"),
    (["push", FINISHED, "me/it", "--licence", "apache2"], 2, "closest: apache-2.0"),
    (["experiment", "report", "width"], 2, "has no runs of this setting yet"),
    (["experiment", "run", "width", "--data", "folder:nowhere"], 2, "doesn't exist"),
    (["experiment", "run", "width", "--data", "tfds:mnisty"], 2, "there is mnist"),
    (
        ["publish", PREVIOUS / "export", "--alias", "ab", "--model", "m"],
        2,
        "can't find m@ab in MLflow at sqlite",
    ),
]


def test_mistakes_are_found_before_tensorflow_is_loaded(workplace):
    Path("notes.txt").write_text("no image")
    Path("empty.h5").touch()
    Path("empty").mkdir()
    Path("a.tflite").write_bytes(b"none of these")
    shutil.copytree(FINISHED, RESNET18)
    recipe = get_recipe("digits").replace(model=get_spec("resnet18"))
    Path(RESNET18, "recipe.json").write_text(recipe.to_json())
    code = (
        "import json, sys; from click.testing import CliRunner\n"
        "from keras_resnet.cli import main\n"
        "for asked in json.loads(sys.argv[1]):\n"
        "    done = CliRunner().invoke(main, asked)\n"
        "    loaded = sorted({'tensorflow', 'keras'} & set(sys.modules))\n"
        "    said = ' '.join(done.output.split())\n"
        "    print(json.dumps([done.exit_code, said, loaded]))"
    )
    asked = json.dumps([[str(word) for word in words] for words, *_ in EARLY])
    done = subprocess.run(
        [sys.executable, "-c", code, asked], capture_output=True, text=True, check=True
    )
    answers = map(json.loads, done.stdout.splitlines())
    for row, (told, text, loaded) in zip(EARLY, answers, strict=True):
        words, code, message = row
        assert (told, message in text, loaded) == (code, True, []), (words, text)
        assert text.count("Error: ") == 1


def test_json_alone_is_on_stdout():
    """Whatever a library prints on the way is on standard error."""
    for file in Path(output.__file__).parent.glob("*.py"):
        others = file.name != "output.py" and "json.dumps" in file.read_text()
        assert not others, f"{file} prints JSON by other means"

    @main.command("chatter")
    @options.as_json
    def chatter(as_json):
        print("from a library")
        output.print_json({"a": (1, float("nan"))})

    try:
        asked, plain = invoke("chatter", "--json"), invoke("chatter")
    finally:
        del main.commands["chatter"]
    read = json.loads(asked.stdout, parse_constant=pytest.fail)
    assert (read, asked.stderr) == ({"a": [1, None]}, "from a library\n")
    assert plain.stdout.startswith("from a library\n{")


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_help_has_an_example(command):
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    if command:
        assert f"Example: keras-resnet {command[0]}" in " ".join(result.output.split())


MISTAKES = [
    (["show", "resnet51"], "no preset is named 'resnet51'; closest: resnet50"),
    (["show"], "name a preset or give --spec FILE"),
    (["show", "wrn_99999999999_2"], "no preset is named 'wrn_99999999999_2'"),
    (["show", "resnet50", "--spec", "x.json"], "not both"),
    (["show", "--spec", "missing.json"], "can't read missing.json: No such file"),
    (["show", "--spec", "folder"], "can't read folder: Is a directory"),
    (["show", "--spec", "notes.txt"], "spec: not JSON"),
    (["show", "--spec", "key.json"], "colour: not a field; the fields are"),
    (["show", "--spec", "type.json"], "depths: 'three' is not a list"),
    (["show", "--spec", "depth.json"], "depths: [-1] is not a list"),
    (["show", "--spec", "groups.json"], "cardinality: 7 does not divide 64"),
    (["show", "--spec", "binary"], "can't read binary: not text"),
    (["show", "wrn_29_2"], "6n+4 layers, which 29 is not"),
    (["list", "zzz"], "no network matches 'zzz'"),
    (["train", "--model", "resnet50"], "too small for a total stride of 32"),
    (["train", "--model", "resnet5"], "no preset is named 'resnet5'"),
    (["train", "--recipe", "digit"], "recipe: 'digit' is not one of"),
    (["train", "--recipe", "missing.json"], "can't read missing.json"),
    (["train", "--data", "mnist"], "data: 'mnist' is not one of"),
    (["train", "--recipe", "folder"], "data: folder is for no data by itself"),
    (["train", "--folder", "folder"], "folder exists and is not a run"),
    (["train", "--folder", "notes.txt"], "notes.txt is a file"),
    (["train", "--folder", "notes.txt/run"], "can't write to notes.txt/run"),
    (["doctor", "resnet51"], "no preset is named 'resnet51'"),
    (["train", "--no-track", "--register", "x"], "register: with --no-track"),
    (["train", "--no-track", "--tag", "a=b"], "tag: with --no-track"),
    (["train", "--epochs", "0"], "0 is not in the range"),
    (["train", "--seed", "-1"], "-1 is not in the range"),
    (["evaluate", "folder"], "folder is not a run folder"),
    (["evaluate", "nowhere"], "nowhere is not a run folder; it doesn't exist"),
    (["predict", "folder", "notes.txt"], "folder is not a run folder"),
    (
        ["show", "resnet18", "--diagram", "notes.txt/net.svg"],
        "can't write to notes.txt",
    ),
    (["show", "resnet18", "--save-spec", "notes.txt/net.json"], "can't write to notes"),
    (["show", "resnet18", "--diagram", "a/b/net.svg"], "can't write a/b/net.svg: its"),
    (
        ["profile", "cifar_resnet20", "--csv", "notes.txt/net.csv"],
        "can't write to notes",
    ),
    (["convert", "cifar_resnet20", "notes.txt/net.h5"], "notes.txt/net"),
    (["explain", "folder", "--image", "no.png"], "image: can't read no.png: No such"),
    (["explain", "mine.keras"], "run: mine.keras is a model without its data; name a"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_end_in_one_line_and_write_nothing(workplace, arguments, message):
    (workplace / "folder").mkdir()
    (workplace / "folder" / "mine").write_text("x")
    (workplace / "notes.txt").write_text("notes")
    (workplace / "binary").write_bytes(b"\xff\xfe\x00")
    for name, text in {
        "key": '{"colour": 1}',
        "type": '{"depths": "three"}',
        "depth": '{"depths": [-1], "widths": [16]}',
        "groups": '{"cardinality": 7}',
    }.items():
        (workplace / f"{name}.json").write_text(text)
    before = sorted(workplace.rglob("*"))
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.output.splitlines()[-1] == errors[0]
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.slow
def test_a_run_is_explained_exported_served_and_asked(workplace):
    """Test_packaging trains, evaluates and predicts; this goes on from there."""
    trained = invoke("train", "--epochs", 1, "--no-track", "--folder", "runs/mine")
    assert trained.exit_code == 0, trained.output
    samples = sorted(Path("runs/mine/samples").glob("*.png"))
    by_run = json.loads(invoke("predict", "runs/mine", *samples, "--json").output)

    explained = invoke("explain", "runs/mine", "--image", samples[0], "--batches", 1)
    assert explained.output.splitlines()[-1] == "runs/mine/explained/activation.png"
    assert Path("runs/mine/explained/lesions.csv").exists()
    gradients = Path("runs/mine/explained/gradients.csv").read_text()
    assert invoke("explain", "runs/mine", "--batches", 1).exit_code == 0
    assert Path("runs/mine/explained/gradients.csv").read_text() == gradients
    # An image needs the model alone.
    drawn = invoke("explain", "runs/mine/best.keras", "--image", samples[0])
    assert drawn.output.splitlines() == ["runs/mine/explained/activation.png"]
    described = json.loads(Path("runs/mine/data.json").read_text())
    gone = described | {"arguments": described["arguments"] | {"source": "gone.npz"}}
    Path("runs/mine/data.json").write_text(json.dumps(gone))
    drawn = invoke("explain", "runs/mine", "--image", samples[0])
    assert drawn.exit_code == 0
    assert drawn.output.startswith("only the image is drawn: ")
    assert "gone.npz" in drawn.output
    assert drawn.output.splitlines()[1:] == ["runs/mine/explained/activation.png"]
    assert invoke("explain", "runs/mine").exit_code == 2
    Path("runs/mine/data.json").write_text(json.dumps(described))

    # What is converted takes the same pixels.
    assert invoke("convert", "runs/mine", "mine.keras").exit_code == 0
    images = data.load("digits").test.take(1)
    answers = [
        keras.models.load_model(path).predict(images, verbose=0)
        for path in ("mine.keras", "runs/mine/best.keras")
    ]
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)

    exported = invoke("export", "runs/mine", "--to", "models/mine")
    assert exported.exit_code == 0, exported.output
    for line in (
        "SavedModel  models/mine/1",
        "checked     image_bytes from png: differs by ",
        "docker run --rm -p 8500:8500",
        "keras-resnet client IMAGE... --url http://localhost:8501/mine",
    ):
        assert line in exported.output
    with served(Path("models/mine")) as urls:
        for url in urls:
            ask_by_command(url, samples, by_run)
    for url in urls:  # of a server that is gone
        assert_refused(
            ("client", samples[0], "--url", url, "--retries", 1), "does not answer: "
        )


def ask_by_command(url, samples, expected):
    """`client`, with sound images and with mistakes."""
    patient = ("--url", url, "--timeout", 120, "--retries", 8)
    told = json.loads(invoke("client", *samples, *patient, "--json").output)
    for told_row, row in zip(told, expected, strict=True):
        assert told_row["image"] == row["image"]
        for name, share in row["classes"].items():
            assert told_row["classes"][name] == pytest.approx(share, abs=1e-4)
    best = next(iter(told[0]["classes"]))
    assert f"{samples[0]}: {best} " in invoke("client", samples[0], *patient).output
    image = samples[0]
    Path("bad.png").write_text("no image")
    refused = invoke("client", "bad.png", *patient)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "Error: image: bad.png is not an image file\n"
    for arguments, message in (
        ((image, "--url", f"{url}/1"), "ends in no model's name"),
        ((image, "--url", f"{url}s"), "NOT_FOUND, Servable not found"),
        ((image, *patient, "--version", 7), "NOT_FOUND, "),
        ((image, *patient, "--label", "champion"), "Unrecognized servable version"),
        ((image, *patient, "--label", "a", "--version", 1), "not both"),
    ):
        message = message.replace("NOT_FOUND", "404" if "http" in url else "NOT_FOUND")
        assert_refused(("client", *arguments), message)


def assert_refused(arguments, message):
    """One line, and exit code 2."""
    refused = invoke(*arguments)
    assert refused.exit_code == 2, refused.output
    assert message in refused.output
    assert refused.output.startswith("Error: ")
    assert len(refused.output.splitlines()) == 1


def test_ctrl_c_during_imports_is_exit_code_130(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_resnet.cli", "train", "--folder", "run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtensorflow" not in maps.read_text():  # long before it trains
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Aborted" not in output
    assert "Traceback" not in output


def test_doctor_tells_paths_and_remedies():
    told = json.loads(invoke("doctor", "wrn_28_10", "--json").output)
    assert sum(told["convolutions"]["wrn_28_10"].values()) == 28
    assert told["onednn"] is True
    assert told["versions"]["tensorflow"]
    shown = invoke("doctor", "cifar_resnet20")
    assert "oneDNN" not in shown.output.splitlines()[-1]  # the suite has it on
    assert "onednn" in shown.output
    assert shown.exit_code == 0
    wrong = invoke("doctor", "resnet51")
    assert wrong.exit_code == 2
    assert "resnet51" in wrong.output
