"""Writes docs/configuration.md from the settings' own definitions: `python docs/make_configuration.py`."""

import ast
import dataclasses
import inspect
import sys
from pathlib import Path

from sippool_core import Limits, Timeouts, TlsSettings

HEAD = """# Configuration

Every number of a pool, from `sippool_core.config`; this page is made from the code by `docs/make_configuration.py`.

```python
from sippool_core import Limits, PoolConfig, Timeouts

config = PoolConfig(Limits(max_connections=4000), Timeouts(connect_seconds=3))
config = PoolConfig().replace(max_connections=4000, connect_seconds=3)      # the same, by flat names
```

On the command line: `--set max_connections=4000 --set connect_seconds=3`. Settings are frozen, belong to one pool,
and are checked when they are made (`ConfigurationError`). `max_connections` is also checked against the process's
limit of descriptors when an adapter opens the pool.
"""


def rows(group: type) -> list[tuple[str, object, str]]:
    """Name, default and docstring of each field."""
    definition = ast.parse(inspect.getsource(group)).body[0]
    assert isinstance(definition, ast.ClassDef)
    words: dict[str, str] = {}
    name = ""
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            words[name] = " ".join(str(node.value.value).split())
    return [(field.name, field.default, words[field.name]) for field in dataclasses.fields(group)]


def page() -> str:
    """The whole document."""
    parts = [HEAD]
    for title, group in (("Limits", Limits), ("Timeouts", Timeouts), ("TlsSettings", TlsSettings)):
        parts.append(
            f"\n## {title}\n\n{(inspect.getdoc(group) or '').strip()}\n\n| name | default | meaning |\n|---|---|---|\n"
        )
        for name, default, words in rows(group):
            shown = default.name if hasattr(default, "name") else default
            parts.append(f"| `{name}` | `{shown}` | {words} |\n")
    return "".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("configuration.md").write_text(page())
    sys.exit(0)
