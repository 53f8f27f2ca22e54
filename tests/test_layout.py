"""Imports go one way: recipes -> datamodules -> lidar_lightning, and within the package downwards; files are short."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    "assets", "utils", "parametrisation schedules", "losses solvers", "backbones", "shapes", "rewards", "sampling",
    "lookahead", "guidance", "functional", "samplers", "evaluation", "runs", "modules", "pretraining", "__init__",
    "commands", "cli",
)  # fmt: skip
"""Units of the package from the bottom to the top; units of one layer do not import each other."""
LONGEST = 250
"""Lines of a file: above that it holds more than one concept."""
RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer.split()}


def files(folder: str) -> dict[str, Path]:
    """Module name to file; a package is named by its folder."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = files("lidar_lightning")
LIBRARY = {**MODULES, **files("datamodules"), **files("recipes")}


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules that a file imports anywhere: at its top, in a function, or for type checkers only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in LIBRARY else str(node.module)


IMPORTS = {name: set(imported(ast.parse(path.read_text()))) for name, path in LIBRARY.items()}


def unit(module: str) -> str:
    return (*module.split("."), "__init__")[1]


def test_every_unit_has_a_layer():
    assert {unit(name) for name in MODULES} == set(RANK)


@pytest.mark.parametrize("name", MODULES)
def test_the_package_imports_downwards_only(name):
    own = unit(name)
    for other in IMPORTS[name] & MODULES.keys():
        assert unit(other) == own or RANK[unit(other)] < RANK[own], f"{name} imports {other}, which is not below it"


def test_no_file_imports_itself_through_others():
    """Nor would it if all imports stood at the top."""
    try:
        TopologicalSorter({name: seen & LIBRARY.keys() for name, seen in IMPORTS.items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    "package, above", [("lidar_lightning", {"datamodules", "recipes"}), ("datamodules", {"recipes"})]
)
def test_the_library_does_not_know_what_is_above_it(package, above):
    known = {
        (name, other)
        for name, seen in IMPORTS.items()
        if name.partition(".")[0] == package
        for other in seen
        if other.partition(".")[0] in above
    }
    assert known == (
        {("lidar_lightning.cli", f"recipes.{name}") for name in ("demo", "rounds")}
        if package == "lidar_lightning"
        else set()
    )


def test_the_root_holds_few_modules():
    assert {path.stem for path in (ROOT / "lidar_lightning").glob("*.py")} == {
        "__init__", "cli", "functional", "parametrisation", "sampling", "schedules"
    }  # fmt: skip


@pytest.mark.parametrize("folder", ["lidar_lightning", "datamodules", "recipes", "benchmarks", "tests"])
def test_no_file_is_long(folder):
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert not {str(path): count for path, count in lines.items() if count > LONGEST}
