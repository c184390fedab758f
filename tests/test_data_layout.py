"""What folders are read as: a layout -> counts by split and class, or its refusal."""

# ruff: noqa: E501 (a row of a table is a line)

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from PIL import Image

from keras_resnet.data.folders import read_folder
from keras_resnet.data.images import DataError
from keras_resnet.data.options import Options

NFD = unicodedata.normalize("NFD", "caf\u00e9")
TWO = {"cat": 3, "dog": 3}


def write(root, layout):
    """Files by "folder/*.form": count; the mode of the image may follow the form."""
    random = np.random.default_rng(0)
    for place, count in layout.items():
        folder, _, form = place.partition("/*.")
        form, _, mode = form.partition(":")
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            file = root / folder / f"{i:03}.{form or 'png'}"
            if form in ("txt", "csv", "json"):
                file.write_text("words")
                continue
            pixels = random.integers(0, 256, (6, 8, 3), np.uint8)
            Image.fromarray(pixels).convert(mode or "RGB").save(file)


def images(**classes):
    """ "cat": 3 -> "cat/*.png": 3."""
    return {f"{name}/*.png": count for name, count in classes.items()}


def splits(*names, classes=TWO, inside=""):
    return {
        f"{split}{inside}/{name}/*.png": count
        for split in names
        for name, count in classes.items()
    }


TRAIN = {"train": TWO}
TRAIN_TEST = {"train": TWO, "test": TWO}
ALL = {"train": TWO, "val": TWO, "test": TWO}
MASKS = {"cat/*.jpg": 3, "dog/*.jpg": 3}

# Layout -> what is read.
READ = {
    "classes": (images(**TWO), TRAIN),
    "digits as classes": ({"0/*.png": 3, "1/*.png": 3, "10/*.png": 3}, {"train": {"0": 3, "1": 3, "10": 3}}),
    "splits": (splits("train", "val", "test"), ALL),
    "capital splits": (splits("Train", "VAL", "Test"), ALL),
    "training_set": (splits("training_set", "test_set"), TRAIN_TEST),
    "train_images": (splits("train_images", "validation_images", "test_images"), ALL),
    "images_train": (splits("images_train", "images_test"), TRAIN_TEST),
    "trainset": (splits("trainset", "testset"), TRAIN_TEST),
    "seg_train twice": (
        splits("seg_train", inside="/seg_train") | splits("seg_test", inside="/seg_test") | {"seg_pred/seg_pred/*.jpg": 5},
        TRAIN_TEST,
    ),
    "train/images": (splits("train", "test", inside="/images"), TRAIN_TEST),
    "eval": (splits("train", "eval"), {"train": TWO, "val": TWO}),
    "dev": (splits("train", "dev", "test"), ALL),
    "holdout": (splits("train", "hold-out"), TRAIN_TEST),
    "training, validation, testing": (splits("training", "validation", "testing"), ALL),
    "train alone": (splits("train"), TRAIN),
    "wrapped": (images(**{"photos/cat": 3, "photos/dog": 3}), TRAIN),
    "wrapped twice": (splits("archive/data/train", "archive/data/val"), {"train": TWO, "val": TWO}),
    "wrapped beside __MACOSX": (splits("photos/train", "photos/test") | {"__MACOSX/photos/*.jpg": 4}, TRAIN_TEST),
    "wrapped beside notes": (images(**{"data/cat": 3, "data/dog": 3}) | {"docs/*.txt": 2, "/*.csv": 1}, TRAIN),
    "classes around splits": (
        {f"{name}/{split}/*.png": 3 for name in TWO for split in ("train", "test")},
        TRAIN_TEST,
    ),
    "loose test images": (splits("train") | {"test/*.png": 9}, TRAIN),
    "loose images beside classes": (images(**TWO) | {"/*.png": 2}, TRAIN),
    "valid2 beside valid": (splits("train", "valid", "valid2"), {"train": TWO, "val": TWO}),
    "test_hard": (splits("train", "test", "test_hard"), TRAIN_TEST),
    "a copy inside": (splits("train", "test", "xray/train", "xray/test"), TRAIN_TEST),
    "an empty val": (splits("train", "test") | {"val": 0}, TRAIN_TEST),
    "subfolders of photos": (images(**{"cat": 2, "cat/2023": 1, "dog": 3}), TRAIN),
    "subfolders alone": (images(**{"cat/2023": 1, "cat/2024": 2, "dog/2023": 3}), TRAIN),
    "masks": (MASKS | {"cat/masks/*.png:L": 3}, TRAIN),
    "masks in color": (MASKS | {"dog/overlay/*.png": 3}, TRAIN),
    "images and masks": (
        {f"{name}/{kind}/*.png": 3 for name in TWO for kind in ("images", "masks")},
        TRAIN,
    ),
    "labels beside photos": (images(**TWO) | {"cat/*.txt": 3, "dog/*.json": 3}, TRAIN),
    "thumbnails": (images(**TWO) | {"cat/thumbs/*.png": 3}, TRAIN),
    "hidden": (images(**TWO) | {"cat/.cache/*.png": 3, ".git/*.png": 2}, TRAIN),
    "annotations beside classes": (images(**TWO) | {"annotations/*.json": 5}, TRAIN),
    "train as a vehicle": (images(bus=3, car=3, train=3), {"train": {"bus": 3, "car": 3, "train": 3}}),
    "valid and invalid": (images(valid=3, invalid=3), {"train": {"valid": 3, "invalid": 3}}),
    "letters of both cases": (images(A=3, a=3), {"train": {"A": 3, "a": 3}}),
    "names with spaces": (images(**{"my cat": 3, "dog (1)": 3}), {"train": {"my cat": 3, "dog (1)": 3}}),
    "Chinese names": (images(猫=3, 犬=3), {"train": {"猫": 3, "犬": 3}}),
    "masks beside the classes' own": (splits("train") | {"masks/cat/*.png": 3}, TRAIN),
    "the set again inside": (images(**TWO) | images(**{"pets/cat": 3, "pets/dog": 3}), TRAIN),
    "the set again inside, wrapped": (images(**{"pets/cat": 3, "pets/dog": 3, "pets/pets/cat": 3, "pets/pets/dog": 3}), TRAIN),
    "unlabeled": (splits("train", "test") | {"unlabeled_images/*.png": 4}, TRAIN_TEST),
    "labeled and unlabelled": (images(**{"labeled/cat": 3, "labeled/dog": 3}) | {"unlabelled/*.png": 4}, TRAIN),
    "Tiny ImageNet": (splits("train", classes={"cat/images": 3, "dog/images": 3}) | {"val/images/*.png": 5, "val/*.txt": 1, "test/images/*.png": 3}, TRAIN),
    "ImageNet": (splits("ILSVRC/Data/CLS-LOC/train") | {"ILSVRC/Data/CLS-LOC/val/*.png": 4, "ILSVRC/Annotations/CLS-LOC/val/*.txt": 4}, TRAIN),
    "Stanford Dogs": (images(**{"Images/n02085620-Chihuahua": 3, "Images/n02110958-pug": 3}) | {"Annotation/n02085620-Chihuahua/*.txt": 3, "Annotation/n02110958-pug/*.txt": 3}, {"train": {"n02085620-Chihuahua": 3, "n02110958-pug": 3}}),
    "Caltech 101": (images(**{"101_ObjectCategories/cat": 3, "101_ObjectCategories/dog": 3}) | {"Annotations/cat/*.txt": 3}, TRAIN),
    "Food 101": (images(**{"food-101/images/cat": 3, "food-101/images/dog": 3}) | {"food-101/meta/*.txt": 2}, TRAIN),
    "Fruits 360": (splits("fruits-360/Training", "fruits-360/Test") | {"fruits-360/test-multiple_fruits/*.png": 3, "fruits-360/papers/*.txt": 1}, TRAIN_TEST),
    "EuroSAT": (images(**{"EuroSAT/2750/cat": 3, "EuroSAT/2750/dog": 3}), TRAIN),
    "COVID radiography": (images(**{f"set/{name}/{kind}": 3 for name in TWO for kind in ("images", "masks")}) | {"set/*.txt": 2}, TRAIN),
    "Roboflow": (splits("train", "valid", "test") | {"/*.txt": 2}, ALL),
    "Google Takeout": (images(**{"Takeout/Google Photos/cat": 3, "Takeout/Google Photos/dog": 3}) | {"Takeout/Google Photos/cat/*.json": 3, "Takeout/*.txt": 1}, TRAIN),
    "images/train": (splits("images/train", "images/test"), TRAIN_TEST),
    "photos and depth": ({f"{name}/{kind}/*.{form}": 3 for name in TWO for kind, form in (("rgb", "jpg"), ("depth", "png"))}, TRAIN),
    "notebook's checkpoints": (images(**TWO) | {".ipynb_checkpoints/cat/*.png": 2, "cat/.ipynb_checkpoints/*.png": 2}, TRAIN),
    "breeds below": (images(**{"cat/siam": 3, "dog/pug": 2, "dog/poodle": 1}), TRAIN),
}  # fmt: skip

# Layout -> the line that refuses it.
REFUSED = {
    "folds": (splits(*(f"fold_{i}" for i in range(5))), "has fold_0, fold_1, fold_2 and 2 more, and each of them has cat, dog: are fold_0 and fold_1 splits or classes?"),
    "years of classes": (images(**{f"{n}/{y}": 3 for n in TWO for y in (2023, 2024)}), "are cat and dog splits or classes"),
    "years": (splits("2023", "2024"), "has 2023, 2024, and each of them has cat, dog"),
    "hospitals": (splits("north", "south"), "splits or classes\\? Call splits train, val and test, .*csv:FILE"),
    "test without train": (splits("test", "val"), "has test, val, but no train folder"),
    "two for one split": (splits("train", "val", "validation"), "has val and validation, both for val"),
    "photos in no folder": ({"/*.jpg": 5}, "has 0 folders of images, and 5 images"),
    "a table of labels": ({"/*.jpg": 5, "/*.csv": 1}, "labels in a table are read by csv:.*/000.csv"),
    "train and test without classes": ({"train/*.jpg": 5, "test/*.jpg": 5}, "train has images, but no folders of classes"),
    "trainA": ({f"{name}{x}/*.jpg": 3 for name in ("train", "test") for x in "AB"}, "trainA, trainB, testA|testA, testB, trainA.* are splits by their names"),
    "one class": (images(cat=3), "has 1 folder of images"),
    "nothing": ({}, "has 0 folders of images"),
    "an empty class": (images(cat=3) | {"dog": 0}, "class .*/dog has no images"),
    "a class only in test": (splits("train") | splits("test", classes={"fox": 3}), "test/fox is a class that has no training images"),
    "Cat and cat": (splits("train") | splits("test", classes={"Cat": 3}), "test/Cat .*, which call it 'cat'; name both folders alike"),
    "NFC and NFD across splits": (splits("train", classes={"caf\u00e9": 3, "bar": 3}) | splits("test", classes={NFD: 3}), r"'cafe\\u0301' is not 'caf\\xe9'"),
    "NFC and NFD": (images(**{"caf\u00e9": 3, NFD: 3}), r"classes 'cafe\\u0301' and 'caf\\xe9' are one name"),
    "Pascal VOC": ({"JPEGImages/*.jpg": 5, "Annotations/*.txt": 5, "SegmentationClass/*.png": 3, "ImageSets/Main/*.txt": 2}, "has JPEGImages, SegmentationClass, which are no classes by their names"),
    "images and masks of all": ({"images/*.jpg": 3, "masks/*.png": 3}, "has images, masks, which are no classes by their names"),
    "images and masks by class": (images(**{f"{kind}/{name}": 3 for name in TWO for kind in ("images", "masks")}), "has images, masks, which are no classes"),
    "folds of splits": (splits("fold1/train", "fold1/test", "fold2/train", "fold2/test"), "fold1, fold2 have folders for splits, and these have folders: are they classes or folds"),
    "bands": (images(**{"rgb/2750/cat": 3, "rgb/2750/dog": 3, "all/cat": 3, "all/dog": 3}), "has all, rgb, and each of them has cat, dog"),
    "augmented beside original": (splits("Original Data", "Augmented Data"), "has Augmented Data, Original Data, and each of them has cat, dog"),
    "cats and dogs of Kaggle": ({"train/train/*.jpg": 6, "test1/test1/*.jpg": 3}, "1 folder of images to train on"),
    "cats and dogs, flat": ({"train/*.jpg": 6, "test1/*.jpg": 3}, "test1, train, which are splits by their names"),
    "Oxford Pets": ({"images/*.jpg": 6, "annotations/*.txt": 2}, "has 1 folder of images"),
    "YOLO": ({f"{s}/{k}/*.{f}": 3 for s in ("train", "valid") for k, f in (("images", "jpg"), ("labels", "txt"))}, "train has images, but no folders of classes"),
    "YOLO by kind": ({f"{k}/{s}/*.{f}": 3 for s in ("train", "val") for k, f in (("images", "jpg"), ("labels", "txt"))}, "train has images, but no folders of classes"),
    "COCO": ({"train2017/*.jpg": 5, "val2017/*.jpg": 3, "annotations/*.json": 2}, "train2017, val2017, which are splits by their names"),
    "images beside a table": ({"images/*.jpg": 5, "/*.csv": 1}, "labels in a table are read by csv:.*/000.csv"),
    "numbered splits": (splits("train_1", "train_2"), "train_1, train_2, which are splits by their names"),
    "detection": ({"images/*.jpg": 3, "labels/*.txt": 3}, "has 1 folder of images"),
}  # fmt: skip


def read(root, **options):
    return read_folder(str(root), Options(**options))


def counts(found):
    """Images by split and class."""
    parts = {"train": found.train, "val": found.val, "test": found.test}
    return {
        split: {
            name: int(count)
            for name, count in zip(
                found.class_names,
                np.bincount(part.labels, minlength=len(found.class_names)),
                strict=True,
            )
        }
        for split, part in parts.items()
        if part
    }


@pytest.mark.parametrize("name", READ)
def test_layouts_that_are_read(tmp_path, name):
    layout, expected = READ[name]
    write(tmp_path, layout)
    found = read(tmp_path)
    assert counts(found) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_layouts_that_are_refused(tmp_path, name):
    layout, message = REFUSED[name]
    write(tmp_path, layout)
    with pytest.raises(DataError, match=f"data: .*{message}") as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_subfolders_by_request(tmp_path):
    write(tmp_path, MASKS | {"cat/masks/*.png:L": 2, "dog/more/*.jpg": 1})
    assert counts(read(tmp_path))["train"] == {"cat": 3, "dog": 4}
    assert counts(read(tmp_path, subfolders=True))["train"] == {"cat": 5, "dog": 4}
    assert counts(read(tmp_path, subfolders=False))["train"] == {"cat": 3, "dog": 3}


def test_masks_beside_their_photos(tmp_path):
    write(tmp_path, images(**TWO))
    for file in list((tmp_path / "cat").iterdir()):
        file.with_name(f"{file.stem}_mask.png").write_bytes(file.read_bytes())
    found = read(tmp_path)
    assert counts(found) == TRAIN
    assert "3 masks by their names: 000_mask.png" in found.left_out[0]


def test_what_is_left_out_is_said(tmp_path):
    write(tmp_path, splits("train", "test_hard") | {"test/*.png": 4, "train/*.png": 2})
    told = "\n".join(read(tmp_path).left_out)
    assert "test: 4 images in no folder of a class" in told
    assert "test_hard: 6 images; its name is that of no split" in told
    assert "train: 2 files in no folder of a class: 000.png, 001.png" in told
