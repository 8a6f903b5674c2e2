"""Optimise with a trained model, and keep the run in a directory that can be resumed.

In: a model, an oracle, start molecules and settings. Out: a `Result`; molecules.csv, best.csv, run.json, journal.jsonl,
pareto.csv and hypervolume.csv for several objectives, and oracle.log when the oracle prints something.

A resumed run starts from the beginning with the same seed; scores come from the journal until it ends, so it takes the
same course without paying for a molecule twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from molvae import __version__
from molvae.errors import ConfigError, InputError, OracleError, OutputError
from molvae.files import directory_digest, directory_lock
from molvae.nn.checkpoint import LoadedModel
from molvae.optimize.budget import BudgetedOracle
from molvae.optimize.goal import GoalOracle
from molvae.optimize.goal_constraints import Constraints, Contains
from molvae.optimize.interrupt import Stopper
from molvae.optimize.journal import Journal
from molvae.optimize.oracles import Oracle, find_oracle
from molvae.optimize.oracles_head import check_direction
from molvae.optimize.registry import find_method
from molvae.optimize.result import JOURNAL, PRINTS, RUN, Result, write_facts, write_tables
from molvae.optimize.search import ProgressCallback as ProgressCallback
from molvae.optimize.search import Search, Settings, find_starts
from molvae.optimize.space import LatentSpace, ModelSpace


def search(
    space: LatentSpace, oracle: Oracle, starts: Sequence[str], settings: Settings, directory: Path | None = None, *,
    resume: bool = False, progress: ProgressCallback | None = None, model: str = "",
) -> Result:  # fmt: skip
    """Run a search in any `LatentSpace`; see `optimize`, which does it in a model's.

    Args:
        space: where to search.
        oracle: what to maximise.
        starts: SMILES, none for draws from the prior.
        settings: the rest of what decides the course.
        directory: where to write; None writes nothing.
        resume: continue the run in ``directory``.
        progress: told after every batch.
        model: what identifies the model; a run is resumed with the same one only.
    """
    if isinstance(oracle, GoalOracle):
        oracle.check_method(settings.method, several=getattr(find_method(settings.method), "several", False))
    asked = oracle.constraints.all if isinstance(oracle, GoalOracle) else ()
    constraints = Constraints([*asked, *([Contains(settings.keep)] if settings.keep else [])])
    identity = {"oracle": oracle.identity, "model": model, "starts": list(starts), **asdict(settings)}
    facts: dict[str, Any] = {"molvae": __version__, "settings": identity, "state": "running"}
    facts |= {"source": getattr(oracle, "source", ""), "edited": False}
    if isinstance(oracle, GoalOracle):
        facts["goal"] = oracle.facts()
    began = time.monotonic()
    with ExitStack() as stack:
        stopper = stack.enter_context(Stopper())
        journal = None
        if directory is not None:
            check_directory(directory, identity, resume)
            facts["edited"] = resume and _was_edited(directory, oracle)
        found = find_starts(space, starts, settings)
        if directory is not None:
            stack.enter_context(directory_lock(directory))
            # Once more, now that nobody else can write there.
            check_directory(directory, identity, resume)
            journal = Journal(directory / JOURNAL, oracle.identity)
            stack.callback(journal.close)
            getattr(oracle, "keep_prints", nullcontext)(directory / PRINTS)
            write_facts(directory, facts)
        budgeted = BudgetedOracle(oracle, settings.budget, journal, stopper.guard)
        run = Search(space, budgeted, found, settings, progress, constraints)
        stopped = "error"
        try:
            stopped = run.go(stopper)
            _check_scores(run, oracle, stopped)
        finally:
            result = run.result(stopped)
            if facts["edited"]:
                old = f"{budgeted.n_replayed:,} scores are of before, and were not asked for again"
                result.notes.append(f"{oracle.name} was edited since: {old}; a new directory asks anew")
            if directory is not None:
                result.files.extend(write_tables(directory, result))
                counts = {**run.counts(), "starts_repeated": max(0, len(starts) - len(found))}
                more = {"state": stopped, "counts": counts, "seconds": round(time.monotonic() - began, 1)}
                more |= {"notes": result.notes, "refused_by": dict(run.refusals().most_common())}
                write_facts(directory, {**facts, **more, "starts": [start.facts() for start in run.starts]})
                result.files.extend(directory / name for name in (RUN, JOURNAL, PRINTS) if (directory / name).exists())
    return result


def _was_edited(directory: Path, oracle: Oracle) -> bool:
    """Say whether the function or program that gave the scores of a run is not as it was; that of an old run is."""
    before = json.loads((directory / RUN).read_text("utf-8"))
    now = getattr(oracle, "source", "")
    return bool(before.get("edited")) or before.get("source", now) != now


def _check_scores(run: Search, oracle: Oracle, stopped: str) -> None:
    counts = run.counts()
    if stopped in ("budget", "nothing new") and counts["failed"] == counts["calls"]:
        why = oracle.problem or "it returned nothing but NaN"
        raise OracleError(f"{oracle.name} gave no score for any molecule: {why}.", "Mend the oracle and start again.")


def check_directory(directory: Path, identity: dict[str, Any], resume: bool) -> None:
    """Refuse to write over something, and to resume with other settings; a larger budget is no other setting.

    Raises:
        OutputError: when ``directory`` is a file or not empty, or holds no run though it should be resumed.
        ConfigError: when its run had other settings.
        InputError: when its run.json cannot be read.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory} is a file.", "Give a directory for the run.")
    if resume and not (directory / RUN).is_file():
        raise OutputError(f"{directory} holds no run to resume.", "Check the path, or leave --resume out.")
    if not resume:
        if directory.is_dir() and any(path.name[0] != "." for path in directory.iterdir()):
            raise OutputError(f"{directory} is not empty.", "Continue its run with --resume, or choose another place.")
        return
    try:
        before: dict[str, Any] = json.loads((directory / RUN).read_text("utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{directory / RUN} cannot be read: {error}.", "Start anew in another directory.") from error
    # Runs of before methods had settings do not say that theirs had none.
    before.setdefault("options", "")
    before.setdefault("enough", None)
    before.setdefault("keep", "")
    for name, value in identity.items():
        if before.get(name) != value and not (name == "budget" and value >= before.get(name, 0)):
            was = "other molecules" if name == "starts" else f"{name} = {before.get(name)}"
            raise ConfigError(
                f"{directory} was run with {was}, not {'these' if name == 'starts' else value}.",
                "Resume with the same settings (only the budget may grow), or give another directory.",
            )


def optimize(
    loaded: LoadedModel, oracle: str | Callable[[list[str]], Sequence[float]] | Oracle, starts: Sequence[str] = (),
    method: str = "hybrid", budget: int = 500, seed: int = 0, directory: Path | None = None,
    progress: ProgressCallback | None = None, *, minimize: bool = False, min_similarity: float = 0.0,
    timeout: float = 300.0, resume: bool = False, options: str = "", keep: str = "",
) -> Result:  # fmt: skip
    """Search a model's latent space for molecules that score well.

    Args:
        loaded: the model.
        oracle: a name (see `molvae.optimize.oracles.find_oracle`), a Python function of a list, or an `Oracle`, such as
            the `GoalOracle` of a goal file (`molvae.optimize.goal_file.read_goal`).
        starts: SMILES to set out from; none draws from the prior and searches from the best of what comes.
        method: a key of `molvae.optimize.registry.METHODS`.
        budget: unique oracle calls allowed, those for the starts included.
        seed: of all chance.
        directory: where molecules.csv, best.csv, run.json and journal.jsonl go; None writes nothing.
        progress: told after every batch.
        minimize: look for low scores instead of high ones.
        min_similarity: Tanimoto similarity (Morgan radius 2, 2,048 bits) to its start that a molecule must have; one
            that has less is not scored.
        timeout: seconds a batch may take, for ``module:function``.
        resume: continue the run in ``directory``; only the budget may have grown.
        options: the method's own settings, ``name=value`` separated by commas; see `molvae.optimize.options`.
        keep: SMARTS of a part that every molecule must contain, such as a scaffold; "" asks for nothing.

    Returns:
        The tables. On Ctrl-C or SIGTERM they hold what was found until then, and ``stopped`` names the signal.

    Raises:
        UnknownNameError: for an unknown oracle or method.
        InputError: for settings out of range, or when no start can be encoded.
        OutputError: when ``directory`` holds something already, or nothing to resume, or cannot be written.
        OracleError: when the oracle mostly fails; what was found is written first.
    """
    settings = Settings(method, budget, seed, minimize, min_similarity, options, keep=keep)
    model = directory_digest(loaded.directory)
    with ExitStack() as stack:
        found = find_oracle(oracle, timeout, loaded)
        check_direction(found.name, minimize)
        if isinstance(oracle, str):
            stack.callback(getattr(found, "close", nullcontext))
        return search(
            ModelSpace(loaded), found, starts, settings, directory, resume=resume, progress=progress, model=model
        )
