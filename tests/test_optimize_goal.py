"""Goals: several oracles as one, constraints, and a file whose mistakes are explained by line."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from toy_space import ToySpace

from molvae.errors import ConfigError, InputError, MolvaeError
from molvae.optimize.goal import Component, GoalOracle
from molvae.optimize.goal_constraints import START, Between, Constraints, Contains, NoAlerts, SimilarTo, StereoKept
from molvae.optimize.goal_file import EXAMPLE, read_goal
from molvae.optimize.goal_stereo import lost_stereo
from molvae.optimize.oracles import FunctionOracle, find_oracle
from molvae.optimize.run import search
from molvae.optimize.search import Settings
from molvae.optimize.transforms import Linear, ReverseSigmoid, Sigmoid, Step
from molvae.report.search import search_section
from molvae.report.tables import read_sources

RDKFingerprints = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
GOAL = """
mean = "geometric"
[[component]]
oracle = "tpsa"
weight = 3
transform = { type = "sigmoid", low = 0, high = 80 }
[[component]]
name = "size"
oracle = "mol_weight"
[component.transform]
type = "reverse_sigmoid"
low = 60
high = 200
[[constraint]]
forbid = "F"
[[constraint]]
property = "mol_weight"
high = 160
"""


def goal_of(folder: Path, text: str) -> GoalOracle:
    path = folder / "goal.toml"
    path.write_text(text, "utf-8")
    return read_goal(path).build()


def test_a_goal_is_the_weighted_mean_of_transformed_values(tmp_path: Path) -> None:
    goal = goal_of(tmp_path, GOAL)
    smiles = ["CCO", "NCC(=O)O", "CC(F)C(=O)N"]
    tpsa, weight = (np.array(find_oracle(name)(smiles)) for name in ("tpsa", "mol_weight"))
    parts = Sigmoid(0, 80)(tpsa), ReverseSigmoid(60, 200)(weight)
    assert goal(smiles) == pytest.approx((parts[0] ** 0.75 * parts[1] ** 0.25).tolist(), abs=1e-12)
    assert goal.raw["CCO"] == {"tpsa": pytest.approx(tpsa[0]), "size": pytest.approx(weight[0])}
    arithmetic = goal_of(tmp_path, GOAL.replace("geometric", "arithmetic"))
    assert arithmetic(smiles) == pytest.approx((0.75 * parts[0] + 0.25 * parts[1]).tolist(), abs=1e-12)
    assert arithmetic.identity != goal.identity == goal_of(tmp_path, GOAL).identity
    assert goal_of(tmp_path, GOAL.replace("160", "161")).identity != goal.identity


def test_a_failed_component_fails_the_molecule_and_says_which() -> None:
    def sometimes(smiles: list[str]) -> list[float]:
        return [math.nan if "N" in one else 0.5 for one in smiles]

    def broken(smiles: list[str]) -> list[float]:
        raise ValueError("no license")

    good, bad = (Component(one.__name__, FunctionOracle(one), Linear()) for one in (sometimes, broken))
    goal = GoalOracle([good])
    assert goal(["CCO"]) == [0.5]
    assert math.isnan(goal(["CCN"])[0])
    assert math.isnan(goal(["C("])[0]) is False
    goal = GoalOracle([good, bad])
    assert all(map(math.isnan, goal(["CCO", "CCN"])))
    assert goal.problem.startswith("broken: ValueError: no license")
    assert goal([]) == []


def test_zero_anywhere_is_zero_in_a_geometric_mean() -> None:
    components = [Component("a", find_oracle("substructure:O"), Linear()), Component("b", find_oracle("qed"), Linear())]
    assert GoalOracle(components)(["CCC"]) == [0.0]
    assert GoalOracle(components, "arithmetic")(["CCC"])[0] > 0


def test_pareto_keeps_components_apart_and_refuses_methods_for_one_number(tmp_path: Path) -> None:
    goal = goal_of(tmp_path, GOAL.replace("geometric", "pareto"))
    goal(["CCO", "NCC(=O)O"])
    values = goal.objectives([goal.raw["CCO"], goal.raw["NCC(=O)O"], {}])
    assert values.shape == (3, 2)
    assert values[:2, 0] == pytest.approx(Sigmoid(0, 80)(np.array(find_oracle("tpsa")(["CCO", "NCC(=O)O"]))))
    assert np.isnan(values[2]).all()
    with pytest.raises(ConfigError, match="Pareto front"):
        search(ToySpace(), goal, ["CCO"], Settings("random", 10))
    goal.check_method("several", several=True)


def test_a_search_keeps_the_constraints_and_the_raw_values(tmp_path: Path) -> None:
    goal = goal_of(tmp_path, GOAL)
    run = tmp_path / "run"
    result = search(ToySpace(), goal, ["CC(F)CCC"], Settings("random", 30, 1), run)
    # The start breaks a constraint: it is scored, but it is no result.
    assert result.molecules["smiles"].iloc[0] not in set(result.best["smiles"])
    assert len(result.best) > 5
    for smiles in result.molecules["smiles"].iloc[1:]:
        assert "F" not in smiles
        assert find_oracle("mol_weight")([smiles])[0] <= 160
    table = pd.read_csv(run / "molecules.csv")
    assert list(table.columns) == ["step", "smiles", "parent", "score", "raw_tpsa", "raw_size"]
    assert table["raw_tpsa"].to_numpy() == pytest.approx(find_oracle("tpsa")(list(table["smiles"])))
    counts = json.loads((run / "run.json").read_text())["counts"]
    assert counts["refused"] > 0
    assert counts["starts_refused"] == 1
    assert counts["calls"] == 30


def test_a_resumed_run_has_its_raw_values_without_asking_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def function(smiles: list[str]) -> list[float]:
        asked.extend(smiles)
        return [float(len(one)) for one in smiles]

    def goal() -> GoalOracle:
        return GoalOracle([Component("length", FunctionOracle(function), Step(low=5))], "arithmetic")

    first = search(ToySpace(), goal(), ["CCCCC"], Settings("random", 20), tmp_path / "run")
    n = len(asked)
    assert n == len(set(asked)) == 20
    again = search(ToySpace(), goal(), ["CCCCC"], Settings("random", 25), tmp_path / "run", resume=True)
    assert len(asked) == 25
    assert again.molecules["raw_length"].tolist()[:20] == first.molecules["raw_length"].tolist()
    assert again.molecules["raw_length"].tolist() == [float(len(one)) for one in again.molecules["smiles"]]


def test_drawn_starts_that_break_a_constraint_are_not_paid_for() -> None:
    goal = GoalOracle([Component("qed", find_oracle("qed"), Linear())], constraints=Constraints([Contains("F", True)]))
    result = search(ToySpace(), goal, [], Settings("random", 40))
    assert not any("F" in smiles for smiles in result.molecules["smiles"])


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (SimilarTo("CCO", 0.9), "OCC", "CCCCC"), (SimilarTo(START, 0.5), "CCCO", "c1ccccc1"),
        (SimilarTo(START, 0.0, 0.8), "c1ccccc1", "CCCO"), (Contains("CO"), "CCO", "CCC"),
        (Contains("C[N+](=O)[O-]", True), "CCO", "C[N+](=O)[O-]"), (Between("mol_weight", 40, 50), "CCO", "CCCCCC"),
        (NoAlerts(("BRENK",)), "CCO", "O=[N+]([O-])c1ccccc1"), (NoAlerts(("MOSES",)), "CCO", "C[N+](C)(C)C"),
        (Contains("C[C@H](N)C(=O)O"), "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"),
    ],
)  # fmt: skip
def test_constraints_allow_and_refuse(constraint: object, good: str, bad: str) -> None:
    constraints = Constraints([constraint])
    assert constraints.broken(good, "CCCO") == ""
    assert constraints.broken(bad, "CCCO") != ""
    assert constraints.broken("C(", "CCCO") != ""
    assert constraints.broken(bad, "CCCO") == constraints.broken(bad, "CCCO")


@pytest.mark.parametrize("limit", [0.35, 0.5, 0.7, 0.85, 0.95])
def test_a_similarity_exactly_on_the_limit_is_inside(limit: float) -> None:
    pairs = [(f"{'C' * a}c1ccccc1", f"{'C' * b}c1ccccc1") for a in range(1, 12) for b in range(1, 12)]
    on_it = 0
    for one, other in pairs:
        bits = [set(RDKFingerprints.GetFingerprint(Chem.MolFromSmiles(each)).GetOnBits()) for each in (one, other)]
        common, union = len(bits[0] & bits[1]), len(bits[0] | bits[1])
        inside = Fraction(common, union) >= Fraction(str(limit))
        broken = Constraints([SimilarTo(other, limit)]).broken(one)
        assert (broken == "") == inside, (one, other, common, union)
        within = Constraints([SimilarTo(other, 0.0, limit)]).broken(one) == ""
        assert within == (Fraction(common, union) <= Fraction(str(limit)))
        on_it += inside and within
    assert on_it


def test_what_was_refused_is_counted_by_the_first_reason() -> None:
    constraints = Constraints([Contains("F", forbidden=True), Between("logp", 0, 1), SimilarTo("CCO", 0.3)])
    for one in ("CF", "CCF", "CCCCCCCC", "CCO", "CCO", "NCC(=O)N"):
        constraints.broken(one)
    assert constraints.broken_by == {"contains F": 2, "logp outside 0 to 1": 3}


def test_a_run_says_what_its_goal_was_and_why_it_found_nothing(tmp_path: Path) -> None:
    goal = goal_of(tmp_path, '[[component]]\noracle = "qed"\n[[constraint]]\nkeep = "[Si]"\n')
    result = search(ToySpace(), goal, ["CCCCC"], Settings("hybrid", budget=6, options="ranked=1"), tmp_path / "run")
    assert result.stopped == "nothing new"
    assert any("no molecule was allowed" in note and "lacks [Si]" in note for note in result.notes)
    assert any(note.startswith("1 start molecules break a constraint") for note in result.notes)
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["refused_by"]["lacks [Si]"] > 5
    assert facts["goal"]["components"] == [["qed", "qed", "Linear(slope=1.0, shift=0.0)", 1.0]]
    assert facts["goal"]["constraints"] == ["Contains(smarts='[Si]', forbidden=False)"]
    run = read_sources([tmp_path / "run"]).searches[0]
    assert run.oracle == "goal of qed (geometric)"
    section = search_section(run, [], False)
    assert section is not None
    assert f"Note: {result.notes[0]}." in section.lead


def test_no_constraints_allow_everything() -> None:
    assert not Constraints()
    assert Constraints().broken("anything", "") == ""


@pytest.mark.parametrize(
    ("start", "smiles", "lost"),
    [
        ("C[C@H](N)C(=O)O", "C[C@H](N)C(=O)O", ""),
        ("C[C@H](N)C(=O)O", "OC(=O)[C@@H](N)C", ""),  # the same molecule from the other end
        ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "turned round"),
        ("C[C@H](N)C(=O)O", "CC(N)C(=O)O", "no longer specified"),
        ("C[C@H](N)C(=O)O", "CC(C)(N)C(=O)O", ""),  # no centre any more, but nothing turned round
        ("C[C@H](N)C(=O)O", "CCC", ""),
        ("C[C@H](N)C(=O)NCc1ccccc1", "C[C@H](N)C(=O)NCc1ccc(F)cc1", ""),
        ("C[C@H](N)C(=O)NCc1ccccc1", "C[C@@H](N)C(=O)NCc1ccc(F)cc1", "turned round"),
        ("C[C@H](O)[C@@H](F)CC", "C[C@H](O)[C@@H](F)CC", ""),
        ("C[C@H](O)[C@@H](F)CC", "C[C@H](O)[C@H](F)CC", "turned round"),
        ("F/C=C/Cl", "F/C=C/Cl", ""),
        ("F/C=C/Cl", "Cl/C=C/F", ""),
        ("F/C=C/Cl", "F/C=C\\Cl", "turned round"),
        ("F/C=C/Cl", "FC=CCl", "no longer specified"),
        ("C/C(F)=C(\\Cl)CC", "CC/C(Cl)=C(\\C)F", "turned round"),
        ("C/C(F)=C(\\Cl)CC", "CC/C(Cl)=C(/C)F", ""),
        ("CCO", "OCC", ""),
    ],
)
def test_stereo_is_kept_where_it_can_be(start: str, smiles: str, lost: str) -> None:
    found = lost_stereo(Chem.MolFromSmiles(start), Chem.MolFromSmiles(smiles))
    assert (lost in found) if lost else found == ""
    if not lost:
        # The expectation itself: RDKit calls the two the same molecule, or the start's centres are gone.
        same = Chem.CanonSmiles(start) == Chem.CanonSmiles(smiles)
        assert same or "@" not in start or len(smiles) != len(start)


def test_every_way_to_write_a_molecule_keeps_its_stereo() -> None:
    smiles = "C[C@H](N)C(=O)N[C@@H](CO)/C=C/[C@H]1CCCO1"
    mol = Chem.MolFromSmiles(smiles)
    mirror = Chem.MolFromSmiles(smiles.replace("@@", "&").replace("@", "@@").replace("&", "@"))
    for seed in range(20):
        other = Chem.MolFromSmiles(Chem.MolToRandomSmilesVect(mol, 1, randomSeed=seed)[0])
        assert lost_stereo(mol, other) == ""
        assert lost_stereo(mirror, other) != ""
    assert StereoKept().broken(mirror, Chem.MolToSmiles(mirror), smiles) != ""


def test_the_example_can_be_used(tmp_path: Path) -> None:
    goal = goal_of(tmp_path, EXAMPLE)
    assert [component.name for component in goal.components] == ["qed", "logp", "size"]
    assert len(goal.constraints) == 5
    assert 0 < goal(["CC(C)(C)NCC(O)c1ccc(O)c(CO)c1"])[0] < 1


QED = '[[component]]\noracle = "qed"\n'
WRONG = [
    ('mean = "geo"\n' + QED, 1, "no mean 'geo'", "Known: geometric"),
    ("wieght = 1\n" + QED, 1, "no key 'wieght'", "Known: mean"),
    (QED + "wieght = 2\n", 3, "no key 'wieght'", "Did you mean weight"),
    (QED + "weight = -1\n", 3, "not positive", "above 0"),
    (QED + 'weight = "2"\n', 3, "not a number", "without quotes"),
    (QED + "timeout = 0\n", 3, "time limit", "seconds"),
    (QED + "\n" + QED, 4, "two components", "name ="),
    ("[[component]]\nweight = 1\n", 1, "needs an oracle", "oracle ="),
    ('[[component]]\noracle = "logp"\n', 2, "no transform", "sigmoid"),
    ('[[component]]\noracle = "qedd"\ntransform.type = "linear"\n', 2, "no oracle 'qedd'", "Did you mean qed"),
    (QED + 'transform = { type = "sigmod", low = 0, high = 1 }\n', 3, "no transform 'sigmod'", "Did you mean sigmoid"),
    (QED + 'transform = { type = "sigmoid", low = 0 }\n', 3, "lacks high", "It needs low, high"),
    (QED + 'transform = { type = "sigmoid", low = 0, hihg = 1 }\n', 3, "no key 'hihg'", "Did you mean high"),
    (QED + '[component.transform]\ntype = "sigmoid"\nhigh = 0\nlow = 1\n', 5, "low = 1 and high = 0", "below high"),
    (QED + 'transform = "sigmoid"\n', 3, "a table with a type", "transform = {"),
    (QED + 'transform = { type = "step", low = true }\n', 3, "not a number", "without quotes"),
    (QED + 'transform = { type = "step", low = nan }\n', 3, "not finite", "Leave it out"),
    (QED + '[[constraint]]\nkeep = "C("\n', 4, "does not parse", "brackets"),
    (QED + "[[constraint]]\nforbid = 3\n", 4, "not a text", "--example-goal"),
    (QED + '[[constraint]]\nproperty = "logp"\nlow = 3\nhigh = 1\n', 5, "low = 3 is above high = 1", "not above"),
    (QED + '[[constraint]]\nproperty = "logp"\n', 4, "neither low nor high", "low, high or both"),
    (QED + '[[constraint]]\nproperty = "logpp"\nlow = 1\n', 4, "no property 'logpp'", "Did you mean logp"),
    (QED + '[[constraint]]\nsimilarity = "C("\nlow = 0.4\n', 4, "not a molecule", "SMILES"),
    (QED + '[[constraint]]\nalerts = ["PAIN"]\n', 4, "no set of alerts", "Did you mean PAINS"),
    (QED + '[[constraint]]\nstereo = "lost"\n', 4, "no meaning", "kept"),
    (QED + '[[constraint]]\nkeep = "C"\nforbid = "N"\n', 3, "keep and forbid", "one [[constraint]]"),
    (QED + "[[constraint]]\nkep = 'C'\n", 4, "no key 'kep'", "Did you mean keep"),
    (QED + "# keep = 'C'\n[[constraint]]\nkeep = 'C'\nlow = 1\n", 6, "no key 'low'", "Known: keep"),
    ('[component]\noracle = "qed"\n', 1, "not a list", "two brackets"),
    (QED + 'name = "smiles"\n', 3, "'smiles' cannot be a name", "name ="),
    (QED + 'name = " "\n', 3, "' ' cannot be a name", "name ="),
    ('[[component]]\noracle = "qedd"\n', 2, "no oracle 'qedd'", "Did you mean qed"),
    (QED + '[[constraint]]\nsimilarity = "start"\nlow = 1.5\n', 4, "outside 0 to 1", "from 0 to 1"),
    (
        QED + '[[constraint]]\nkeep = "CN"\n[[constraint]]\nforbid = "CN"\n',
        3,
        "both kept and forbidden",
        "Take one of them out",
    ),
    ("", 1, "no [[component]]", "--example-goal"),
]


@pytest.mark.parametrize(("text", "line", "problem", "remedy"), WRONG)
def test_mistakes_name_the_line_and_the_remedy(tmp_path: Path, text: str, line: int, problem: str, remedy: str) -> None:
    with pytest.raises(MolvaeError) as caught:
        goal_of(tmp_path, text)
    assert f"goal.toml line {line}: " in caught.value.problem
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_files_that_are_no_goals_are_refused(tmp_path: Path) -> None:
    for content, error in ((b"[[component]\n", ConfigError), (b"\xff\xfe", InputError)):
        (tmp_path / "goal.toml").write_bytes(content)
        with pytest.raises(error, match=r"goal\.toml"):
            read_goal(tmp_path / "goal.toml")
    with pytest.raises(InputError, match="No such file"):
        read_goal(tmp_path / "none.toml")


def test_a_goal_that_cannot_be_built_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = '[[component]]\noracle = "cmd:cat"\ntransform.type = "linear"\n' + QED.replace("qed", "cmd:no-such-1")
    with pytest.raises(MolvaeError, match="line 5"):
        goal_of(tmp_path, text + 'transform.type = "linear"\n')
    children = Path("/proc/self/task").iterdir()
    assert not any((task / "children").read_text().strip() and _is_worker(task) for task in children)


def _is_worker(task: Path) -> bool:
    pids = (task / "children").read_text().split()
    commands = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    return any(b"cmd:cat" in path.read_bytes() for path in commands if path.exists())


@pytest.mark.slow
def test_the_command_line_takes_a_goal(
    tmp_path: Path, run_molvae: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shown = run_molvae("optimize", "--example-goal")
    (tmp_path / "goal.toml").write_text(shown.stdout)
    (tmp_path / "leads.smi").write_text("O=C(Nc1cccc(OCCn2cccn2)c1)c1ccc2cc[nH]c2c1\n")
    arguments = ("--start", tmp_path / "leads.smi", "--budget", 20, "--method", "random", "-o", tmp_path / "run")
    done = run_molvae("optimize", "--goal", tmp_path / "goal.toml", *arguments)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "run" / "molecules.csv")
    assert {"raw_qed", "raw_logp", "raw_size"} <= set(table.columns)
    assert "deco_hop" in run_molvae("optimize", "--list-oracles").stdout
    neither = run_molvae("optimize", "-o", tmp_path / "other")
    assert neither.returncode == 2
    assert "--goal" in neither.stderr
