"""The numbers of a pool on the command line: `--set NAME=VALUE`, and their list for `--help`.

The names, defaults and checks are those of `PoolConfig`; this module knows none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sippool_core import ConfigurationError, Limits, PoolConfig, Timeouts, number_names

if TYPE_CHECKING:
    from collections.abc import Iterable


def with_numbers(config: PoolConfig, settings: Iterable[str]) -> PoolConfig:
    """`config` with each `NAME=VALUE` of `settings` in it; raises `ConfigurationError`."""
    numbers: dict[str, int | float] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals:
            raise ConfigurationError(f"{setting!r} is not NAME=VALUE")
        numbers[name] = _number(name, text.strip())
    return config.replace(**numbers)


def table() -> str:
    """Every name with its default and its unit, one a line."""
    numbers = [
        (name, group) for group in (Limits(), Timeouts()) for name in number_names(type(group))
    ]
    rows = [
        f"  {name:28} {getattr(group, name):>10} {_unit(name)}".rstrip() for name, group in numbers
    ]
    return "\n".join(["the numbers for --set, and their defaults:", *rows])


def _number(name: str, text: str) -> int | float:
    try:
        return float(text) if name in number_names(Timeouts) else int(text)
    except ValueError:
        kind = "a number of seconds" if name in number_names(Timeouts) else "a whole number"
        raise ConfigurationError(f"{name}: {text!r} is not {kind}") from None


def _unit(name: str) -> str:
    """The unit a name says itself."""
    for unit in ("seconds", "bytes"):
        if unit in name.split("_"):
            return unit
    return ""
