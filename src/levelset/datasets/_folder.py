"""Image folders, one sub-folder a class, and zips of them."""

import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from levelset._tools.reading import check_zip, reading
from levelset.datasets._arrays import images_from_arrays
from levelset.datasets._decode import SUFFIXES, decode_all
from levelset.datasets._images import SPLITS, Images, Split
from levelset.errors import DataError

__all__ = ["read_folder", "read_zip"]

Member = tuple[str, ...]
LAYOUT = "Expected CLASS/IMAGE, or train/CLASS/IMAGE and test/CLASS/IMAGE"


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


def _read_files(folder: Path, members: list[Member]) -> Iterator[tuple[str, bytes]]:
    for member in members:
        path = folder.joinpath(*member)
        try:
            data = path.read_bytes()
        except OSError as error:
            message = f"read_images: cannot read {path} ({error.strerror})."
            raise DataError(message) from error
        yield str(path), data


def _read_members(
    archive: zipfile.ZipFile, file: Path, members: list[Member]
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
    members: list[Member], split: Split, limit: int | None, *, source: str
) -> tuple[list[Member], list[int], list[str]]:
    """Return the members of a split with their labels, the classes in turn, and the classes."""
    images = sorted(filter(_is_image, members))
    if not images:
        found = ", ".join(sorted({member[0] for member in members})[:5]) or "nothing"
        message = f"read_images: {source} holds no images, but {found}. {LAYOUT}."
        raise DataError(message)
    root = _common_root(images)
    parts = [(member, member[root:]) for member in images]
    if any(len(p) >= 3 and p[0] in SPLITS for _, p in parts):
        parts = [(member, p) for member, p in parts if p[0] in SPLITS]
        wanted = [(member, p[1:]) for member, p in parts if p[0] == split]
        parts = [(member, p[1:]) for member, p in parts]
        if not wanted:
            message = f"read_images: {source} has no {split} split: no images below {split}/."
            raise DataError(message)
    else:
        wanted = parts
    stray = next((member for member, p in parts if len(p) < 2), None)
    if stray is not None:
        message = (
            f"read_images: {source} must have one sub-folder a class, got the image "
            f"{'/'.join(stray)} outside of them. {LAYOUT}, or give a `module:callable`."
        )
        raise DataError(message)
    classes = sorted({p[0] for _, p in parts})
    return (*_in_turn(wanted, classes, limit), classes)


def _in_turn(
    wanted: list[tuple[Member, Member]], classes: list[str], limit: int | None
) -> tuple[list[Member], list[int]]:
    number = {name: label for label, name in enumerate(classes)}
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int, Member]] = []
    for member, parts in wanted:
        ranked.append((seen[parts[0]], number[parts[0]], member))
        seen[parts[0]] += 1
    ranked = sorted(ranked)[:limit]
    return [member for _, _, member in ranked], [label for _, label, _ in ranked]


def _is_image(member: Member) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in member)
    return not hidden and Path(member[-1]).suffix.lower() in SUFFIXES


def _common_root(images: list[Member]) -> int:
    """Return how many leading folders all images share above the classes or splits."""
    root = 0
    while (
        all(len(member) - root >= 3 for member in images)
        and len({member[root] for member in images}) == 1
        and images[0][root] not in SPLITS
    ):
        root += 1
    return root
