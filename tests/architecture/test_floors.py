"""The floors: imports point downwards, names are documented, files and functions stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = [ROOT / "service" / "tidegate" / package for package in ("v1", "oip")]

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
SHORT_FUNCTION_LINES = 30

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    """Our own Python files under these folders."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if not any(g in path.parents for g in GENERATED))


PACKAGE = sources("service")
EVERYTHING = sources("service", "tests", "examples", "bench")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(paths: list[Path]) -> Iterator[tuple[str, int]]:
    """Every function with the number of its lines."""
    for path in paths:
        for node in ast.walk(parsed(path)):
            if isinstance(node, Function):
                assert node.end_lineno is not None
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Public classes and functions of a module, and the public methods of those classes."""
    for node in body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        yield f"{prefix}.{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from public(node.body, f"{prefix}.{node.name}")


def test_imports_point_downwards_only() -> None:
    checker = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run(
        [checker, "--no-cache"],
        cwd=ROOT,
        env={"PYTHONPATH": "service"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_make_check_checks_the_imports_too() -> None:
    makefile = (ROOT / "Makefile").read_text()

    assert "lint-imports" in makefile.partition("\ncheck:")[2].partition("\n\n")[0]


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    module = parsed(path)

    assert not module.body or ast.get_docstring(module)


def test_every_public_name_is_documented() -> None:
    names = [
        (name, node)
        for path in PACKAGE
        for name, node in public(parsed(path).body, str(path.relative_to(ROOT)))
    ]

    assert len(names) > 100
    assert [name for name, node in names if not ast.get_docstring(node)] == []


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}

    assert {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_long() -> None:
    assert {name: lines for name, lines in functions(EVERYTHING) if lines > MAX_FUNCTION_LINES} == {}


def test_nine_functions_in_ten_are_short() -> None:
    lengths = [lines for _, lines in functions(PACKAGE)]

    short = sum(lines <= SHORT_FUNCTION_LINES for lines in lengths)
    assert short >= 0.9 * len(lengths)
