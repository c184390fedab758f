"""What a folder means: which of its folders are splits, and which are classes.

Where two readings are possible it is refused, with what was seen and what would be
right; what isn't read is said.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from keras_resnet.data.images import DataError
from keras_resnet.data.tree import Folder
from keras_resnet.units import count

# Split -> the words that it goes by: alone, or with one of `_AROUND` about them.
SPLITS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "validation", "valid", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "holdout"),
}
_WORDS = {word: split for split, words in SPLITS.items() for word in words}
_AROUND = "(?:set|data|dataset|images?|imgs?|pictures?|photos?|folder|split|seg|my)*"
_SPLIT = re.compile(f"{_AROUND}({'|'.join(_WORDS)}){_AROUND}")
# trainA, test_hard, valid2
_LIKE_SPLIT = re.compile(r"(train|test|val(?:id)?)([A-Z]$|[^a-zA-Z]|$)")
# Folders of a class that hold its photos, or other things than photos.
PHOTOS = {
    "images", "imgs", "img", "image", "photos", "pictures", "pics", "jpg", "png",
    "jpegimages",
}  # fmt: skip
OTHERS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "annots", "seg",
    "segmentation", "segmentations", "groundtruth", "gt", "bbox", "bboxes", "boxes",
    "trimaps", "thumbs", "thumbnails", "heatmaps", "depth", "segmentationclass",
    "segmentationobject",
}  # fmt: skip
_UNLABELLED = re.compile(r"un[-_ ]?(?:labell?ed|sup)", re.IGNORECASE)
NAMED = 3  # names in a message
REMEDY = "or give csv:FILE with the columns path, label and split"


class Layout(NamedTuple):
    """What a folder means.

    Attributes:
        splits: split -> class name -> its folder.
        left_out: which images aren't read, and why: a line each.
    """

    splits: dict[str, dict[str, Folder]]
    left_out: tuple[str, ...]


def understand(root: Folder) -> Layout:
    """Splits and classes of a folder, by what its folders are called and hold.

    Raises:
        DataError: it isn't one folder a class, with or without folders of splits
            around them; or it can be understood in two ways.
    """
    left_out: list[str] = []
    # Archives make a folder around all.
    top = _unwrapped(_labelled(root, left_out), lambda name: split_of(name) != "train")
    folders = _without_copies(_holding(top), left_out)
    splits = _splits(top, folders, left_out)
    if not splits:
        _refuse_what_is_no_class(top, folders)
        splits = {"train": folders}
    _note_loose(top, left_out)
    _check_classes(top, splits)
    return Layout(splits, tuple(left_out))


def split_of(name: str) -> str | None:
    """The split that a folder is by its name: "seg_train" -> "train"."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    match = _SPLIT.fullmatch(letters)
    return match and _WORDS[match[1]]


def _unwrapped(folder: Folder, around: Callable[[str], bool]) -> Folder:
    """The folder in folders that hold nothing else, if `around` takes their names."""
    while not folder.names:
        holding = [each for each in folder.folders.values() if each.count]
        if len(holding) != 1 or holding[0].names or not around(holding[0].name):
            break
        folder = holding[0]
    return folder


def _labelled(folder: Folder, left_out: list[str]) -> Folder:
    """Without a folder whose name says that its images have no labels."""
    kept = {}
    for name, each in folder.folders.items():
        if each.count and _UNLABELLED.match(name):
            left_out.append(f"{each.path}: {each.count} images without a label")
        else:
            kept[name] = each
    return dataclasses.replace(folder, folders=kept)


def _without_copies(
    folders: dict[str, Folder], left_out: list[str]
) -> dict[str, Folder]:
    """Without folders that hold the folders beside them again, as archives have it."""
    kept = {}
    for name, folder in folders.items():
        inner = {key for key, each in folder.folders.items() if each.count}
        if len(inner) > 1 and not folder.names and inner <= set(folders) - {name}:
            left_out.append(
                f"{folder.path}: {folder.count} images in the folders beside it again"
            )
        else:
            kept[name] = folder
    return kept


def _holding(folder: Folder) -> dict[str, Folder]:
    """The folders that hold photos, or nothing at all: these are for a later line."""
    return {
        name: each for name, each in folder.folders.items() if each.count or each.empty
    }


def _splits(
    top: Folder, folders: Mapping[str, Folder], left_out: list[str]
) -> dict[str, dict[str, Folder]]:
    """The classes of each split; none if the folders are no splits."""
    named: dict[str, list[Folder]] = {split: [] for split in SPLITS}
    for name, folder in folders.items():
        if split := split_of(name):
            named[split].append(folder)
    if not any(_has_classes(each) for each in named["train"]):
        return _inner_splits(folders)
    splits: dict[str, dict[str, Folder]] = {}
    for split, candidates in named.items():
        holding = [each for each in candidates if _has_classes(each)]
        for loose in (each for each in candidates if each not in holding):
            left_out.append(
                f"{loose.path}: {count(loose.count, 'image')} in no folder of a class"
            )
        if len(holding) > 1:
            raise DataError(
                f"data: {top.path} has {holding[0].name} and {holding[1].name}, both "
                f"for {split}; leave one of them"
            )
        for folder in holding:
            # seg_train/seg_train/cat, train/images/cat
            inner = _unwrapped(
                folder,
                lambda name: split_of(name) is not None or name.lower() in PHOTOS,
            )
            splits[split] = _holding(inner)
            _note_loose(inner, left_out)
    for name, folder in folders.items():
        if not split_of(name):
            left_out.append(
                f"{folder.path}: {count(folder.count, 'image')}; its name is that of "
                "no split (train, val, test)"
            )
    return splits


def _inner_splits(
    folders: Mapping[str, Folder],
) -> dict[str, dict[str, Folder]]:
    """Of classes around splits: cat/train, cat/test, dog/train, dog/test."""
    if len(folders) < 2 or any(
        folder.names
        or not folder.folders
        or "train" not in (names := [split_of(name) for name in folder.folders])
        or None in names
        or len(set(names)) < len(names)
        for folder in folders.values()
    ):
        return {}
    splits: dict[str, dict[str, Folder]] = {}
    inside = [
        {each.name for each in _inside(split)}
        for folder in folders.values()
        for split in _inside(folder)
    ]
    if inside and len(set.intersection(*inside)) > 1:
        raise DataError(
            f"data: {some(folders)} have folders for splits, and these have folders: "
            f"are they classes or folds? Give one of them, {REMEDY}"
        )
    for name, folder in folders.items():
        for inner in folder.folders.values():
            split = split_of(inner.name)
            if split and inner.count:
                splits.setdefault(split, {})[name] = inner
    return splits


def _has_classes(folder: Folder) -> bool:
    holding = _inside(folder)
    # val/images/*.jpg, of no class
    loose = len(holding) == 1 and holding[0].name.lower() in PHOTOS
    return bool(holding) and not (loose and holding[0].names)


def _inside(folder: Folder) -> list[Folder]:
    """The folders in it that hold photos."""
    return [each for each in folder.folders.values() if each.count]


def _refuse_what_is_no_class(top: Folder, folders: Mapping[str, Folder]) -> None:
    """Refuses splits without a training split, folds, years, and photos in no folder.

    Raises:
        DataError: the folders are no classes, or it isn't certain.
    """
    splits = {name: split_of(name) for name in folders if split_of(name)}
    around = [name for name in splits if _has_classes(folders[name])]
    if around or len(set(splits.values())) > 1:
        if "train" in splits.values():
            [name, *_] = [name for name, split in splits.items() if split == "train"]
            raise DataError(
                f"data: {folders[name].path} has images, but no folders of classes; "
                f"put the images of each class into a folder, {REMEDY}"
            )
        raise DataError(
            f"data: {top.path} has {', '.join(sorted(splits))}, but no train folder"
        )
    like = [name for name in folders if _LIKE_SPLIT.match(name)]
    if len(like) > 1:
        raise DataError(
            f"data: {top.path} has {some(like)}, which are splits by their names; "
            f"call them train, val and test, {REMEDY}"
        )
    if len(folders) > 1 and all(name.lower() in PHOTOS | OTHERS for name in folders):
        raise DataError(
            f"data: {top.path} has {some(folders)}, which are no classes by their "
            f"names; put the images of each class into a folder, {REMEDY}"
        )
    _refuse_same_folders(top, folders)
    if len(folders) < 2:
        raise DataError(f"data: {top.path} {_why_no_classes(top, folders)}")


def _refuse_same_folders(top: Folder, folders: Mapping[str, Folder]) -> None:
    """Of folders that hold the same folders the inner ones are classes, not they."""
    unwrapped = [
        _unwrapped(folder, lambda name: True)
        for folder in folders.values()
        if not folder.names and folder.count
    ]
    inner = [{each.name.lower() for each in _inside(folder)} for folder in unwrapped]
    if len(inner) < 2 or len(inner) < len(folders):
        return
    shared, every = set.intersection(*inner), set.union(*inner)
    if 2 * len(shared) < len(every) or len(shared - PHOTOS - OTHERS) < 2:
        return
    one, other, *_ = folders
    raise DataError(
        f"data: {top.path} has {some(folders)}, and each of them has "
        f"{some(sorted(shared))}: are {one} and {other} splits or classes? Call "
        f"splits train, val and test, give one of them, {REMEDY}"
    )


def _why_no_classes(top: Folder, folders: Mapping[str, Folder]) -> str:
    tables = [name for name in top.documents if name.lower().endswith(".csv")]
    if not top.names:
        seen = f"has {count(len(folders), 'folder')} of images"
    else:
        seen = f"has {count(len(folders), 'folder')} of images, and " + count(
            len(top.names), "image"
        )
    remedy = "; a classifier needs one for each of two classes or more"
    if tables:
        remedy += f"; labels in a table are read by csv:{top.path}/{tables[0]}"
    return seen + remedy


def _note_loose(folder: Folder, left_out: list[str]) -> None:
    if folder.names:
        names = some([name.decode(errors="replace") for name in folder.names])
        left_out.append(
            f"{folder.path}: {count(len(folder.names), 'file')} in no folder of a "
            f"class: {names}"
        )


def _check_classes(top: Folder, splits: Mapping[str, Mapping[str, Folder]]) -> None:
    """Refuses names that are one to a reader, and classes that aren't learnt.

    Raises:
        DataError: two classes of one name in two encodings; a class of another split
            that training lacks; fewer than two classes.
    """
    train = splits["train"]
    if len(train) < 2:
        raise DataError(
            f"data: {top.path} has {count(len(train), 'folder')} of images to train "
            "on; a classifier needs one for each of two classes or more"
        )
    known: dict[str, str] = {}
    for name in train:
        other = known.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise DataError(
                f"data: classes {_spelled(other)} and {_spelled(name)} are one name in "
                "two encodings of Unicode; merge the folders"
            )
    for split, classes in splits.items():
        for name in sorted(set(classes) - set(train)):
            raise DataError(
                f"data: {split}/{name} is a class that has no training images"
                + _alike(name, train)
            )


def _alike(name: str, known: Iterable[str]) -> str:
    """How a name differs from one that looks the same."""
    for other in known:
        if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name):
            return (
                f": {_spelled(name)} is not {_spelled(other)}; name both folders alike"
            )
        if other.casefold() == name.casefold():
            return f", which call it {other!r}; name both folders alike"
    return ""


def _spelled(name: str) -> str:
    """A name with what can't be told by eye written out."""
    return ascii(name)


def some(names: Iterable[str]) -> str:
    """The first of some names."""
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
