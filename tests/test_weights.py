"""Weights of other libraries in, by name or not at all; ours out."""

from __future__ import annotations

import json
import pickle

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from peers import RECORDED, SIDE, draw, images
from safetensors.numpy import load_file, save_file

from keras_resnet import build, cifar_resnet, get_spec, surgery, weights
from keras_resnet.cli import main
from keras_resnet.training.finetuning import read_source
from keras_resnet.weights import WeightsError, channels

PEERS = json.loads(RECORDED.read_text())
TIMM_V2 = {"stride_at": "first", "stem_pool_pad": "minus_inf", "bn_epsilon": 1e-5}
SPECS = {
    "torchvision resnet18": get_spec("resnet18"),
    "torchvision resnext50_32x4d": get_spec("resnext50_32x4d"),
    "torchvision resnet50, output stride 8": get_spec("resnet50_v1_5", output_stride=8),
    "timm resnet50d": get_spec("resnet50_d"),
    "timm resnetv2_50": get_spec("keras_resnet50_v2", **TIMM_V2),
    "torch cifar20": get_spec("cifar_resnet20"),
}


def state_of(peer):
    return draw(PEERS[peer]["shapes"])


def randomize(model, seed=0):
    """Weights and statistics that no two layers share."""
    random = np.random.default_rng(seed)
    model.set_weights([random.uniform(0.1, 1, w.shape) for w in model.weights])
    return model


def equal(first, second):
    return all(
        np.array_equal(a, b)
        for a, b in zip(first.get_weights(), second.get_weights(), strict=True)
    )


@pytest.fixture(scope="module")
def cifar20(tmp_path_factory):
    """torch's, with option A, as a file."""
    path = tmp_path_factory.mktemp("peers") / "cifar20.safetensors"
    save_file(state_of("torch cifar20"), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_logits_are_the_peers(peer, tmp_path):
    path = tmp_path / "peer.safetensors"
    save_file(state_of(peer), path)
    model = build(SPECS[peer], input_shape=(SIDE, SIDE, 3))
    weights.load(model, path)
    expected = np.array(PEERS[peer]["logits"])
    found = model.predict(images(), verbose=0)[:, : expected.shape[1]]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_there_and_back(cifar20, tmp_path):
    model = build("cifar_resnet20")
    weights.load(model, cifar20)
    weights.save(model, tmp_path / "back.safetensors", dialect="torch's CIFAR")
    back = load_file(tmp_path / "back.safetensors")
    state = state_of("torch cifar20")
    assert back.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"merge": "exclusive_gate"},
        {"order": "pre", "shortcut": "project", "survival": 0.5, "dropout": 0.1},
    ],
    ids=["post", "highway", "pre"],
)
def test_own_files_round_trip(suffix, changes, tiny_spec, tmp_path):
    spec = tiny_spec.replace(**({"shortcut": "project"} | changes))
    if changes and suffix == ".safetensors":
        with pytest.raises(WeightsError, match="outputs would differ; change the spec"):
            weights.save(build(spec), tmp_path / f"x{suffix}")
        return
    old, new = randomize(build(spec)), build(spec)
    path = tmp_path / f"own{suffix}"
    if suffix == ".safetensors":
        weights.save(old, path)
    elif suffix == ".keras":
        old.save(path)
    else:
        old.save_weights(path)
    weights.load(new, path)
    assert equal(old, new)


def test_names_decide_and_not_the_order(tiny_spec, tmp_path):
    """A layer without weights more moves Keras' order of weights."""
    path = tmp_path / "own.weights.h5"
    old = randomize(build(tiny_spec, shortcut="project", project_pool=True))
    old.save_weights(path)
    new = build(tiny_spec, shortcut="project")
    weights.load(new, path)
    for layer in new.layers:
        for a, b in zip(
            layer.get_weights(), old.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_files_without_names_go_by_keras_order(tiny_spec, tmp_path):
    import h5py

    old, new = randomize(build(tiny_spec)), build(tiny_spec)
    path = tmp_path / "own.weights.h5"
    old.save_weights(path)
    with h5py.File(path, "a") as file:
        file.visititems(lambda _, group: group.attrs.pop("name", None))
    weights.load(new, path)
    assert equal(old, new)


def test_keras_old_name_of_the_classifier(tiny_spec, tmp_path):
    """keras.applications called it "probs" when its files were written."""
    import h5py

    old, new = randomize(build(tiny_spec)), build(tiny_spec)
    layers = {layer.name: layer for layer in old.layers}
    layers["probs"] = layers.pop("predictions")
    path = tmp_path / "published.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, layer in layers.items():
            group = file.create_group(name)
            keys = [f"{name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [key.encode() for key in keys]
            for key, value in zip(keys, layer.get_weights(), strict=True):
                group[key] = value
    weights.load(new, path)
    assert equal(old, new)


def test_gates_in_stock_layers_load(tiny_spec, tmp_path):
    """A stock gate is a model in the model."""
    old = randomize(build(tiny_spec, merge="exclusive_gate", shortcut="project"))
    stock = surgery.to_stock(old)
    stock.save(tmp_path / "stock.keras")
    for new in (
        build(tiny_spec, merge="exclusive_gate", shortcut="project"),
        surgery.to_stock(build(tiny_spec, merge="exclusive_gate", shortcut="project")),
    ):
        weights.load(new, tmp_path / "stock.keras")
        for layer in new.layers:
            for a, b in zip(
                layer.get_weights(),
                old.get_layer(layer.name).get_weights(),
                strict=True,
            ):
                np.testing.assert_array_equal(a, b)


def test_a_whole_models_strides_and_epsilon_are_compared(tmp_path):
    """Shapes agree; outputs would not."""
    spec = cifar_resnet(
        11, "bottleneck", stem_width=4, depths=(1, 1, 1, 2), widths=(8, 8, 16, 32)
    )
    path = tmp_path / "own.keras"
    old = randomize(build(spec))
    old.save(path)
    for changes, problem in (
        ({"stride_on": "3x3"}, r"conv3_block1_1_conv strides \(2, 2\) for \(1, 1\)"),
        ({"bn_epsilon": 1e-3}, "conv1_bn epsilon 1e-05 for 0.001"),
    ):
        new = build(spec, **changes)
        before = new.get_weights()
        with pytest.raises(WeightsError, match=f"of another setting: .*{problem}"):
            weights.load(new, path)
        for a, b in zip(before, new.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    dilated = build(spec, output_stride=4)
    weights.load(dilated, path)
    assert equal(old, dilated)


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_loaded(tiny_spec, tmp_path):
    path = tmp_path / "own.weights.h5"
    randomize(build(tiny_spec, depths=(2, 1, 1), widths=(4, 8, 16))).save_weights(path)
    model = randomize(build(tiny_spec), seed=1)
    before = model.get_weights()
    with pytest.raises(WeightsError) as error:
        weights.load(model, path)
    message = str(error.value)
    for name in ("1_bn", "1_conv", "2_bn", "2_conv"):
        assert f"conv2_block2_{name}" in message.partition("4 too much: ")[2]
    assert "conv4_block1_1_conv/kernel 3x3x8x16 for 3x3x8x8" in message
    assert "predictions/kernel 16x10 for 8x10" in message
    assert "\n" not in message
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_a_classifier_the_dialect_must_be_said(tmp_path):
    """Names are the same, and option A's channels in another order."""
    trunk = {"depths": (1, 1, 1), "include_top": False, "pooling": "avg"}
    old = randomize(build("cifar_resnet20", **trunk))
    new = build("cifar_resnet20", **trunk)
    path = tmp_path / "trunk.safetensors"
    weights.save(old, path, dialect="torch's CIFAR")
    with pytest.raises(WeightsError, match="no classifier, by whose name"):
        weights.load(new, path)
    weights.load(new, path, dialect="torch's CIFAR")
    assert equal(old, new)


def test_factors_of_sums_are_compared(tiny_spec, tmp_path):
    """Stochastic depth by batches scales residuals in inference, by images not."""
    tiny_spec = tiny_spec.replace(shortcut="project")
    plain = randomize(build(tiny_spec))
    dropping = build(tiny_spec, survival=0.5)
    by_image = build(tiny_spec, survival=0.5, survival_mode="sample")
    plain.save(tmp_path / "plain.keras")
    weights.save(plain, tmp_path / "plain.safetensors")
    for name, message in (
        ("plain.keras", r"block1_add factors \(1.0, 1.0\) for \(1.0, 0\."),
        ("plain.safetensors", "survival 1.0, and .* has 0.5: outputs would differ"),
    ):
        with pytest.raises(WeightsError, match=message):
            weights.load(dropping, tmp_path / name)
        weights.load(by_image, tmp_path / name)
    with pytest.raises(WeightsError, match=r"has 0\.5: outputs would"):
        weights.save(dropping, tmp_path / "dropping.safetensors")
    surgery.to_stock(dropping).save(tmp_path / "stock.keras")
    weights.load(dropping, tmp_path / "stock.keras")


def test_other_widths_are_refused_by_their_shapes(cifar20):
    with pytest.raises(WeightsError, match="conv1_conv/kernel 3x3x3x16 for 3x3x3x32"):
        weights.load(build("cifar_resnet20", k=2, stem_width=32), cifar20)


def test_the_spec_that_fits_is_named(cifar20):
    with pytest.raises(WeightsError, match=r"it fits cifar_resnet20$"):
        weights.load(build("cifar_resnet32"), cifar20)


def test_what_files_do_not_tell_is_refused(tmp_path, cifar20):
    """The same names and shapes, but another network."""
    path = tmp_path / "resnext.safetensors"
    save_file(state_of("torchvision resnext50_32x4d"), path)
    wrong = build("resnext50_32x4d", stride_on="1x1", input_shape=(64, 64, 3))
    with pytest.raises(
        WeightsError,
        match=r"stride_on '3x3', and .* has '1x1': outputs would differ; build "
        "'resnext50_32x4d'",
    ):
        weights.load(wrong, path)
    with pytest.raises(WeightsError, match="stride_at 'first'"):
        weights.load(build("cifar_resnet20", stride_at="last"), cifar20)
    with pytest.raises(WeightsError, match="build 'cifar_resnet20'"):
        weights.load(build("cifar_resnet20", bn_epsilon=1e-3), cifar20)


def test_a_new_head_keeps_its_weights(cifar20):
    model = build("cifar_resnet20", classes=3)
    before = model.layers[-1].get_weights()
    with pytest.raises(WeightsError, match="predictions/kernel 64x10 for 64x3"):
        weights.load(model, cifar20)
    weights.load(model, cifar20, head=False)
    for a, b in zip(before, model.layers[-1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    bare = build("cifar_resnet20", include_top=False)
    weights.load(bare, cifar20, head=False)
    kernel = state_of("torch cifar20")["conv1.weight"].transpose(2, 3, 1, 0)
    for loaded in (model, bare):
        np.testing.assert_array_equal(loaded.get_layer("conv1_conv").kernel, kernel)


def test_other_channels_give_the_same_of_gray_images(cifar20):
    colored, gray = (
        build("cifar_resnet20"),
        build("cifar_resnet20", input_shape=(32, 32, 1)),
    )
    weights.load(colored, cifar20)
    with pytest.raises(WeightsError, match="conv1_conv/kernel 3x3x3x16 for 3x3x1x16"):
        weights.load(gray, cifar20)
    weights.load(gray, cifar20, adapt_channels=True)
    x = images(1)[:, :32, :32]
    expected = colored.predict(x.repeat(3, axis=-1), verbose=0)
    found = gray.predict(x, verbose=0)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    six = build("cifar_resnet20", input_shape=(32, 32, 6))
    weights.load(six, cifar20, adapt_channels=True)
    found = six.predict(x.repeat(6, axis=-1), verbose=0)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("held", [1, 3, 4])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 6])
def test_channels_in_turn_give_the_same(held, wanted):
    """Of images whose channels repeat the old ones; statistics go along."""
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, held, 5))
    stats = random.uniform(1, 2, (2, held)).tolist()
    new = channels.adapted_kernel(kernel, wanted)
    mean, std = channels.adapted_stats(stats, wanted)
    assert new.shape == (3, 3, wanted, 5)
    pixels = random.normal(size=held)
    repeated = np.take(pixels, range(wanted), mode="wrap")
    if wanted >= held:
        old = np.einsum("hwcf,c->hwf", kernel, (pixels - stats[0]) / stats[1])
        found = np.einsum("hwcf,c->hwf", new, (repeated - mean) / std)
        np.testing.assert_allclose(found, old)
    else:
        np.testing.assert_allclose(new.sum(axis=2), kernel.sum(axis=2))


class Evil:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_damaged_and_malicious_files_are_refused(cifar20, tiny_spec, tmp_path):
    model = randomize(build("cifar_resnet20"))
    before = model.get_weights()
    whole = cifar20.read_bytes()
    own = tmp_path / "own.weights.h5"
    model.save_weights(own)
    saved = tmp_path / "own.keras"
    model.save(saved)
    files = {
        "cut.safetensors": whole[: len(whole) // 2],
        "long.safetensors": (2**60).to_bytes(8, "little") + whole[8:],
        "empty.safetensors": b"",
        "cut.weights.h5": own.read_bytes()[:20_000],
        "noise.h5": b"not hdf5",
        "cut.keras": saved.read_bytes()[:20_000],
        "empty.keras": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="is not a whole") as error:
            weights.load(model, tmp_path / name)
        assert "\n" not in str(error.value)
    (tmp_path / "notes.txt").touch()
    for name, problem in {
        "missing.keras": "doesn't exist",
        "missing": "is no file, run folder or published name",
        "notes.txt": "neither a run folder nor",
    }.items():
        with pytest.raises(WeightsError, match=problem):
            weights.load(model, tmp_path / name)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pickle_runs_nothing(tmp_path):
    """Without torch the message says how to get it; with torch, why it is refused."""
    victim = tmp_path / "victim"
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"conv1.weight": Evil(victim)}, protocol=2))
    with pytest.raises(WeightsError, match=r"refused|install torch") as error:
        weights.load(build("cifar_resnet20"), path)
    assert "\n" not in str(error.value)
    assert not victim.exists()
    page = tmp_path / "page.pth"
    page.write_bytes(b"<html>404</html>")
    with pytest.raises(WeightsError, match=r"not a whole file of torch|install torch"):
        weights.load(build("cifar_resnet20"), page)


def test_published_rows_are_whole():
    for name, row in weights.PUBLISHED.items():
        spec = get_spec(row.preset)
        assert spec.classes == 1000
        assert row.digest in row.url or name.startswith("keras/")
        assert len(row.mean) == len(row.std) == 3
        assert row.resize >= row.size
    with pytest.raises(
        WeightsError, match=r"closest: torchvision/resnet50\.IMAGENET1K"
    ):
        weights.pretrained("torchvision/resnet50")


@pytest.mark.slow
def test_pretrained_takes_raw_pixels(tmp_path, monkeypatch):
    """Keras' Caffe networks want blue, green, red less the mean; ours takes RGB."""
    peer = keras.applications.ResNet50(
        weights=None, classifier_activation=None, input_shape=(SIDE, SIDE, 3)
    )
    path = tmp_path / "peer.weights.h5"
    peer.save_weights(path)
    monkeypatch.setattr(weights.Published, "fetch", lambda row: path)
    model = weights.pretrained("keras/resnet50", input_shape=(SIDE, SIDE, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3))
    prepared = keras.applications.resnet.preprocess_input(pixels.astype("float32"))
    expected = peer.predict(prepared, verbose=0)
    found = model.predict(pixels, verbose=0)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    new = weights.pretrained("keras/resnet50", classes=5, input_shape=(SIDE, SIDE, 1))
    assert new.output_shape == (None, 5)


@pytest.mark.parametrize("suffix", [".safetensors", ".keras", ".weights.h5", ".pth"])
def test_normalization_goes_with_the_weights(suffix, tiny_spec, tmp_path):
    """Where a format can't hold it, that is said."""
    if suffix == ".pth":
        pytest.importorskip("torch")

    def run(*arguments):
        done = CliRunner().invoke(main, ["convert", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.output

    spec = tiny_spec.replace(shortcut="project", classes=4, input_shape=(8, 8, 3))
    stats = [[120.0, 130.0, 9.5], [50.0, 60.5, 70.0]]
    model = randomize(build(spec, pixel_stats=stats))
    model.save(tmp_path / "first.keras")
    # A preset's classes are others than the file's.
    (tmp_path / "spec.json").write_text(spec.replace(classes=9).to_json())
    network = ("--spec", tmp_path / "spec.json", "--classes", 4)
    middle, last = tmp_path / f"middle{suffix}", tmp_path / "last.keras"
    said = run(tmp_path / "first.keras", middle, *network)
    lost = suffix in (".weights.h5", ".pth")
    assert ("can't hold how pixels are normalized: less 120, 130, 9.5" in said) == lost
    assert middle.stat().st_mode == (tmp_path / "spec.json").stat().st_mode
    if lost:
        return
    assert "random weights" not in run(middle, last, *network)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *spec.input_shape))
    answers = [
        each.predict(pixels, verbose=0)
        for each in (model, keras.models.load_model(last, compile=False))
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-6)
    start = read_source(middle, spec)  # as training starts from it
    np.testing.assert_allclose(start.pixel_stats(3), stats, rtol=1e-6)
    assert "classifier of 5 classes is new" in run(
        middle, tmp_path / "five.keras", *network[:2], "--classes", 5
    )
    if suffix == ".safetensors":
        with pytest.warns(match=r"normalizes pixels, this one doesn't: .*120\.0, 130"):
            weights.load(build(spec), middle)


def test_convert(cifar20, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(main, ["convert", *map(str, arguments)])

    target = tmp_path / "cifar20.keras"
    done = run(cifar20, target, "--model", "cifar_resnet20")
    assert done.exit_code == 0, done.output
    assert "cifar_resnet20, 271,098 parameters" in done.output
    back = tmp_path / "back.safetensors"
    done = run(target, back, "--model", "cifar_resnet20", "--dialect", "torch's CIFAR")
    assert done.exit_code == 0, done.output
    assert load_file(back).keys() == state_of("torch cifar20").keys()
    gray = tmp_path / "gray.weights.h5"
    done = run(
        cifar20, gray, "--model", "cifar_resnet20", "--channels", 1, "--classes", 3
    )
    assert done.exit_code == 0, done.output
    weights.load(build("cifar_resnet20", input_shape=(28, 28, 1), classes=3), gray)
    features = tmp_path / "dense.weights.h5"
    build("dense_resnet8").save_weights(features)
    dense_options = (features, tmp_path / "x.keras", "--model", "dense_resnet8")
    done = run(*dense_options)
    assert done.exit_code == 0, done.output
    (tmp_path / "x.keras").unlink()
    for arguments, problem in (
        ((cifar20, target, "--model", "cifar_resnet20"), "exists; name a new file"),
        ((*dense_options, "--channels", 1), "takes 64 features, not images"),
        ((cifar20, tmp_path / "x.onnx"), "doesn't end in"),
        ((cifar20, tmp_path / "x.keras"), "doesn't name its network"),
        ((cifar20, tmp_path / "x.keras", "--model", "cifar_resnet32"), "it fits cifar"),
        (
            (gray, tmp_path / "x.keras", "--model", "cifar_resnet20"),
            "it fits cifar_resnet20 or cifar_plain20 with classes=3",
        ),
        ((tmp_path / "no.pth", tmp_path / "x.keras"), "no.pth doesn't exist"),
        (("timm/resnet5", tmp_path / "x.keras"), "closest: resnet50"),
        (
            (cifar20, tmp_path / "a/b/x.keras", "--model", "cifar_resnet20"),
            "can't write",
        ),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert problem in done.output
        assert done.output.startswith("Error: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "back.safetensors", "cifar20.keras", "dense.weights.h5", "gray.weights.h5",
    ]  # fmt: skip
