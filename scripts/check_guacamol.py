"""Compare every benchmark task with the original code of GuacaMol and of TDC, which PMO uses, molecule by molecule.

pip download --no-deps guacamol PyTDC
python scripts/check_guacamol.py guacamol-0.5.5-py3-none-any.whl pytdc-1.1.15.tar.gz MOLECULES.smi.gz [-n 1000]
    [--seed 0] [--golden tests/data/golden_tasks.json]

Both archives are only read: modules they ask for that are missing or have changed since (fcd, an old scipy, networkx,
pkg_resources) are replaced by stand-ins that the tasks do not use. ``-n`` molecules are drawn from the file, and the
reference molecules of the tasks are added, because drawn ones score 0 on some of them. Exit code 1 when a task differs
by more than 1e-6. ``--golden`` writes GuacaMol's scores of ten molecules per task, against which the tests compare.

TDC's deco_hop and scaffold_hop share variables of their module, so that in one process the second one called spoils the
first; each task gets a fresh copy of the module here.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import tarfile
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import rdBase

from molvae.generate.known import read_smiles
from molvae.optimize import tasks
from molvae.optimize.tasks import GUACAMOL_TRIVIAL, GUACAMOL_V2, PMO, TASK_NAMES

ALLOWED = 1e-6
GOLDEN = 10
EXTRA = (
    "CC(=O)N(C)Cc1ccc(-c2cc(F)cc(S(N)(=O)=O)c2)cc1",
    "CC(=O)N(C)Cc1ccc(-c2cc(C)cc(S(N)(=O)=O)c2)cc1",
    "CCCOc1cc2ncnc(Nc3ccc(O)cc3)c2cc1C(=O)OC",
    "CCCOc1cc(C(C)=O)ccc1Nc1ccc2ncsc2c1",
    "CCCOC1=CC=CC=C1Nc1ccc2ncsc2c1",
)
"""Molecules on which valsartan_smarts and the two hops are not at one of their plateaus; made up for this."""

Score = Callable[[str], float]


def main() -> None:
    """Compare, print the table, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("guacamol", type=Path, help="the wheel of guacamol")
    parser.add_argument("tdc", type=Path, help="the source archive of PyTDC, or - to leave it out")
    parser.add_argument("molecules", help="SMILES, one a line")
    parser.add_argument("-n", type=int, default=1000, help="molecules drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--golden", type=Path, help="file to write for the tests")
    given = parser.parse_args()
    rdBase.DisableLog("rdApp.*")
    molecules = draw(given.molecules, given.n, given.seed)
    originals = guacamol_tasks(given.guacamol)
    theirs = {} if str(given.tdc) == "-" else tdc_tasks(given.tdc)
    worst, golden = 0.0, dict[str, dict[str, float]]()
    sys.stdout.write(f"{len(molecules)} molecules, seed {given.seed}; largest difference, highest score, molecules/s\n")
    for name in TASK_NAMES:
        ours, speed = timed(lambda smiles, name=name: tasks.score(name, smiles), molecules)
        line = f"{name:26s}"
        for label, found in (("guacamol", originals), ("tdc", theirs)):
            if name in found:
                scores = np.array([found[name](smiles) for smiles in molecules], dtype=np.float64)
                golden[name] = golden.get(name) or best_and_first(molecules, scores)
                difference = float(np.abs(scores - ours).max())
                line += f"  {label} {difference:.1e}"
                if label == "guacamol" or name in PMO:
                    worst = max(worst, difference)
        sys.stdout.write(f"{line}  max {np.nanmax(ours):.4f}  {speed:7.0f}/s\n")
        sys.stdout.flush()
    if given.golden:
        given.golden.write_text(json.dumps(golden, indent=0) + "\n", "utf-8")
    sys.stdout.write(f"largest difference of all: {worst:.1e}\n")
    sys.exit(int(not worst <= ALLOWED))


def draw(path: str, n: int, seed: int) -> list[str]:
    """Return ``n`` molecules of a file and every reference molecule of the tasks."""
    everything = list(read_smiles(path))
    rows = np.random.default_rng(seed).choice(len(everything), n, replace=False)
    references = [value for name, value in vars(tasks).items()
                  if name.isupper() and isinstance(value, str) and "[#" not in value]  # fmt: skip
    references += [task.reference for task in tasks.tasks().values() if task.reference]
    return list(dict.fromkeys([*(everything[row] for row in rows), *references, *EXTRA]))


def timed(score: Callable[[list[str]], Any], molecules: list[str]) -> tuple[Any, float]:
    """Return the scores and molecules per second of CPU time, in batches of 100 as a search has them."""
    score(molecules[:2])
    began = time.process_time()
    scores = np.concatenate([score(molecules[start : start + 100]) for start in range(0, len(molecules), 100)])
    return scores, len(molecules) / (time.process_time() - began)


class _Anything(types.ModuleType):
    """A module in which every name is there; nothing in it is used by a task."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_in(*names: str) -> None:
    """Put an empty module in the place of each name that cannot be imported."""
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is None:
            sys.modules[name] = _Anything(name)


def guacamol_tasks(wheel: Path) -> dict[str, Score]:
    """Return the original's scoring functions under our names, read from its wheel without installing it."""
    import scipy

    stand_in("fcd", "tqdm", "requests", "keras", "tensorflow")
    sys.modules["guacamol.frechet_benchmark"] = _Anything("guacamol.frechet_benchmark")
    # Taken out of scipy in 1.5; only the distribution benchmarks use it.
    scipy.histogram = np.histogram
    sys.path.insert(0, str(wheel.resolve()))
    suites = importlib.import_module("guacamol.benchmark_suites")
    found = {}
    for suite, names in (("v2", GUACAMOL_V2), ("trivial", GUACAMOL_TRIVIAL)):
        benchmarks = suites.goal_directed_benchmark_suite(suite)
        if len(benchmarks) != len(names):
            raise SystemExit(f"GuacaMol's suite {suite} has {len(benchmarks)} tasks, not {len(names)}")
        for name, benchmark in zip(names, benchmarks, strict=True):
            tops = tuple(top for top, _ in benchmark.contribution_specification.contributions)
            if tops != tasks.tasks()[name].top:
                raise SystemExit(f"{name}: the original averages the top {tops}")
            found[name] = benchmark.objective.score
    return found


def tdc_tasks(archive: Path) -> dict[str, Score]:
    """Return TDC's oracles under our names, from one file of its source archive."""
    with tarfile.open(archive) as tar:
        member = next(one for one in tar.getmembers() if one.name.endswith("chem_utils/oracle/oracle.py"))
        handle = tar.extractfile(member)
        assert handle is not None
        text = handle.read()
    stand_in("networkx", "packaging")
    for name in ("tdc", "tdc.utils", "tdc.chem_utils", "tdc.chem_utils.oracle", "rdkit.six", "pkg_resources"):
        sys.modules[name] = _Anything(name)
    version = types.SimpleNamespace(version="1.5")
    sys.modules["pkg_resources"].get_distribution = lambda name: version  # type: ignore[attr-defined]
    names = [*PMO, "isomers_c11h24", "aripiprazole_similarity"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "oracle.py"
        source.write_bytes(text)
        return {name: getattr(load(source), name) for name in names}


def load(source: Path) -> Any:
    """Import a fresh copy of a file as TDC's module."""
    spec = importlib.util.spec_from_file_location("tdc.chem_utils.oracle.oracle", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def best_and_first(molecules: list[str], scores: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    """Return the scores of the five best molecules and of the first ones drawn, ten in all."""
    best = np.argsort(-scores, kind="stable")[: GOLDEN // 2].tolist()
    rows = list(dict.fromkeys([*best, *range(GOLDEN)]))[:GOLDEN]
    return {molecules[row]: round(float(scores[row]), 9) for row in rows}


if __name__ == "__main__":
    main()
