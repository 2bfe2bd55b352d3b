"""docs/from-net-sip.md stays true: what it names exists, and no row is missing."""

import ast
import functools
import inspect
import re
from pathlib import Path

import pytest

import sippool_anyio
import sippool_core
import sippool_sync
from sippool_core import Limits, PoolConfig, Timeouts, TlsFacts, TlsSettings, number_names

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "from-net-sip.md").read_text()

S_ROWS = [f"S{number}" for number in range(1, 13)]
WRONG_IN_THE_SEED = re.findall(
    r"\w+",
    """
    F13 F18 F34 F42 F44 F46 F54 F58 F59 F67 F69 F70 F73 F74 F77 F78
    U02 U03 U11 U17 U18 U22
    R01 R02 R03 R04 R05 R06 R11 R12 R13 R15 R16 R18
    C02 C03 C05 C06 C07 C08 C09 C10 C11 C12 C12b C13 C15
    E04 E05 E06 E07 E08 E09 E10 E11 E12
    T02 T03 T04 T05 T08 T13
    M04 M05
    """,
)
SETTINGS = {
    "MAX_SIP_HEADER": "max_header_bytes",
    "MAX_SIP_BODY": "max_body_bytes",
    "MAX_TIDLIST": "max_open_requests",
    "MIN_EXPIRE": "min_idle_seconds",
    "MAX_EXPIRE": "max_idle_seconds",
    "CONNECT_TIMEOUT": "connect_seconds",
    "TCP_READSIZE": "read_bytes",
}
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(\w+)`")


def rows():
    """Each table row: its cells without blanks."""
    for line in PAGE.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def named_in_row(row_id):
    """The tests named in the one row with this id."""
    [found] = [cells for cells in rows() if cells[0] == row_id]
    assert len(found) == 3 and found[1]
    return NAMED.findall(found[2])


@functools.cache
def tree_of(path):
    return ast.parse((ROOT / path).read_text())


@functools.cache
def found_in(path):
    """The tests that pytest would find at the top of a file, each with its node."""
    found = {}
    for node in tree_of(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
    return {name: node for name, node in found.items() if name.lower().startswith("test")}


def probes_of(path, name):
    """The ids of probes in the parameters of a test, those in a table of the file included."""
    tables = {
        node.targets[0].id: node.value
        for node in tree_of(path).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    texts = set()
    todo = list(found_in(path)[name].decorator_list)
    while todo:
        for node in ast.walk(todo.pop()):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.update(node.value.split("-"))
            elif isinstance(node, ast.JoinedStr):
                start = node.values[0]
                texts.update(start.value.split("-") if isinstance(start, ast.Constant) else ())
            elif isinstance(node, ast.Name) and node.id in tables:
                todo.append(tables.pop(node.id))
    return texts


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED.findall(PAGE))))
def test_every_test_that_is_named_exists(path, name):
    assert name in found_in(path)


def test_no_name_of_a_test_escapes_the_check():
    assert PAGE.count(".py::") == len(NAMED.findall(PAGE))


@pytest.mark.parametrize("row_id", S_ROWS + WRONG_IN_THE_SEED)
def test_every_row_is_there_once_with_its_tests(row_id):
    assert named_in_row(row_id)


def test_there_are_no_other_rows():
    ids = [cells[0] for cells in rows() if re.fullmatch(r"[A-Z]\d+b?", cells[0])]
    assert ids == S_ROWS + WRONG_IN_THE_SEED


@pytest.mark.parametrize("row_id", WRONG_IN_THE_SEED)
def test_a_test_made_for_a_probe_has_its_id(row_id):
    """So that `pytest -k F13` runs it."""
    for path, name in named_in_row(row_id):
        if "/test_seed_" in path:
            assert row_id in probes_of(path, name), name


@pytest.mark.parametrize("row_id", WRONG_IN_THE_SEED)
def test_what_the_seed_does_is_said_in_a_few_words(row_id):
    [found] = [cells for cells in rows() if cells[0] == row_id]
    assert len(found[1].split()) <= 12


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_the_seed_is_beside_ours(name):
    [found] = [cells for cells in rows() if cells[0] == f"`{name}`"]
    assert found[1].startswith(f"`{SETTINGS[name]}`")
    default = getattr(PoolConfig().limits, SETTINGS[name], None) or getattr(
        PoolConfig().timeouts, SETTINGS[name]
    )
    assert eval(found[2].removesuffix(" s")) == default


WORDS = re.findall(
    r"\w+",
    """
    new PROTO FD DST CONNECTED TLS SSL_cert_file SSL_key_file SSL_ca_file verify_client sendto CALLBACK master
    attach_eventloop LOOP undef FROM addr port family proto socket use import host
    """,
)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_seed_is_there(word):
    assert re.search(rf"\b{word}\b", PAGE)


EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_use_words_that_exist(example):
    modules = {
        "sippool_core": sippool_core,
        "sippool_sync": sippool_sync,
        "sippool_anyio": sippool_anyio,
    }
    numbers = {*number_names(Limits), *number_names(Timeouts)}
    allowed = {
        "open_pool": set(inspect.signature(sippool_sync.open_pool).parameters),
        "TlsSettings": set(inspect.signature(TlsSettings).parameters),
        "replace": numbers,
    }
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.ImportFrom):
            assert all(hasattr(modules[node.module], alias.name) for alias in node.names)
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            assert {keyword.arg for keyword in node.keywords} <= allowed.get(called, set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in modules:
                assert hasattr(modules[node.value.id], node.attr)
            elif node.value.id == "pool":
                assert hasattr(sippool_sync.SyncPool, node.attr)


def test_words_in_the_tables_exist():
    for word in re.findall(r"`pool\.(\w+)", PAGE):
        assert hasattr(sippool_sync.SyncPool, word), word
    for word in re.findall(r"`\.tls\.(\w+)`", PAGE):
        assert word in TlsFacts.__annotations__, word
