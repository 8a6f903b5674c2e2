"""Read a method's own settings as people write them: ``pool=500,gate=moses,surrogate=off``.

In: such a text and the dataclass that holds the settings. Out: an instance of it.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any, TypeVar

from molvae.errors import InputError, UnknownNameError

SWITCH = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}

T = TypeVar("T")


def read_options(kind: type[T], text: str) -> T:
    """Return the settings that ``text`` asks for, the others at their defaults.

    Args:
        kind: a dataclass whose fields are bool, int, float or str and all have defaults; it checks its own ranges.
        text: ``name=value`` separated by commas; "" changes nothing. A bool is written on or off.

    Raises:
        UnknownNameError: when there is no such setting; names those there are.
        InputError: when a value is not of the setting's type or out of its range.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Some:
    ...     pool: int = 10
    ...     gate: bool = True
    >>> read_options(Some, "gate=off, pool=20")
    Some(pool=20, gate=False)
    """
    defaults = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    chosen: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise UnknownNameError(f"The method has no setting {name!r}.", f"{hint}Known: {', '.join(defaults)}.")
        if not equals:
            raise InputError(f"The setting {name} has no value.", f"Write {name}={_write(defaults[name])}, or so.")
        chosen[name] = _read(name, value, defaults[name])
    return kind(**chosen)


def _write(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _read(name: str, value: str, default: Any) -> Any:
    """Return ``value`` as the type of ``default``."""
    try:
        if isinstance(default, bool):
            return SWITCH[value.lower()]
        return type(default)(value)
    except (KeyError, ValueError) as error:
        kind = {bool: "on or off", int: "a whole number", float: "a number"}[type(default)]
        raise InputError(f"{name} = {value} is not {kind}.", f"The default is {name}={_write(default)}.") from error
