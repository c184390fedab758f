from __future__ import annotations

import pandas as pd
import pytest
import tensorflow as tf
from images import arrays, labels, noise, write_folder

from keras_resnet import data
from keras_resnet.data import DataError


@pytest.fixture
def photos(tmp_path):
    write_folder(tmp_path / "images", {"a": 12, "b": 12})
    return tmp_path


def write_table(root, header, rows):
    text = "\n".join([header, *(",".join(row) for row in rows)])
    (root / "labels.csv").write_text(text + "\n")
    return f"csv:{root / 'labels.csv'}"


def paths(form="images/{}/{:03}.png"):
    return [(form.format(x, i), x) for x in "ab" for i in range(12)]


def test_a_table_of_paths_and_labels(photos):
    splits = data.load(write_table(photos, "path,label", paths()))
    assert splits.class_names == ("a", "b")
    assert splits.counts == {"train": 17, "val": 2, "test": 5}
    folder = data.load(f"folder:{photos / 'images'}")
    assert splits.fingerprint == folder.fingerprint
    again = data.load(**splits.arguments)
    assert (arrays(again.test)[0] == arrays(splits.test)[0]).all()


def test_names_of_columns_and_of_files(photos):
    rows = [
        (f"{label}-{i}", label, "Training" if i < 8 else "test")
        for label in "ab"
        for i in range(12)
    ]
    for label in "ab":
        for i in range(12):
            file = photos / "images" / label / f"{i:03}.png"
            file.rename(photos / "images" / f"{label}-{i}.png")
    splits = data.load(write_table(photos, "Image_ID,Category,Subset", rows))
    assert splits.counts == {"train": 14, "val": 2, "test": 8}


def test_numbers_as_labels_are_sorted_as_such(photos):
    rows = [(path, "10" if label == "a" else "9") for path, label in paths()]
    assert data.load(write_table(photos, "file,label", rows)).class_names == ("9", "10")


def test_blanks_around_a_label_are_none_of_it(photos):
    rows = [(path, f" {label} " * (i % 2) or label) for i, (path, label) in
            enumerate(paths())]  # fmt: skip
    assert data.load(write_table(photos, "file,label", rows)).class_names == ("a", "b")


def test_rows_without_a_label_or_a_file(photos):
    rows = [*paths(), ("images/a/gone.png", "a"), ("images/b/000.png", "")]
    rows[12] = ("images/b/000.png", "b")
    source = write_table(photos, "path,label", rows[:-1])
    with pytest.warns(
        data.DataWarning, match=r"1 unreadable .*gone\.png: No such file"
    ):
        splits = data.load(source)
    assert sum(splits.counts.values()) == 24
    rows = [*paths()[:-1], ("images/b/011.png", "")]
    with pytest.warns(data.DataWarning, match="not read: .*1 row without a label"):
        splits = data.load(write_table(photos, "path,label", rows))
    assert sum(splits.counts.values()) == 23


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("url,label", paths(), "has no column for the path, only url, label; call it"),
        ("path,text", paths(), "has no column for the label, only path, text"),
        ("path,label", [*paths(), ("images/a/000.png", "b")], "the labels 'a' and 'b'"),
        ("path,label", [(p, "a") for p, _ in paths()], "has 1 label; a classifier"),
        ("path,label", [*paths(), ("x",)], "has 1 fields in row 26, not the 2"),
        (
            "path,label,split",
            [(*r, "fold1") for r in paths()],
            "has split 'fold1', not",
        ),
        ("path,label,split", [(*r, "test") for r in paths()], "no training images"),
        (
            "path,label,split",
            [*((*r, "train") for r in paths()), ("images/a/000.png", "a", "test")],
            "has images/a/000.png in several rows, but an image counts once",
        ),
        (
            "path,label,is_valid",
            [(*r, "0") for r in paths()],
            "has a column is_valid; call it split",
        ),
        (
            "path,label",
            [(p, "Cat" if i % 2 else "cat") for i, (p, _) in enumerate(paths())],
            "labels 'Cat' and 'cat' differ in case alone",
        ),
        ("path,label", [], "no row has a label"),
        ("path,label", [("000.png", "a")], "000.png may be .*a/000.png or .*b/000.png"),
        (
            "path,label",
            [("x/1.png", "a"), ("x/2.png", "b")],
            "has no image that can be",
        ),
    ],
)
def test_wrong_tables(photos, header, rows, message):
    with pytest.raises(DataError, match=f"data: .*{message}"):
        data.load(write_table(photos, header, rows))


def text(
    header="path,label", labels=("a", "b"), sep=",", end="\n", form="{}/{:03}.png"
):
    """24 rows, the label of each from those of its class' folder."""
    rows = [
        sep.join((f"images/{form.format(x, i)}", labels[k]))
        for k, x in enumerate("ab")
        for i in range(12)
    ]
    return end.join([header, *rows, ""])


SHAPES = {
    "semicolons": text("path;label", sep=";"),
    "tabs": text("path\tlabel", sep="\t"),
    "Windows": "\ufeff" + text(end="\r\n"),
    "backslashes": text().replace("/", "\\"),
    "blanks": text("path , label", sep=" , "),
    "quotes": text('"path","label"', ('"a"', '"b"')),
    "commas in labels": text(labels=('"a, or b"', "b")),
    "empty lines": text(end="\n\n"),
    "a column of numbers": text(",path,label").replace("images", "7,images"),
    "an empty column": text("path,label,", ("a,", "b,")),
    "all twice": text() + text().partition("\n")[2],
    "dot": text().replace("images", "./images"),
    "breeds": text("id_code,breed"),
    "letters of both cases": text(labels=("A", "a")),
}


@pytest.mark.parametrize("name", SHAPES)
def test_tables_as_people_have_them(photos, name):
    (photos / "labels.csv").write_bytes(SHAPES[name].encode())
    splits = data.load(f"csv:{photos / 'labels.csv'}")
    assert sum(splits.counts.values()) == 24
    assert (splits.classes, splits.unreadable, splits.left_out) == (2, (), ())


@pytest.mark.parametrize("word", ["nan", "NA", "N/A", "null", "<NA>"])
def test_words_for_nothing_are_no_class(photos, word):
    rows = [*paths(), ("images/b/000.png", "b")]
    rows[12] = ("images/a/000.png", word)
    rows = [row for row in rows if row != ("images/a/000.png", "a")]
    with pytest.warns(data.DataWarning, match="1 row without a label"):
        splits = data.load(write_table(photos, "path,label", rows))
    assert splits.class_names == ("a", "b")
    frame = pd.DataFrame(rows, columns=["path", "label"])
    frame.loc[frame.label == word, "label"] = float("nan")
    with pytest.warns(data.DataWarning, match="1 row without a label"):
        assert data.load(frame, data_dir=photos).class_names == ("a", "b")


def test_a_table_that_is_none(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("x.csv", "none.csv"):
        with pytest.raises(DataError, match=r"data: can't read .*\.csv: "):
            data.load(f"csv:{tmp_path / name}")


def test_a_frame(photos):
    frame = pd.DataFrame(paths(), columns=["path", "label"])
    splits = data.load(frame, data_dir=photos)
    assert splits.fingerprint == data.load(f"folder:{photos / 'images'}").fingerprint
    assert splits.arguments is None


def test_a_tf_data_set():
    x, y = noise(30), labels(30)
    pairs = tf.data.Dataset.from_tensor_slices((x, y))
    expected = data.load((x, y))
    for dataset in (pairs, pairs.batch(7)):
        splits = data.load(dataset)
        assert splits.fingerprint == expected.fingerprint
    encoded = pairs.map(lambda image, label: (tf.io.encode_png(image), label))
    splits = data.load(encoded, image_size=8)
    assert (arrays(splits.test)[0] == arrays(expected.test)[0]).all()
    for wrong, message in (
        (pairs.map(lambda image, label: image), "is not one of image, label"),
        (pairs.repeat(), "has no end; take"),
        (pairs.take(0), "is empty"),
    ):
        with pytest.raises(DataError, match=message):
            data.load(wrong)
    with pytest.raises(DataError, match=r"fit into the 100 bytes .* raise memory"):
        data.load(pairs, memory=100)


def test_tfrecord_files(tmp_path):
    def write(name, count, image="image", label="label", seed=0):
        with tf.io.TFRecordWriter(str(tmp_path / name)) as file:
            for pixels, number in zip(
                noise(count, seed=seed), labels(count), strict=True
            ):
                content = tf.io.encode_png(pixels).numpy()
                feature = {
                    image: tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[content])
                    ),
                    label: tf.train.Feature(
                        int64_list=tf.train.Int64List(value=[number + 1])
                    ),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                file.write(example.SerializeToString())

    write("train-00000-of-00001.tfrecord", 30)
    write(
        "validation-00000-of-00001.tfrecord", 9, "image/encoded", "image/class/label", 1
    )
    source = f"tfrecord:{tmp_path}/*.tfrecord"
    splits = data.load(source)
    assert splits.counts == {"train": 27, "val": 3, "test": 9}
    assert splits.class_names == ("1", "2", "3")
    assert data.load(**splits.arguments).fingerprint == splits.fingerprint
    with pytest.raises(DataError, match=r"no file fits .*\.rec"):
        data.load(f"tfrecord:{tmp_path}/*.rec")
    write("test.tfrecord", 3, "pixels", seed=2)
    with pytest.raises(DataError, match="no feature for the image, only label, pixels"):
        data.load(source)
    (tmp_path / "test.tfrecord").write_bytes(b"no records")
    with pytest.raises(DataError, match=r"can't read .*test\.tfrecord: "):
        data.load(source)
