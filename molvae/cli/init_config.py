"""Verb ``molvae init-config``: a file of every setting to begin with.

In: optionally the name of an objective. Out: TOML that `molvae train --config` reads, each setting explained.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Target = Annotated[Path, typer.Option("-o", "--output", help="File to write, ending in .toml; - is stdout.")]
Preset = Annotated[
    str | None,
    typer.Option("--preset", help="Objective whose weights are written out, such as beta_vae.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file when there is one.")]
BOUNDS = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def command(output: Target = Path("molvae.toml"), preset: Preset = None, force: Force = False) -> None:
    """Write a TOML file with every training setting, its default, its range and what it means.

    Use it: molvae train DATASET -o MODEL --config molvae.toml. A setting that is unset by default is commented out.
    """
    from molvae.cli.output import Destination
    from molvae.config import build_config
    from molvae.errors import OutputError
    from molvae.files import write_text
    from molvae.objectives.presets import find_row

    destination = Destination(output, (".toml",))
    values: dict[str, Any] = {}
    if preset is not None:
        row = find_row(preset)
        values = {"objective": {"name": preset, "beta": row.beta, "schedule": row.schedule}}
    text = config_to_toml(build_config(values))
    if destination.path is None:
        typer.echo(text, nl=False)
        return
    if output.exists() and not force:
        raise OutputError(f"{output} exists already.", "Choose another name with -o, or replace it with --force.")
    write_text(output, text)
    typer.echo(f"wrote {output}; use it: molvae train DATASET -o MODEL --config {output}")


def config_to_toml(config: BaseModel) -> str:
    """Return every setting of ``config`` as TOML, each below a comment: meaning, default and range.

    What is not set has no value in TOML and is commented out, so the text reads back as an equal config.
    """
    from pydantic import BaseModel

    head = "Settings of molvae train. Each stands below what it means, its default and its range."
    lines, sections = [*_comment(head), ""], []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            about = " ".join((type(value).__doc__ or "").split()).replace("`", "")
            sections += ["", *_comment(about), f"[{name}]"]
            for key, inner in type(value).model_fields.items():
                sections += _setting(key, inner, getattr(value, key))
        else:
            lines += _setting(name, field, value)
    return "\n".join([*lines, *sections, ""])


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _setting(key: str, field: FieldInfo, value: Any) -> list[str]:
    """Return the comment and the line of one setting."""
    default = field.get_default(call_default_factory=True, validated_data={})
    notes = [f"default {'unset' if default is None else _toml(default)}", *_range(field)]
    about = f"{field.description or ''} ({'; '.join(notes)})".strip()
    return [*_comment(about), f"# {key} =" if value is None else f"{key} = {_toml(value)}"]


def _range(field: FieldInfo) -> list[str]:
    """Return what values are allowed, as words; nothing when every value of its kind is."""
    from typing import Literal, get_args, get_origin

    kinds = [field.annotation, *get_args(field.annotation)]
    choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices:
        lists = ["a list" for kind in kinds if get_origin(kind) is list]
        return [" or ".join([*lists, *choices])]
    limits = {
        name: "2^63" if limit == 2**63 else f"{limit:,}"
        for entry in field.metadata
        for name in BOUNDS
        if (limit := getattr(entry, name, None)) is not None
    }
    if {"ge", "le"} <= set(limits):
        return [f"{limits['ge']} to {limits['le']}"]
    return [", ".join(BOUNDS[name].format(limit) for name, limit in limits.items())] if limits else []


def _toml(value: Any) -> str:
    """Return ``value`` as TOML; numbers, texts, booleans and lists of texts are written alike in JSON and TOML.

    >>> _toml(0.001), _toml("all"), _toml(["qed"]), _toml(True)
    ('0.001', '"all"', '["qed"]', 'true')
    """
    return json.dumps(value, ensure_ascii=False)
