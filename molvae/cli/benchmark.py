"""Verb ``molvae benchmark``: one published protocol after another, each a verb of its own below this one.

In: the name of a protocol and its arguments. Out: what that protocol writes.
"""

from __future__ import annotations

import typer

from molvae.cli import (
    benchmark_constrained,
    benchmark_guacamol,
    benchmark_guacamol_goals,
    benchmark_moses,
    benchmark_multiobjective,
    benchmark_pmo,
)

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}

group = typer.Typer(
    help="Measure a model or its molecules by a published protocol.\n\nEvery figure names n, reference and seed, and "
    "what real molecules get at the same n stands beside it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
group.command("moses", context_settings=SETTINGS)(benchmark_moses.command)
group.command("guacamol-distribution", context_settings=SETTINGS)(benchmark_guacamol.command)
group.command("pmo", context_settings=SETTINGS)(benchmark_pmo.command)
group.command("constrained", context_settings=SETTINGS)(benchmark_constrained.command)
group.command("multiobjective", context_settings=SETTINGS)(benchmark_multiobjective.command)
group.command("guacamol", context_settings=SETTINGS)(benchmark_guacamol_goals.command)
