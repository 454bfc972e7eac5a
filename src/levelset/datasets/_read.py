"""`read_images`: one way in, whatever the images lie in."""

import os
from pathlib import Path

from levelset._tools.arguments import checked
from levelset._tools.reading import reading
from levelset.datasets._callable import read_callable
from levelset.datasets._digits import read_digits
from levelset.datasets._folder import read_folder, read_zip
from levelset.datasets._idx import is_idx_folder, read_idx
from levelset.datasets._images import SPLITS, Images, Split
from levelset.datasets._tables import read_npz, read_parquet
from levelset.errors import DataError, ParameterError

__all__ = ["read_images"]

VARIABLE = "LEVELSET_DATA"
FILES = (".npz", ".parquet", ".zip")


@checked
def read_images(spec: str | Path, *, split: Split = "test", limit: int | None = None) -> Images:
    """Read labelled images, float32 with values from 0 to 1, from wherever they are.

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

    Where the source tells no splits apart, all its images serve for either. The result for a
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
    """Return the path that is meant, looking in the folder of data sets for bare names."""
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
