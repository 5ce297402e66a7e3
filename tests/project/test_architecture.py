"""The tree is as docs/architecture.md shows it, and imports run downwards without circles.

`python tests/project/test_architecture.py` writes the trees of that page anew, from the first lines
of the files' docstrings.
"""

import ast
import graphlib
import pathlib
import re

import pytest


ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
# The rooms of each package, from the ground up: a file imports from its own room or from those
# before it. What is public stands above what is private.
FLOORS = {
    "jaxrnn": [
        "_params", "_check", "_files", "_cells", "_scan", "_dropout", "_fused", "_implementations",
        "_layers", "_init", "_sequence", "_nn", "_trees", "data", "text", "search", "losses",
        "optim", "checkpoints", "models", "training", "convert", "_modules", "linen", "nnx",
    ],
    "parity": [
        "criterion", "cases", "backends", "pair", "layers", "texts", "frameworks", "mutants",
        "report", "ports", "diagnosis", "torch_side", "workers", "pytest_plugin", "commands",
        "__main__",
    ],
}  # fmt: skip
SHOWN = ("jaxrnn", "parity", "tests", "examples")


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path):
    """Returns the dotted name of a file's module."""
    *parents, name = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parents if name == "__init__" else [*parents, name])


MODULES = {module_of(path): path for package in FLOORS for path in files(package)}


def imports_of(path):
    """Returns all modules of ours that a file imports, inside functions too."""
    package, names = module_of(path).split("."), set()
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {
                name if (name := f"{base}.{alias.name}") in MODULES else base
                for alias in node.names
            }
    return {name for name in names if name in MODULES} - {module_of(path)}


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def room(module):
    return [*module.split("."), ""][1]


def upward(package, imports=IMPORTS):
    """Returns the imports that do not run downwards."""
    order = {name: floor for floor, name in enumerate(FLOORS[package])}
    inside = [(a, b) for a in imports for b in imports[a] if a.split(".")[0] == package]
    inside = [(a, b) for a, b in inside if b.split(".")[0] == package and room(a)]
    floor = lambda module: order.get(room(module), -1)  # the package itself lies below its rooms
    return [(a, b) for a, b in inside if floor(b) > floor(a)]


@pytest.mark.parametrize("package", FLOORS)
def test_imports_run_downwards(package):
    assert upward(package) == []


def test_jaxrnn_does_not_import_parity():
    assert not [(a, b) for a in IMPORTS for b in IMPORTS[a] if (a + b).startswith("jaxrnn.parity")]
    assert not [a for a in IMPORTS if a.startswith("jaxrnn") and "parity" in str(IMPORTS[a])]


def test_there_is_no_circle():
    """Among files; the package's own `__init__` hands names on, and is left out."""
    below = {a: {b for b in IMPORTS[a] if b not in FLOORS} for a in IMPORTS if a not in FLOORS}
    graphlib.TopologicalSorter(below).prepare()


def test_an_upward_import_and_a_circle_would_be_seen():
    planted = IMPORTS | {"parity.criterion": {"parity.pair"}}
    assert upward("parity", planted) == [("parity.criterion", "parity.pair")]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(planted).prepare()


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_its_floor(package):
    rooms = {room(name) for name in MODULES if name.startswith(f"{package}.")}
    assert rooms == {*FLOORS[package]}


@pytest.mark.parametrize("package", SHOWN)
def test_no_file_is_too_long(package):
    """Data tables excepted."""
    tables = {"cases.py"}
    lengths = {path: len(path.read_text().splitlines()) for path in files(package)}
    assert {str(p): n for p, n in lengths.items() if n > 350 and p.name not in tables} == {}


def summary(path):
    """Returns the first line of a file's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.partition("\n")[0].removesuffix(".")


def tree(package):
    """Returns a line for each file; rooms from the ground up, where they have floors."""
    order = {name: i for i, name in enumerate(FLOORS.get(package, []))}
    top = lambda path: path.relative_to(ROOT / package).with_suffix("").parts[0]
    key = lambda path: (order.get(top(path), -1), str(path.parent), path.name)
    lines = []
    for path in sorted(files(package), key=key):
        name = str(path.relative_to(ROOT))
        lines.append(f"{name:<44}{summary(path)}".rstrip())
    return "\n".join(lines)


def page():
    """Returns the page with its trees as they are now."""
    text = PAGE.read_text()
    for package in SHOWN:
        block = f"<!-- tree: {package} -->\n```text\n{tree(package)}\n```"
        pattern = rf"<!-- tree: {package} -->\n```text\n.*?\n```"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def test_the_page_shows_the_tree():
    assert PAGE.read_text() == page()
    assert all(f"<!-- tree: {package} -->" in PAGE.read_text() for package in SHOWN)


@pytest.mark.parametrize("package", SHOWN)
def test_every_file_says_what_it_is_for(package):
    empty = {"__init__.py"} if package == "examples" else set()
    assert [str(p) for p in files(package) if not summary(p) and p.name not in empty] == []


if __name__ == "__main__":
    PAGE.write_text(page())
