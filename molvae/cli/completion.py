"""Verb ``molvae completion``: let a shell complete verbs and options with the Tab key.

In: the name of a shell, or the words that a shell wants completed. Out: a script for it, or its completions.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from typer.core import TyperGroup

ASKED = "_MOLVAE_COMPLETE"
"""The variable by which the script of a shell asks ``molvae`` for completions."""


class Shell(StrEnum):
    """The shells that a script can be written for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


HOW = {
    Shell.bash: 'Put this line into ~/.bashrc: eval "$(molvae completion bash)"',
    Shell.zsh: 'Put this line into ~/.zshrc, after compinit: eval "$(molvae completion zsh)"',
    Shell.fish: "Run: molvae completion fish > ~/.config/fish/completions/molvae.fish",
}


def command(shell: Annotated[Shell, typer.Argument(help="Whose script to print.", show_default=False)]) -> None:
    """Print the script that makes SHELL complete commands and options with Tab.

    bash: put eval "$(molvae completion bash)" into ~/.bashrc. zsh: the same line with zsh into ~/.zshrc, after
    compinit. fish: molvae completion fish > ~/.config/fish/completions/molvae.fish. Files are completed as always.
    """
    import sys

    typer.echo(script(shell))
    if sys.stdout is not None and sys.stdout.isatty():
        typer.echo(f"# {HOW[shell]}", err=True)


def script(shell: str) -> str:
    """Return the script for ``shell``.

    >>> "complete -o default" in script("bash")
    True
    """
    from typer import completion

    wanted = {"prog_name": "molvae", "complete_var": ASKED, "shell": str(shell)}
    made: str = completion.get_completion_script(**wanted)  # type: ignore[attr-defined]
    if shell == Shell.fish:
        # A path must stay completable where molvae has nothing to offer.
        made = made.replace(" --no-files", "")
    return made


def asked_verb(verbs: Collection[str]) -> str | None:
    """Return the verb in the words that a shell wants completed, None when there is none yet."""
    words = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    return next((word for word in words.split() if word in verbs), None)


def answer(command: TyperGroup | Any, instruction: str) -> int:
    """Print what completes the words in the environment; return an exit code.

    Args:
        command: the command line, with the verb of `asked_verb` loaded.
        instruction: value of `ASKED`, such as ``complete_bash``.
    """
    from typer import completion

    completion.completion_init()  # type: ignore[attr-defined]
    return completion.shell_complete(command, {}, "molvae", ASKED, instruction)
