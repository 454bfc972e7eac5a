"""What a package exports is sorted, exists, and is the whole of it."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import types

import pytest

import levelset

PACKAGES = [
    "levelset",
    *(
        info.name
        for info in pkgutil.walk_packages(levelset.__path__, "levelset.")
        if info.ispkg and not info.name.rsplit(".", 1)[1].startswith("_")
    ),
]
MODULES = [
    info.name
    for info in pkgutil.walk_packages(levelset.__path__, "levelset.")
    if not info.name.endswith("__main__")
]
PUBLIC = sorted({*PACKAGES, "levelset.errors", "levelset.fields", "levelset.plots"})


def order(name: str) -> tuple[bool, str]:
    """Return the key of ruff's order: constants, classes, functions, each in their alphabet."""
    kind = 0 if name.isupper() else 1 if name[:1].isupper() else 2
    return kind, name


@pytest.mark.parametrize("name", sorted({*PACKAGES, *MODULES}))
def test_what_a_module_exports_is_sorted_once_and_there(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        private = hasattr(module, "__path__") and name.rsplit(".", 1)[1].startswith("_")
        assert private, f"{name} has no `__all__`"
        return
    assert exported == sorted(set(exported), key=order)
    for entry in exported:
        assert getattr(module, entry) is not None, entry


@pytest.mark.parametrize("name", [name for name in PACKAGES if name != "levelset.cli"])
def test_a_package_exports_all_that_it_imports_from_itself(name):
    package = importlib.import_module(name)
    seen = {
        entry
        for entry, thing in vars(package).items()
        if not entry.startswith("_")
        and not isinstance(thing, types.ModuleType)
        and str(getattr(thing, "__module__", "")).startswith("levelset")
    }
    assert seen <= set(package.__all__), f"{name}: exported by accident, or missing from `__all__`"


@pytest.mark.parametrize("name", PACKAGES)
def test_star_imports_bring_what_is_exported_and_nothing_else(name):
    scope: dict[str, object] = {}
    exec(f"from {name} import *", scope)
    scope.pop("__builtins__")
    assert set(scope) == set(importlib.import_module(name).__all__)


@pytest.mark.parametrize(
    "name", [*PACKAGES, "levelset.errors", "levelset.fields", "levelset.plots"]
)
def test_every_public_name_is_documented(name):
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    for entry in module.__all__:
        thing = getattr(module, entry)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            text = inspect.getdoc(thing)
            assert text, f"{name}.{entry}"
            assert text.splitlines()[0].endswith((".", "?", ":")), f"{name}.{entry}"
            assert not text.startswith(f"{entry}("), f"{name}.{entry} has a generated docstring"


def test_a_function_and_a_module_never_share_a_name():
    for name in PACKAGES:
        package = importlib.import_module(name)
        inside = {info.name for info in pkgutil.iter_modules(package.__path__)}
        functions = {n for n in package.__all__ if inspect.isfunction(getattr(package, n))}
        assert not inside & functions, name


def test_the_top_has_few_names_and_the_promised_ones():
    promised = {
        "Classifier", "Component", "GradientDescent", "LogitDifference", "Margin", "Newton",
        "Projection", "attach", "audit", "check_field", "cite", "frozen", "intersect", "project",
        "suggest_batch_size",
    }  # fmt: skip
    assert promised <= set(levelset.__all__)
    assert len(levelset.__all__) <= 25


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'levelset' has no attribute 'proyect'"):
        _ = levelset.proyect
    assert not hasattr(levelset, "annex")


def test_keywords_come_in_the_order_of_the_house():
    """Problem positional, policy keyword-only, with resources, generator and progress last."""
    last = ["batch_size", "generator", "seed", "progress"]
    for name in ("levelset", "levelset.attacks", "levelset.boundary"):
        package = importlib.import_module(name)
        for entry in package.__all__:
            function = getattr(package, entry)
            if not inspect.isfunction(function):
                continue
            parameters = inspect.signature(function).parameters
            found = [p for p in parameters if p in last]
            assert found == [p for p in last if p in parameters], f"{name}.{entry}"
            tail = list(parameters)[len(parameters) - len(found) :]
            assert tail == found or entry in ("suggest_batch_size",), f"{name}.{entry}"
            for option in found:
                kind = parameters[option].kind
                assert kind is inspect.Parameter.KEYWORD_ONLY, f"{name}.{entry}: {option}"


@pytest.mark.slow
def test_sub_packages_load_when_they_are_first_used():
    program = (
        "import sys, levelset; assert 'torch' not in sys.modules; "
        "print(*dir(levelset)); levelset.boundary.distance; levelset.project; levelset.errors; "
        "assert 'levelset.reconstruction' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    public = {name.partition(".")[2] for name in PUBLIC if name != "levelset.cli"}
    public = {name for name in public if name and "." not in name}
    assert done.stdout.split() == sorted({*levelset.__all__, *public, "__version__"})
    assert set(levelset._HOMES) == set(levelset.__all__)
