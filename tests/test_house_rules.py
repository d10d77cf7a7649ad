"""House rules that a machine can check. CONTRIBUTING.md says why each exists."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "nomoat"
MOST_LINES, MOST_FUNCTION_LINES, MOST_FIELDS, MOST_EXAMPLE_LINES = 400, 40, 25, 60

# Modules that are longer than allowed, with their present length. A length may only shrink, and a module
# that has become short enough must leave the list.
LONGER_FOR_NOW: dict[str, int] = {}

Rule = Callable[[Path, ast.Module], Iterator[str]]


def _files() -> list[Path]:
    """Every Python file of the project that people read."""
    folders = ["src", "scripts", "benchmarks", "examples", "tests"]
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and _is_python(path)]
    return sorted({*scripts, *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))})


def _is_python(path: Path) -> bool:
    return path.read_bytes().split(b"\n", 1)[0].endswith(b"python3")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _complaints(rule: Rule, files: list[Path]) -> list[str]:
    return [f"{_name(path)}:{text}" for path in files for text in rule(path, _parse(path))]


def _is_source(path: Path) -> bool:
    return path.is_relative_to(SOURCE)


# -- sizes ---------------------------------------------------------------------------------------


def test_modules_are_short() -> None:
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _files()}
    too_long = {name: n for name, n in lengths.items() if n > LONGER_FOR_NOW.get(name, MOST_LINES)}
    assert not too_long, f"split them: at most {MOST_LINES} lines"
    outgrown = {name for name, n in LONGER_FOR_NOW.items() if lengths.get(name, 0) <= MOST_LINES}
    assert not outgrown, "these are short enough now: take them off the list"


def test_examples_fit_on_one_page() -> None:
    examples = [path for path in _files() if _name(path).startswith("examples/")]
    assert not [p for p in examples if len(p.read_text().splitlines()) > MOST_EXAMPLE_LINES]


def _long_functions(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_FUNCTION_LINES:
                yield f"{node.lineno} {node.name} has {length} lines"


def _wide_classes(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            if len(fields) > MOST_FIELDS:
                yield f"{node.lineno} {node.name} has {len(fields)} fields"


# -- habits --------------------------------------------------------------------------------------


def _bare_excepts(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{node.lineno} bare except"


def _environment_readers(path: Path, tree: ast.Module) -> Iterator[str]:
    if not _is_source(path) or _name(path) == "src/nomoat/base/settings.py":
        return
    for node in ast.walk(tree):
        owner = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == "os":
            if node.attr in {"environ", "environb", "getenv", "putenv", "unsetenv"}:
                yield f"{node.lineno} os.{node.attr} (read it in base/settings.py)"
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            if {alias.name for alias in node.names} & {"environ", "getenv", "putenv"}:
                yield f"{node.lineno} from os import the environment"


def _tests_by_class_name(path: Path, tree: ast.Module) -> Iterator[str]:
    """`type(x).__name__ == "Y"` breaks with every renaming and every subclass."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if isinstance(side, ast.Attribute) and side.attr in {"__name__", "__qualname__"}:
                    yield f"{node.lineno} compares {side.attr}"


def _module_state(path: Path, tree: ast.Module) -> Iterator[str]:
    """Lists, dicts, sets and objects at module level are constants (UPPER_CASE) or they are state."""
    if not _is_source(path):
        return
    for node in tree.body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if value is None or not isinstance(
            value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.Call)
        ):
            continue
        if isinstance(value, ast.Call) and ast.unparse(value.func) in _DECLARATIONS:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and not _is_constant_name(target.id):
                yield f"{node.lineno} {target.id}"


# SQLAlchemy's tables are declared at module level and named as in SQL.
_DECLARATIONS = {"MetaData", "Table"}


def _is_constant_name(name: str) -> bool:
    # A capitalised name is a type alias.
    return name == "__all__" or name.strip("_").isupper() or name.lstrip("_")[:1].isupper()


def _global_statements(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"{node.lineno} global {', '.join(node.names)}"


def _missing_docstrings(path: Path, tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield "1 no docstring that says what the module is for"
    if not _is_source(path):
        return
    for node in _public_definitions(tree):
        if not ast.get_docstring(node):
            yield f"{node.lineno} {node.name} has no docstring"


def _public_definitions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def _postponed_annotations(path: Path, tree: ast.Module) -> Iterator[str]:
    """Every module that holds code reads the same way about types."""
    imports = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    code = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    if code and not imports:
        yield "1 from __future__ import annotations is missing"


RULES: list[Rule] = [
    _long_functions,
    _wide_classes,
    _bare_excepts,
    _environment_readers,
    _tests_by_class_name,
    _module_state,
    _global_statements,
    _missing_docstrings,
    _postponed_annotations,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.strip("_"))
def test_the_house_has_no(rule: Rule) -> None:
    complaints = _complaints(rule, _files())
    assert not complaints, "\n".join(["", *complaints])


def test_no_module_is_a_drawer_for_leftovers() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "misc.py", "shared.py", "common.py"}
    assert not [_name(path) for path in _files() if path.name in drawers]


# -- public names --------------------------------------------------------------------------------


def _declared(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return None


def _defined(tree: ast.Module) -> set[str]:
    """Names bound at module level: definitions, assignments, imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    return names


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=_name)
def test_all_names_exactly_what_is_public(path: Path) -> None:
    tree = _parse(path)
    public = {node.name for node in _public_definitions(tree)}
    declared = _declared(tree)
    if declared is None:
        assert not public, "public names need an __all__"
        return
    assert len(declared) == len(set(declared))
    assert public <= set(declared), "defined without an underscore, but not in __all__"
    assert set(declared) <= _defined(tree), "in __all__, but not defined"
    assert not set(declared) & set(dir(builtins)) - {"__doc__"}, "hides a builtin"
