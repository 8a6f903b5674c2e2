"""Requests on the command line: the options of ``sample --where``, and what is said about what came of it.

In: options, a table of `molvae.generate.conditional.sample_where`. Out: requests, lines for people.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        help='Properties asked for, such as "logp=2.5, qed>=0.8, tpsa=60..90", and levels of categories, "target=EGFR" '
        'or any of several, "target=EGFR|HER2".',
        show_default=False,
    ),
]
BestOf = Annotated[int, typer.Option("--best-of", help="Write k for each one wanted and keep the nearest (--where).")]
Guidance = Annotated[
    float, typer.Option("--guidance", help="Weigh the request more strongly than the model does (--where); 0 does not.")
]
WherePrior = Annotated[
    str,
    typer.Option("--where-prior", help="How latents know the request: conditional, heads, off, or auto for the best."),
]
WhereDecoder = Annotated[
    bool, typer.Option("--where-decoder/--no-where-decoder", help="Whether the decoder is told the request.")
]

WhereReader = Annotated[
    str,
    typer.Option(
        "--where-reader",
        help="Who reads drafts between rounds: model, its own heads; or rdkit, much nearer, k = all drafts.",
    ),
]


def read_asked(where: str | None, *how: Any) -> Any:
    """Return the requests and how they are put, None where nothing is asked for."""
    from molvae.errors import ConfigError
    from molvae.generate.asking import Asking
    from molvae.generate.requests import parse_where

    asking = Asking(*how)
    if where is None and asking != Asking():
        raise ConfigError("Nothing is asked for with --where.", 'Add for instance --where "logp=2.5".')
    return None if where is None else (parse_where(where), asking)


def asked_lines(table: Any) -> list[str]:
    """Return what is to be said about a request, no line without one."""
    if "where" not in table.attrs:
        return []
    k = int(table["best_of"].iloc[0]) if len(table) else 1
    lines = [f"warning: {text}" for text in table.attrs["warnings"]]
    lines += [table.attrs["route"], f"strings written for each molecule: {table.attrs['written']:.2f}"]
    for column in (name for name in table.columns if name.endswith("_error")):
        name = column.removesuffix("_error")
        errors = table[column].dropna()
        by = "the model's own prediction" if f"{name}_predicted" in table else "RDKit"
        said = f"mean |error| {errors.abs().mean():.3g}, median {errors.abs().median():.3g}" if len(errors) else "-"
        lines.append(f"{name}: {said} (by {by}; k = {k}, n = {len(errors):,})")
    for name in (column.removesuffix("_probability") for column in table.columns if column.endswith("_probability")):
        read = table[table[f"{name}_predicted"].notna()]
        met = f"{(read[f'{name}_predicted'] == read[f'{name}_requested']).mean():.1%}" if len(read) else "-"
        lines.append(f"{name}: {met} as asked (by the model's own prediction; k = {k}, n = {len(read):,})")
    return [f"asked for: {table.attrs['where']}", *lines]
