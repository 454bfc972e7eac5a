"""Rules of the house that a machine can check."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import levelset

SOURCE = Path(levelset.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = [path for path in FILES if path.name not in ("__init__.py", "__main__.py")]
HEAVY = (
    "matplotlib", "plotly", "jinja2", "tyro", "rich", "trimesh", "skimage", "ray", "pyarrow",
    "scipy", "sklearn", "PIL", "safetensors", "torchvision",
)  # fmt: skip


# Helpers without a file of tests of their own, and the file that runs every one of their functions.
TESTED_THROUGH = {
    "_tools/engines/_crew.py": "test_tools_engines_local.py",
    "auditing/_run.py": "test_auditing_audit.py",
    "auditing/_work.py": "test_auditing_audit.py",
    "auditing/_measures/_distance.py": "test_auditing_audit.py",
    "auditing/_measures/_persistence.py": "test_auditing_audit.py",
    "boundary/_regions/_balls.py": "test_boundary_regions_normals.py",
    "boundary/_second_order/_eigen.py": "test_boundary_second_order_curvature.py",
    "boundary/_sections/_cells.py": "test_boundary_sections_exact_section.py",
    "boundary/_sections/_classes.py": "test_boundary_sections_exact_section.py",
    "boundary/_sections/_cutting.py": "test_boundary_sections_exact_section.py",
    "boundary/_sections/_plane.py": "test_boundary_sections_exact_section.py",
    "boundary/_sections/_polygons.py": "test_boundary_sections_exact_section.py",
    "boundary/_sections/_probe.py": "test_boundary_sections_exact_section.py",
    "boundary/_sections/_tracing.py": "test_boundary_sections_exact_section.py",
    "boundary/_sections/_segment.py": "test_boundary_sections_exact_crossings.py",
    "boundary/_sections/_subdivision.py": "test_boundary_sections_exact_section.py",
    "boundary/_sampling/_estimate.py": "test_boundary_sampling_persistence.py",
    "boundary/_sampling/_locate.py": "test_boundary_sampling_persistence.py",
    "boundary/detect/_roc.py": "test_boundary_detect_fit.py",
    "boundary/detect/_scores.py": "test_boundary_detect.py",
    "boundary/_second_order/_differences.py": "test_boundary_second_order_curvature.py",
    "boundary/_second_order/_gaussian.py": "test_boundary_second_order_curvature.py",
    "boundary/_second_order/_parts.py": "test_boundary_second_order_curvature.py",
    "cli/_audit.py": "test_cli_main.py",
    "cli/_options.py": "test_cli_main.py",
    "cli/_recorded.py": "test_cli_explain.py",
    "cli/_train.py": "test_cli_main.py",
    "datasets/_archives.py": "test_datasets_exported.py",
    "datasets/_grammar.py": "test_datasets_hostile.py",
    "datasets/_pcd.py": "test_datasets_points.py",
    "datasets/_ply.py": "test_datasets_points.py",
    "datasets/_records.py": "test_datasets_points.py",
    "report/_class_frequencies.py": "test_report_sections_persistence.py",
    "report/_detection.py": "test_report_sections_curvature.py",
    "report/_presentation.py": "test_report_sections_distance.py",
    "reconstruction/_meshes/_marching.py": "test_reconstruction_meshes_exact.py",
    "shapes/_polytopes/_crossing.py": "test_shapes_polytopes_faces.py",
    "shapes/_polytopes/_formula.py": "test_shapes_polytopes_network.py",
    "shapes/_polytopes/_partition.py": "test_shapes_polytopes_network.py",
    "reconstruction/_history.py": "test_reconstruction_surface.py",
    "training/_cross_entropy.py": "test_training_train.py",
    "training/_data.py": "test_training_train.py",
    "training/_history.py": "test_training_train.py",
    "training/_loop.py": "test_training_train.py",
}


def short(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def mirrors(path: Path) -> list[Path]:
    """Return the files that may hold the tests of a module: its own, or its whole family's."""
    folders = [part.lstrip("_") for part in path.relative_to(SOURCE).parts[:-1]]
    name = path.stem.lstrip("_")
    if not folders:
        return [TESTS / f"test_{name}.py"]
    family = "_".join(folders)
    own = TESTS.joinpath(*folders) / f"test_{family}_{name}.py"
    return [own, TESTS / f"test_{folders[0]}.py"]


def test_every_module_has_a_file_of_tests():
    own = {short(path) for path in MODULES if any(file.is_file() for file in mirrors(path))}
    bare = {short(path): mirrors(path)[0] for path in MODULES if short(path) not in own}
    wanted = [
        f"{name} wants tests/{file.relative_to(TESTS).as_posix()}"
        for name, file in bare.items()
        if name not in TESTED_THROUGH
    ]
    assert not wanted, "\n".join(wanted)
    assert set(TESTED_THROUGH) == set(bare), "take those off the list that have a file, or are gone"
    assert set(TESTED_THROUGH.values()) <= {path.name for path in TESTS.rglob("test_*.py")}


def test_files_of_tests_have_different_names():
    names = [path.name for path in TESTS.rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_importing_the_package_is_light():
    """Nothing that draws, reads files or speaks to a terminal comes with the names of the idea."""
    program = (
        "import sys, torch, numpy, jaxtyping; before = set(sys.modules); import levelset; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    brought = {name.split(".")[0] for name in done.stdout.split()}
    assert not brought & set(HEAVY)
    assert "levelset" in brought


def imports_within(tree: ast.AST) -> list[str]:
    """Return the packages imported inside functions."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Import):
                found += [alias.name for alias in inner.names]
            elif isinstance(inner, ast.ImportFrom):
                found.append(inner.module or "")
    return found


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {short(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def test_functions_import_nothing_but_optional_extras_and_what_is_slow(trees):
    extras = {"plotly", "matplotlib", "jinja2", "trimesh", "skimage", "ray"}
    slow = {"sklearn", "pyarrow"}
    offenders = []
    for name, tree in trees.items():
        allowed = extras | slow if name.startswith("datasets/") else extras
        # Help and wrong words are answered before anything slow is imported.
        allowed = (
            allowed | {"torch", "numpy", "rich", "tyro"} if name.startswith("cli/") else allowed
        )
        ours = name.startswith("cli/")
        offenders += [
            f"{name}: {module}" for module in imports_within(tree)
            if module.split(".")[0] not in allowed and not (ours and module.startswith("levelset"))
        ]  # fmt: skip
    assert not offenders


def test_files_are_short():
    lines = {short(path): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {name: count for name, count in lines.items() if count > 500} == {}


def test_functions_are_short(trees):
    offenders = []
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                documented = ast.get_docstring(node) is not None and len(node.body) > 1
                length = (node.end_lineno or 0) - node.body[documented].lineno + 1
                offenders += [f"{name}: {node.name}: {length} lines"] if length > 60 else []
    assert not offenders


def test_functions_of_many_arguments_are_listed_with_a_reason(trees):
    listed = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["tool"]["levelset"]
    many = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
                if len(names) - (names[:1] in (["self"], ["cls"])) > 10:
                    many.add(node.name)
    assert many == set(listed["arguments"])
    assert all(listed["arguments"].values())


def test_nothing_logs_asks_for_a_device_or_writes_gradients(trees):
    offenders = []
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and any(a.name == "logging" for a in node.names):
                offenders.append(f"{name}:{node.lineno}: logging")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = node.func.attr
                training = name.startswith("training/")
                if called == "cuda" or (called == "backward" and not training):
                    offenders.append(f"{name}:{node.lineno}: {called}")
    assert not offenders
