"""Say what went wrong and how to mend it, in two lines.

In: the problem and its remedy, as text. Out: exceptions that are also builtin kinds, each with an exit code.
"""

from __future__ import annotations


class MolvaeError(Exception):
    """A failure that the user can mend.

    Args:
        problem: what was given and what was expected, one line.
        remedy: what to do about it, one line.

    The command line prints the two lines and exits with ``exit_code``; a traceback appears only under ``--debug``.

    >>> print(InputError("rows.csv has no column 'smiles'.", "Name the column with --smiles-column."))
    rows.csv has no column 'smiles'.
    Name the column with --smiles-column.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}"


class InputError(MolvaeError, ValueError):
    """A file, table or value given by the user cannot be used."""

    exit_code = 2


class ConfigError(MolvaeError, ValueError):
    """A setting is unknown, of the wrong kind, or contradicts another."""

    exit_code = 2


class UnknownNameError(MolvaeError, KeyError):
    """A name (property, objective, oracle, model) is not one that exists."""

    exit_code = 2


class ModelFileError(MolvaeError, RuntimeError):
    """A model or checkpoint directory is incomplete, changed or of another version."""

    exit_code = 3


class DeviceError(MolvaeError, RuntimeError):
    """The requested device is not there."""

    exit_code = 4


class OutputError(MolvaeError, OSError):
    """A result cannot be written."""

    exit_code = 5


class OracleError(MolvaeError, RuntimeError):
    """The function being optimised failed or answered with something that is not a score per molecule."""

    exit_code = 6


class TrainingError(MolvaeError, RuntimeError):
    """Training cannot go on, for instance because the loss stays not finite."""

    exit_code = 7


class DownloadError(MolvaeError, OSError):
    """Something could not be fetched, or is not what was expected."""

    exit_code = 9


class BusyError(MolvaeError, RuntimeError):
    """Another process works in the same directory (exit code 75, EX_TEMPFAIL)."""

    exit_code = 75
