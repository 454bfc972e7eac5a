"""`levelset reconstruct`: raw points of scans in, meshes or curves out."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import tyro

import levelset
from levelset._tools.extras import check_extras
from levelset._tools.files import make_folder
from levelset._tools.locks import sole_user
from levelset.cli._options import Placed, check_file, check_folder, show
from levelset.cli._progress import busy, log, watching, watching_several
from levelset.cli._words import count
from levelset.errors import DataError, LevelSetError, ParameterError

if TYPE_CHECKING:
    from levelset.datasets import PointCloud
    from levelset.reconstruction import Fast, Paper
    from levelset.reconstruction._scans import Fitting, Scan, Shape

__all__ = ["ReconstructCommand"]

MESHES = (".ply", ".obj", ".stl", ".glb")
SINGLES = (".stl", ".glb")
CURVES = (".ply", ".obj", ".svg")
Lines: TypeAlias = dict[str, int | float | str]


@dataclass(frozen=True, kw_only=True)
class ReconstructCommand(Placed):
    """Turn raw points of a scan, without normals, into a surface or a curve.

    Writes a mesh in the units and at the place of the scan. Several scans, or a folder of them,
    go into a folder, each under its own name. Ctrl-C ends the fit and meshes what is there; of
    several scans it first finishes those in hand.
    """

    scans: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SCAN...")]
    """Files of points (.ply, .obj, .off, .xyz, .txt, .csv, .asc, .pts, .ptx, .npy, .npz, .pcd,
    .las, .laz, .e57, or one of these with .gz), or folders of them; sample is a scan that comes
    with the package."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="MESH")] = None
    """The file to write: .ply, .obj, .stl or .glb; by default SCAN-mesh.ply in this folder. For
    several scans a folder."""
    seconds: float = 60.0
    """Most time to fit one scan."""
    method: Literal["fast", "paper"] = "fast"
    """fast: seconds to minutes; paper: the published network, half a CPU-day for 30,000 points."""
    open: bool = False
    """Leave open what the scan did not see; by default the surface is closed."""
    lids: Literal["smooth", "flat"] = "smooth"
    """How holes are closed: bent as the rest is, or straight across, for the unseen base of what
    stood on a table."""
    curve: bool = False
    """The points lie on a curve: write lines (.ply, .obj or .svg)."""
    resolution: int = count(256)
    """Cells of the mesh along the longest side."""
    normals: bool = False
    """Take the normals in the file rather than find them."""
    sensor: Annotated[tuple[float, float, float] | None, tyro.conf.arg(metavar="X Y Z")] = None
    """From where the points were seen: that side is the outside. E57, PTX and PCD files say it
    themselves."""
    preview: bool = False
    """Write a coarse mesh as soon as there is one; the finished one takes its place."""
    resume: bool = False
    """Go on with what an earlier call left unfinished; scans that are done are left alone."""
    report: bool = False
    """Write a page beside each mesh: scan, mesh and cuts, to turn with the mouse."""

    def execute(self) -> None:
        """Read, reconstruct and write; several scans side by side."""
        if self.curve and (self.report or self.preview or self.normals):
            message = "--curve takes no --report, --preview or --normals. Leave them out."
            raise ParameterError(message)
        if self.lids == "flat" and (self.open or self.curve):
            message = "--lids flat closes a surface. Leave it out, or --open and --curve."
            raise ParameterError(message)
        if self.sensor and self.curve:
            message = "--sensor says the outside of a surface. Leave it out, or --curve."
            raise ParameterError(message)
        if self.preview and self.engine == "ray":
            message = "--preview needs --engine local. Leave one of them out."
            raise ParameterError(message)
        check_extras(
            "reconstruct",
            *["ray"] * (self.engine == "ray"),
            *[] if self.curve else ["mesh"],
            *["report"] * self.report,
        )
        self.place()
        scans = self._scans()
        several = len(scans) > 1 or any(path.is_dir() for path in self.scans)
        suffix = self._suffixes()[0]
        out = self.out
        if out is None:
            if several:
                message = "--out is needed for several scans: the folder for their meshes."
                raise ParameterError(message)
            out = Path(f"{scans[0].stem}-{'curve' if self.curve else 'mesh'}.ply")
        targets = [out / f"{scan.stem}{suffix}" if several else out for scan in scans]
        self._check_targets(scans, targets)
        if not several:
            check_file(out)
            show(self._one(scans[0], out), json=self.json)
            return
        check_folder(out)
        with sole_user("reconstruct", out):
            self._several(scans, targets)

    def _several(self, scans: list[Path], targets: list[Path]) -> None:
        """Reconstruct all scans, side by side; one that fails stops no other."""
        from levelset._tools.engines import Place
        from levelset.reconstruction._scans import fit_scans

        done = [number for number, target in enumerate(targets) if self._is_done(target)]
        lines = {number: _there(targets[number]) for number in done}
        failed = []
        log(self.where_words())
        with watching_several(len(scans)) as watch:
            for number in done:
                watch(scans[number].name, None)
            fits = fit_scans(
                self._fitting(),
                lambda number: self._read(scans[number], targets[number]),
                [number for number in range(len(scans)) if number not in lines],
                Place(**self.where()),
                lambda number, step: watch(scans[number].name, step) if step else None,
            )
            for number, scan, shape in fits:
                name = scans[number].name
                watch(name, None)
                try:
                    if isinstance(shape, LevelSetError):
                        raise shape
                    lines[number] = self._written(shape, scan.cloud, targets[number])
                except LevelSetError as error:
                    failed.append(name)
                    log(f"levelset: {name}: {error}")
        shown: Lines = {}
        for number, own in sorted(lines.items()):
            shown |= {f"{scans[number].stem}: {key}": value for key, value in own.items()}
        show(shown, json=self.json)
        if failed:
            message = f"{len(failed)} of {len(scans)} scans failed: {', '.join(sorted(failed))}."
            raise DataError(message)

    def _fitting(self) -> "Fitting":
        from levelset.reconstruction._scans import Fitting

        return Fitting(
            self._settings(),
            self.resolution,
            self.seed,
            is_curve=self.curve,
            closed=not self.open,
            lids=self.lids,
            preview=self.preview,
            resume=self.resume,
            is_near=self.engine == "local",
        )

    def _settings(self) -> "Fast | Paper":
        settings = levelset.reconstruction
        kind = settings.Paper if self.method == "paper" else settings.Fast
        return kind(seconds=self.seconds)

    def _suffixes(self) -> tuple[str, ...]:
        return CURVES if self.curve else MESHES

    def _scans(self) -> list[Path]:
        """Return the files to read, those of folders in the order of their names."""
        files: list[Path] = []
        for path in self.scans:
            if not path.is_dir():
                files.append(path)
                continue
            suffixes = levelset.datasets._points.POINT_SUFFIXES
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
            if not inside:
                message = f"{path} holds no file of points ({', '.join(suffixes)})."
                raise DataError(message)
            files += inside
        if not files:
            message = "give at least one SCAN, a file of points or a folder of them."
            raise ParameterError(message)
        return files

    def _check_targets(self, scans: list[Path], targets: list[Path]) -> None:
        """Say before the work what could not be written after it."""
        suffixes = self._suffixes()
        for scan, target in zip(scans, targets, strict=True):
            if target.suffix.lower() not in suffixes:
                message = (
                    f"--out {target} must end in one of {', '.join(suffixes)}"
                    f"{'' if self.curve else ' (for lines, give --curve)'}."
                )
                raise ParameterError(message)
            if target.exists() and scan.exists() and target.samefile(scan):
                message = f"--out {target} is the scan itself. Choose another name."
                raise ParameterError(message)
        if len(set(targets)) < len(targets):
            twice = next(t for t in targets if targets.count(t) > 1)
            message = f"two scans would both be written to {twice}. Rename one of them."
            raise ParameterError(message)

    def _is_done(self, target: Path) -> bool:
        """Return whether an earlier call wrote all that this one would."""
        if not (self.resume and target.exists()) or _part(target).exists():
            return False
        return not self.report or target.with_suffix(".html").exists()

    def _one(self, scan: Path, target: Path) -> Lines:
        """Reconstruct one scan, unless that was done before."""
        if self._is_done(target):
            return _there(target)
        piece = self._read(scan, target)
        with watching(piece.cloud.name) as watch:
            shape = self._fitting().fitted(piece, watch)
        return self._written(shape, piece.cloud, target)

    def _read(self, scan: Path, target: Path) -> "Scan":
        """Return the points of a scan, and make room for what comes of them."""
        from levelset.reconstruction._scans import Scan, read_scan

        cloud = read_scan(scan)
        for note in cloud.notes:
            log(f"{scan.name}: {note}")
        if self.normals and cloud.normals is None:
            message = f"{cloud.name}: the file holds no normals. Leave --normals out."
            raise DataError(message)
        make_folder(target.parent)
        if not self.resume:
            shutil.rmtree(_part(target), ignore_errors=True)
        return Scan(cloud, target, self.normals, self.sensor)

    def _written(self, shape: "Shape", cloud: "PointCloud", target: Path) -> Lines:
        """Write what comes of a scan, and return the lines to show."""
        lines: Lines = {k: _shown(v) for k, v in shape.summary().items()}
        for note in shape.notes:
            log(f"{cloud.name}: {note}")
        if isinstance(shape, levelset.reconstruction.Curve):
            shape.lines.save(target)
            return lines | {"curve": str(target)}
        mesh = shape.mesh.with_scalars(cloud.points, cloud.scalars)
        mesh.save(target)
        if any(mesh.origin) and target.suffix.lower() in SINGLES:
            place = ", ".join(f"{x:.15g}" for x in mesh.origin)
            log(
                f"{cloud.name}: {target.suffix} keeps seven digits, so the mesh was moved: add "
                f"({place}) to its coordinates, as {target.name}.origin.txt says."
            )
        if self.report:
            page = target.with_suffix(".html")
            pages = levelset.report
            with busy("Writing the page"):
                pages.write(page, pages.surface(shape, name=cloud.name), title=cloud.name)
            lines["report"] = str(page)
        trained = [step for step in shape.history if step.stage == "training"]
        if not trained or trained[-1].done == trained[-1].total:
            shutil.rmtree(_part(target), ignore_errors=True)  # else --resume goes on from there
        return lines | {"mesh": str(target)}


def _there(target: Path) -> Lines:
    return {"mesh": str(target), "was": "there already"}


def _part(target: Path) -> Path:
    from levelset.reconstruction._scans import part_of

    return part_of(target)


def _shown(value: int | float | bool | None) -> int | float | str:
    return "unknown" if value is None else value
