"""The house has one direction: what may import what, checked on the syntax of every file."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "sippool_core": set(),
    "sippool_sync": {"sippool_core"},
    "sippool_anyio": {"sippool_core", "sippool_sync"},
    "sippool": {"sippool_core", "sippool_sync", "sippool_anyio"},
}
PURE = {
    "__future__",
    "abc",
    "collections",
    "dataclasses",
    "enum",
    "errno",
    "copy",
    "heapq",
    "functools",
    "ipaddress",
    "math",
    "re",
    "typing",
}
ALLOWED = {
    "sippool_core": PURE,
    "sippool_sync": PURE
    | {
        "contextlib",
        "functools",
        "logging",
        "resource",
        "selectors",
        "socket",
        "ssl",
        "struct",
        "threading",
        "time",
        "types",
        "weakref",
    },
    "sippool_anyio": PURE | {"anyio", "contextlib", "functools", "socket", "ssl", "time", "types"},
}
# The floors of the core, lowest first; a module imports from floors below its own only.
FLOORS = [
    "address reasons errors",
    "config deadlines syntax",
    "via start_line usual",
    "message",
    "framing identity events",
    "effects tls",
    "inbox",
    "state",
    "expiry sends",
    "transactions",
    "activity routing admission",
    "connection",
    "reading",
    "registry",
    "closing accepting datagrams",
    "streams",
    "sender",
    "pool",
    "__init__",
]


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


def imports(path, *, at_run_time=False):
    """The (module, names) that a file imports; `at_run_time`: without those for type checkers only."""
    tree = ast.parse(path.read_text())
    skipped = set()
    if at_run_time:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                skipped.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, (), 0
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", tuple(alias.name for alias in node.names), node.level


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_those_below(package):
    for path in files(package):
        for module, _, level in imports(path):
            top = module.partition(".")[0]
            if level == 0 and top in PACKAGES and top != package:
                assert top in PACKAGES[package], f"{path} imports {module}"
                assert module == top or package == "sippool", (
                    f"{path}: only the public door of {top}"
                )


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_they_may(package):
    for path in files(package):
        for module, _, level in imports(path, at_run_time=True):
            top = module.partition(".")[0]
            if level == 0 and top not in PACKAGES:
                is_tls_room = path.relative_to(ROOT).as_posix() == "sippool_core/tls.py"
                assert top in ALLOWED[package] or (top == "ssl" and is_tls_room), (
                    f"{path}: {module}"
                )


def test_the_core_is_a_house_with_floors():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
    for path in files("sippool_core"):
        for module, names, level in imports(path, at_run_time=True):
            if level:
                for imported in [module] if module else names:
                    assert floor[imported] < floor[path.stem], f"{path.name} imports {imported}"


def test_nothing_imports_the_command_line():
    for package in ("sippool_core", "sippool_sync", "sippool_anyio"):
        assert all(
            module.partition(".")[0] != "sippool"
            for path in files(package)
            for module, *_ in imports(path)
        )


def test_importing_the_core_loads_no_socket_and_no_ssl():
    import subprocess

    code = (
        "import sys; before = set(sys.modules); import sippool_core;"
        "print(sorted({'ssl', 'socket', 'selectors', 'asyncio', 'threading', 'logging'}"
        " & (set(sys.modules) - before)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"


def test_no_file_is_longer_than_four_hundred_lines():
    too_long = {
        path.relative_to(ROOT).as_posix(): lines
        for folder in (*PACKAGES, "tests", "fuzz", "examples")
        for path in files(folder)
        if (lines := len(path.read_text().splitlines())) > 400 and folder != "tests"
    }
    assert not too_long
