"""Find the verb, run it, and turn every failure into two lines and an exit code.

In: command line arguments. Out: the verb's work and an exit code; a traceback only under ``--debug``.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Annotated, Any

import typer

from molvae import __version__
from molvae.errors import MolvaeError

# Help is answered from this table, so that `molvae --help` imports no verb and none of the libraries behind it.
VERBS = {
    "prepare": "Turn files of SMILES into a dataset ready for training.",
    "datasets": "List and fetch datasets that have a name.",
    "train": "Train a model on a dataset.",
    "finetune": "Teach a trained model new molecules, keeping what it knows.",
    "fit-prior": "Fit a prior to the codes of a trained model.",
    "fit-reader": "Teach a trained model to read its own drafts under requests.",
    "fit-head": "Teach a trained model to predict a measured property.",
    "sample": "Generate new molecules.",
    "encode": "Turn molecules into latent vectors.",
    "decode": "Turn latent vectors into molecules.",
    "reconstruct": "Encode and decode molecules and compare.",
    "optimize": "Search the latent space for molecules with a better score.",
    "interpolate": "Walk from one molecule to another in latent space.",
    "neighbors": "Draw molecules around one molecule.",
    "check": "Check molecules: validity, alerts, properties, novelty.",
    "evaluate": "Measure a model on held-out molecules.",
    "compare": "Train several objectives on equal terms and compare them.",
    "impute": "Fill in property values that a table lacks.",
    "benchmark": "Measure a model or its molecules by a published protocol.",
    "score": "Say how unusual each molecule is, and which of its atoms.",
    "compress": "Make a file of SMILES small, so that every byte comes back.",
    "decompress": "Give back the file that was compressed.",
    "report": "Write one self-contained HTML page about a run or a model.",
    "init-config": "Write a file of every training setting, explained.",
    "info": "Show versions, devices and the model, for bug reports.",
    "completion": "Print a script that completes commands with the Tab key.",
}
COMPLETE = "_MOLVAE_COMPLETE"
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143
FAULT = 70
NO_OUTPUT = 5
NO_MEMORY = 8

_OS_REMEDIES = {
    errno.ENOSPC: "Free space on that disk, or write to another one.",
    errno.EDQUOT: "Free space within your quota, or write to another disk.",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f), or write to another disk.",
    errno.EROFS: "Choose a place that can be written to.",
    errno.EACCES: "Choose a path that you may read and write, or change its permissions.",
    errno.EPERM: "Choose a path that you may read and write, or change its permissions.",
    errno.ENOENT: "Check the path.",
    errno.EISDIR: "Give a file, not a directory.",
    errno.ENOTDIR: "Check the path: a part of it is a file, not a directory.",
    errno.ENAMETOOLONG: "Choose a shorter path.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n).",
    errno.EIO: "Check the disk: the system reports that it cannot read or write.",
}


def _global_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a failure; works before and after COMMAND.")
    ] = False,
) -> None:
    """Train on SMILES, generate molecules, optimise their properties in latent space.

    `molvae COMMAND --help` explains a command. Where a command uses a model, -m/--model is a directory or the name of
    a shipped model; left out, it is the default shipped model.
    """


def _not_loaded() -> None:
    """Stand in for the verbs that this call does not use."""


def module_of(verb: str) -> str:
    """Return the module of a verb.

    >>> module_of("init-config")
    'molvae.cli.init_config'
    """
    return f"molvae.cli.{verb.replace('-', '_')}"


def build_app(verb: str | None) -> typer.Typer:
    """Return the command line with ``verb`` loaded and every other verb as a line of help.

    Args:
        verb: a key of `VERBS`, or None when only help is wanted.
    """
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
    # Plain help: rich would triple the time that --help takes.
    app = typer.Typer(
        name="molvae",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=settings,
    )
    app.callback()(_global_options)
    for name, line in VERBS.items():
        if name == verb:
            module = import_module(module_of(name))
            if hasattr(module, "group"):
                app.add_typer(module.group, name=name, context_settings=settings)
            else:
                app.command(name, context_settings=settings)(module.command)
        else:
            app.command(name, help=line)(_not_loaded)
    return app


def _run(arguments: list[str]) -> int:
    """Parse ``arguments``, run the verb, flush what it printed, and return the exit code."""
    verb = next((argument for argument in arguments if argument in VERBS), None)
    if verb is None and "--version" in arguments:
        typer.echo(f"molvae {__version__}")
        return 0
    command: Any = typer.main.get_command(build_app(verb))
    code = 0
    try:
        # Not command.main(): it turns interrupts and broken pipes into exits of its own.
        with command.make_context("molvae", arguments or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as stop:
        code = stop.exit_code
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _complete(instruction: str) -> int:
    """Answer a shell that asks what completes the words typed so far (see `molvae.cli.completion`)."""
    completion = import_module("molvae.cli.completion")
    command = typer.main.get_command(build_app(completion.asked_verb(VERBS)))
    return int(completion.answer(command, instruction))


def _fail(problem: str, remedy: str) -> None:
    """Print the two lines on stderr, each kept to one line; a closed stderr is no reason to fail again."""
    try:
        typer.echo(f"error: {' '.join(problem.split())}\n{' '.join(remedy.split())}", err=True)
    except (OSError, ValueError):
        _silence(2)


def _silence(descriptor: int) -> None:
    """Point ``descriptor`` (1 stdout, 2 stderr) at nothing, so that Python's last flush at exit cannot fail."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def _explain(error: BaseException) -> int:
    """Print what failed and the remedy, and return the exit code."""
    match error:
        case MolvaeError():
            _fail(error.problem, error.remedy)
            return error.exit_code
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            _fail(error.format_message(), f"See {context.command_path if context else 'molvae'} --help.")
            return 2
        case KeyboardInterrupt() | typer.Abort():
            return INTERRUPTED
        case BrokenPipeError():
            _silence(1)
            return BROKEN_PIPE
        case OSError(errno=int(number)) if number in _OS_REMEDIES:
            place = f": {error.filename}" if error.filename else ""
            _fail(f"{os.strerror(number)}{place}.", _OS_REMEDIES[number])
            if error.filename is None:
                _silence(1)
            return NO_OUTPUT
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        _fail(f"out of memory: {error}", "Use a smaller batch (train.batch_size), or a machine with more memory.")
        return NO_MEMORY
    _fail(
        f"{type(error).__name__}: {error}",
        "This is a fault in molvae: run again with --debug and report the traceback.",
    )
    return FAULT


def _terminate(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM the way an exception ends: what is half-written is removed on the way out."""
    sys.exit(TERMINATED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: without the program's name; None takes those of the process.

    >>> main(["--version"])
    molvae ...
    0
    """
    if arguments is None:
        signal.signal(signal.SIGTERM, _terminate)
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        if arguments is None and os.environ.get(COMPLETE):
            return _complete(os.environ[COMPLETE])
        return _run([argument for argument in given if argument != "--debug"])
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        return _explain(error)
