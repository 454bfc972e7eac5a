"""`read_images`: labelled images from any source."""

import gzip
import math
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset._tools.arguments import checked
from levelset._tools.reading import check_size, check_zip, reading
from levelset.datasets._arrays import images_from_arrays
from levelset.datasets._callable import read_callable
from levelset.datasets._decode import SUFFIXES, decode_all
from levelset.datasets._images import SPLITS, Images, Split
from levelset.datasets._tables import read_npz, read_parquet
from levelset.errors import DataError, ParameterError

__all__ = ["is_idx_folder", "read_digits", "read_folder", "read_idx", "read_images", "read_zip"]

VARIABLE = "LEVELSET_DATA"
FILES = (".npz", ".parquet", ".zip")
TEST = 500  # of 1,797
BRIGHTEST = 16  # pixels count the inked ones among 4 x 4
PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}
MORE = 1 << 16  # bytes beyond the promised that are counted
UNSIGNED_BYTE = 8  # the code of the type in the third byte of the magic number
CLASSES = {
    "fashion-mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
}
Entry = tuple[str, ...]
LAYOUT = "Expected CLASS/IMAGE, or train/CLASS/IMAGE and test/CLASS/IMAGE"


@checked
def read_images(spec: str | Path, *, split: Split = "test", limit: int | None = None) -> Images:
    """Read labelled images, float32 with values from 0 to 1.

    `spec` is one of

    - `digits`: scikit-learn's handwritten digits, `(n, 1, 8, 8)`, 1,297 train and 500 test;
    - a folder of IDX files under MNIST's own names, gzipped or not: `(n, 1, h, w)`;
    - a folder or `.zip` of images, one sub-folder a class, as it is or below `train/` and
      `test/`, all of one size: `(n, c, h, w)`, `c` being 1 if all are grey;
    - an `.npz` with `images` (or `points`, `x`) and `labels` (or `y`), or Keras' `x_train`,
      `y_train`, `x_test`, `y_test`; uint8 is divided by 255 and put channels first, floats are
      taken as they are; `classes`, if present, names the classes;
    - a `.parquet` with the columns `image` (or `img`), encoded pictures, and `label`;
    - `module:callable`, called with `split=` if it takes that, returning `(points, labels)` or
      [`Images`][levelset.datasets.Images];
    - the name of a folder in the folder that the variable `LEVELSET_DATA` names, such as `mnist`.

    A source without splits gives all its images for either. The result for a
    `limit` is the front of the result without one. An image folder is read class by class in
    turn, so that its front has all classes; other sources keep their order.

    It does not resize, normalise or shuffle: normalisation belongs to the model
    ([`Classifier`][levelset.Classifier]). Pickled arrays are refused.

    Cost: for folders, zips and Parquet, decoding what is returned; otherwise reading the file.
    Memory: 4 bytes a value, and about as much again for the time of reading.

    Args:
        spec: What to read, see above.
        split: Which part, where the source has parts.
        limit: At most this many images, from the front; `None` for all.

    Returns:
        The images, finite and within their bounds, with labels in range.

    Raises:
        DataError: If the source is missing, not understood, empty, damaged or unsound.
        ParameterError: If `split` or `limit` is out of range.

    Example:
        >>> from levelset.datasets import read_images
        >>> images = read_images("digits", split="train", limit=100)
        >>> images.points.shape, images.labels[:5].tolist()
        (torch.Size([100, 1, 8, 8]), [0, 1, 2, 3, 4])
    """
    if split not in SPLITS:
        message = f"read_images: `split` must be 'train' or 'test', got {split!r}."
        raise ParameterError(message)
    if limit is not None and limit < 1:
        message = f"read_images: `limit` must be at least 1, or None, got {limit}."
        raise ParameterError(message)
    text = str(spec)
    if text == "digits":
        return read_digits(split=split, limit=limit)
    path = _locate(text)
    if path is not None:
        with reading("read_images", path):
            return _read_path(path, split, limit)
    if ":" in text:
        return read_callable(text, split=split, limit=limit)
    raise DataError(_unknown(text))


def _locate(text: str) -> Path | None:
    """Return the path of a source, looking in the folder of data sets for bare names."""
    if not text:
        return None
    path = Path(text).expanduser()
    if path.exists():
        return path
    home = os.environ.get(VARIABLE)
    if home and text == path.name:
        known = Path(home).expanduser() / text
        return known if known.exists() else None
    return None


def _read_path(path: Path, split: Split, limit: int | None) -> Images:
    if not path.is_dir():
        return _read_file(path, split, limit, name=path.stem)
    name = path.resolve().name
    if is_idx_folder(path):
        return read_idx(path, split=split, limit=limit, name=name)
    try:
        entries = [e for e in path.iterdir() if not e.name.startswith(".")]
    except OSError as error:
        message = f"read_images: cannot read the folder {path} ({error.strerror})."
        raise DataError(message) from error
    archives = [entry for entry in entries if entry.suffix.lower() in FILES]
    if len(archives) == 1 and not any(entry.is_dir() for entry in entries):
        return _read_file(archives[0], split, limit, name=name)
    return read_folder(path, split=split, limit=limit, name=name)


def _read_file(path: Path, split: Split, limit: int | None, *, name: str) -> Images:
    match path.suffix.lower():
        case ".zip":
            return read_zip(path, split=split, limit=limit, name=name)
        case ".npz":
            return read_npz(path, split=split, limit=limit, name=name)
        case ".parquet":
            return read_parquet(path, limit=limit, name=name)
        case _:
            message = f"read_images: {path} is of no kind that is understood. {_understood()}"
            if "ubyte" in path.name:
                message = f"read_images: {path} is one IDX file: give its folder, {path.parent}."
            raise DataError(message)


def _unknown(text: str) -> str:
    path = Path(text)
    if path.name != text or path.suffix.lower() in FILES:
        return f"read_images: there is no file or folder {text}. {_understood()}"
    return f"read_images: {text!r} is no data set that is known here. {_understood()}"


def _understood() -> str:
    home = os.environ.get(VARIABLE)
    if home and Path(home).is_dir():
        names = sorted(entry.name for entry in Path(home).iterdir() if entry.is_dir())
        named = f"a name in {VARIABLE} ({', '.join(names) or 'empty'})"
    else:
        named = f"a name in the folder that {VARIABLE} names (not set, or no folder)"
    return (
        "Understood are: digits; a folder of IDX files (MNIST's own); a folder or .zip of images, "
        f"one sub-folder a class; .npz; .parquet; module:callable; {named}."
    )


def read_digits(*, split: Split, limit: int | None) -> Images:
    """Return the digits, `(n, 1, 8, 8)`: 1,297 to train on, 500 to test on.

    The split is a rule, not a draw, so that it never moves with a library: with the images in the
    order of their classes, those at which `500 * position / 1797` passes a whole number are for
    testing. Each class is thus split alike, to one image. Writers are in both parts.

    References:
        - E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """
    # scikit-learn takes more than a second to import.
    from sklearn.datasets import load_digits

    data = load_digits()
    count = len(data.target)
    position = np.empty(count, dtype=np.int64)
    position[np.argsort(data.target, kind="stable")] = np.arange(count)
    testing = (position + 1) * TEST // count > position * TEST // count
    rows = testing if split == "test" else ~testing
    return images_from_arrays(
        data.images[rows, None] / BRIGHTEST,
        data.target[rows],
        source="digits",
        name="digits",
        limit=limit,
    )


def is_idx_folder(folder: Path) -> bool:
    """Tell whether the folder holds IDX files of either split under MNIST's names."""
    return any(
        _find(folder, split, kind) is not None
        for split in PREFIXES
        for kind in ("images", "labels")
    )


def read_idx(folder: Path, *, split: Split, limit: int | None, name: str) -> Images:
    """Return the images of an IDX folder, `(n, 1, h, w)`.

    Both files are read whole, so that a truncated one is noticed whatever the `limit`. The format
    carries no names of classes: they are the numbers, but for Fashion-MNIST, known by its folder.

    Raises:
        DataError: If a file is missing, truncated, too large, or not what its header says.

    References:
        - Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    images_file = _find_or_fail(folder, split, "images")
    labels_file = _find_or_fail(folder, split, "labels")
    return images_from_arrays(
        _parse(images_file, axes=3),
        _parse(labels_file, axes=1),
        source=f"{images_file} with {labels_file.name}",
        name=name,
        classes=CLASSES.get(folder.resolve().name),
        limit=limit,
    )


def _names(split: Split, kind: str) -> list[str]:
    axes = 3 if kind == "images" else 1
    stem = f"{PREFIXES[split]}-{kind}"
    return [f"{stem}{dot}idx{axes}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]


def _find(folder: Path, split: Split, kind: str) -> Path | None:
    candidates = (folder / name for name in _names(split, kind))
    return next((path for path in candidates if path.is_file()), None)


def _find_or_fail(folder: Path, split: Split, kind: str) -> Path:
    path = _find(folder, split, kind)
    if path is None:
        message = (
            f"read_images: the IDX folder {folder} has no {kind} of the {split} split: "
            f"expected {_names(split, kind)[0]}, with or without .gz."
        )
        raise DataError(message)
    return path


def _parse(path: Path, *, axes: int) -> NDArray[Any]:
    try:
        with path.open("rb") as raw:
            stream: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            return _parse_stream(stream, path, axes)
    except (OSError, EOFError, zlib.error) as error:
        message = (
            f"read_images: {path} is damaged, truncated or unreadable ({error}). Fetch it again."
        )
        raise DataError(message) from error


def _parse_stream(stream: Any, path: Path, axes: int) -> NDArray[Any]:
    """Read the header, and no more than it promises."""
    head = stream.read(4 + 4 * axes)
    if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, UNSIGNED_BYTE, axes]):
        message = (
            f"read_images: {path} must be an IDX file of unsigned bytes with {axes} "
            f"{'axis' if axes == 1 else 'axes'} (magic number {2048 + axes}), "
            f"got the first bytes {head[:4].hex(' ') or 'of an empty file'}."
        )
        raise DataError(message)
    shape = struct.unpack(f">{axes}I", head[4:])
    promised = math.prod(shape)
    check_size(promised, f"read_images: {path}", on_disk=path.stat().st_size)
    data = stream.read(promised)
    size = len(data) + len(stream.read(MORE))
    if size != promised:
        message = (
            f"read_images: {path} is truncated or damaged: its header promises {promised} bytes "
            f"after itself, there are {size}{' or more' * (size >= promised + MORE)}. "
            "Fetch it again."
        )
        raise DataError(message)
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_folder(folder: Path, *, split: Split, limit: int | None, name: str) -> Images:
    """Return the images of a folder, `(n, c, h, w)`: the classes in turn, one image of each.

    The layout is `CLASS/IMAGE`, then the same images serve for either split, or
    `train/CLASS/IMAGE` and `test/CLASS/IMAGE`. Classes are numbered in the order of their names,
    over both splits. The first of each class come first, then the second of each, and so on, so
    that any `limit` takes the classes evenly; only what is returned is opened.

    Raises:
        DataError: If there is nothing to read, an image does not decode, or sizes differ.
    """
    members = [
        (Path(where) / file).relative_to(folder).parts
        for where, _, files in os.walk(folder, followlinks=True)
        for file in files
    ]
    chosen, labels, classes = _choose(members, split, limit, source=str(folder))
    return images_from_arrays(
        decode_all(_read_files(folder, chosen)),
        np.array(labels),
        source=str(folder),
        name=name,
        classes=classes,
    )


def read_zip(file: Path, *, split: Split, limit: int | None, name: str) -> Images:
    """Return the images of a zip of such a folder; nothing is unpacked to disk.

    Raises:
        DataError: As for folders, or if the zip is damaged or too large.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        message = f"read_images: {file} is damaged or no zip ({error}). Fetch it again."
        raise DataError(message) from error
    with archive, reading("read_images", file):
        members = [tuple(n.split("/")) for n in archive.namelist() if not n.endswith("/")]
        chosen, labels, classes = _choose(members, split, limit, source=str(file))
        check_zip(archive, f"read_images: {file}", ["/".join(member) for member in chosen])
        pixels = decode_all(_read_members(archive, file, chosen))
    return images_from_arrays(
        pixels, np.array(labels), source=str(file), name=name, classes=classes
    )


def _read_files(folder: Path, members: list[Entry]) -> Iterator[tuple[str, bytes]]:
    for member in members:
        path = folder.joinpath(*member)
        try:
            data = path.read_bytes()
        except OSError as error:
            message = f"read_images: cannot read {path} ({error.strerror})."
            raise DataError(message) from error
        yield str(path), data


def _read_members(
    archive: zipfile.ZipFile, file: Path, members: list[Entry]
) -> Iterator[tuple[str, bytes]]:
    for member in members:
        name = "/".join(member)
        try:
            data = archive.read(name)
        except Exception as error:  # wrong checksum, password, and what decompressors raise
            message = f"read_images: cannot read {name} in {file} ({error}). Fetch the zip again."
            raise DataError(message) from error
        yield f"{name} in {file}", data


def _choose(
    members: list[Entry], split: Split, limit: int | None, *, source: str
) -> tuple[list[Entry], list[int], list[str]]:
    """Return the members of a split with their labels, the classes in turn, and the classes."""
    images = sorted(filter(_is_image, members))
    if not images:
        folders = ", ".join(sorted({member[0] for member in members})[:5]) or "nothing"
        message = f"read_images: {source} holds no images, but {folders}. {LAYOUT}."
        raise DataError(message)
    root = _common_root(images)
    parts = [(member, member[root:]) for member in images]
    if any(len(p) >= 3 and p[0] in SPLITS for _, p in parts):
        parts = [(member, p) for member, p in parts if p[0] in SPLITS]
        chosen = [(member, p[1:]) for member, p in parts if p[0] == split]
        parts = [(member, p[1:]) for member, p in parts]
        if not chosen:
            message = f"read_images: {source} has no {split} split: no images below {split}/."
            raise DataError(message)
    else:
        chosen = parts
    stray = next((member for member, p in parts if len(p) < 2), None)
    if stray is not None:
        message = (
            f"read_images: {source} must have one sub-folder a class, got the image "
            f"{'/'.join(stray)} outside of them. {LAYOUT}, or give a `module:callable`."
        )
        raise DataError(message)
    classes = sorted({p[0] for _, p in parts})
    return (*_in_turn(chosen, classes, limit), classes)


def _in_turn(
    members: list[tuple[Entry, Entry]], classes: list[str], limit: int | None
) -> tuple[list[Entry], list[int]]:
    number = {name: label for label, name in enumerate(classes)}
    counts: Counter[str] = Counter()
    ranked: list[tuple[int, int, Entry]] = []
    for member, parts in members:
        ranked.append((counts[parts[0]], number[parts[0]], member))
        counts[parts[0]] += 1
    ranked = sorted(ranked)[:limit]
    return [member for _, _, member in ranked], [label for _, label, _ in ranked]


def _is_image(member: Entry) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in member)
    return not hidden and Path(member[-1]).suffix.lower() in SUFFIXES


def _common_root(images: list[Entry]) -> int:
    """Return how many leading folders all images share above the classes or splits."""
    root = 0
    while (
        all(len(member) - root >= 3 for member in images)
        and len({member[root] for member in images}) == 1
        and images[0][root] not in SPLITS
    ):
        root += 1
    return root
