"""Named oracles give the published numbers; names that do not exist are explained."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from molvae.errors import InputError, OracleError, UnknownNameError
from molvae.optimize.oracles import ORACLES, FunctionOracle, find_oracle

# From the 800 molecules of JT-VAE's constrained optimisation (Jin et al. 2018), with their second column: logP - SA.
PLOGP = (
    ("COc1cc2c(cc1OC)CC([NH3+])C2", -2.50504567445),
    ("C[C@@H]1CC[C@@H](C(N)=O)CN1C(=O)c1nnn[n-]1", -5.93727899018),
    ("CC[NH+]1CC[C@@H](CNCc2ccc([O-])c[nH+]2)C1", -7.66165927676),
    ("OC[C@@H](Br)C(F)(F)Br", -2.45357941743),
    ("CNC(=O)/C(C#N)=C(/[O-])C1=NN(c2cc(C)ccc2C)C(=O)CC1", -2.51422724186),
    ("C[NH+](C)CCS[C@@H]1C[C@H](C(C)(C)C)CC[C@@H]1C#N", -2.71992810629),
    ("CN(c1ncnc(N2CCN(c3cccc[nH+]3)CC2)c1[N+](=O)[O-])C1CC[NH+](C)CC1", -4.63180569642),
    ("COc1cc(C[NH+]2CC[C@@H]([NH+]3CCCC3)C2)ccc1OCC(=O)N1CCCC1", -5.19467130823),
    ("COCCN1C[C@@]23C=C[C@@H](O2)[C@H](C(=O)N(C)Cc2cnccn2)[C@H]3C1=O", -5.26375663217),
    ("COc1ccc(/C=C2\\SC(=O)N(CC(=O)NCC(=O)[O-])C2=O)cc1OC", -2.93926654255),
    ("COCC[NH+]1CC[C@H]2CCCC[C@@H]2C1", -4.16239029226),
    ("CCC[NH+](C1CCC([NH3+])CC1)[C@H]1CCOC1", -6.14945349024),
    ("CC(C)CNC(=O)[C@H](C)[NH+]1CCCN(CC[NH3+])CC1", -7.03137748556),
    ("CN(CC[C@@H]1CCC[C@]1(N)C#N)CC[NH+]1CCCC1", -5.37957786032),
    ("CCn1ccnc(N2CCCC[C@@H](N3CC[NH+](C)CC3)C2)c1=O", -4.50127151522),
    ("Cc1cnn(CCCNC(=O)N2CCCC[C@H](N3CC[NH+](C)CC3)C2)c1", -3.868079945),
    ("COc1ccccc1CC(=O)N1C[C@H]2CC[C@@H]1CN(S(C)(=O)=O)C2", -2.66069292613),
    ("CC(C)OCCS(=O)(=O)N[C@@H]1CCCCC[C@H]1[NH3+]", -3.61718771275),
    ("COc1ccc([N+](=O)[O-])cc1CN1CCC[NH+](CC(=O)N2CCCC2)CC1", -3.34482164015),
    ("C[C@@]1(C(=O)[O-])CCCCCC[C@@H]1O", -3.18085313566),
)  # fmt: skip


def test_logp_sa_reproduces_the_published_column() -> None:
    scores = find_oracle("logp_sa")([smiles for smiles, _ in PLOGP])
    assert max(abs(score - value) for score, (_, value) in zip(scores, PLOGP, strict=True)) < 1e-8


def test_plogp_is_the_sum_of_three_standardised_parts() -> None:
    logp, sa, plogp = (find_oracle(name)(["CCCCCCCC", "C1CCCCCCC1"]) for name in ("logp", "sa", "plogp"))
    for row, excess in enumerate((0, 2)):
        parts = (logp[row] - 2.4570953396190123) / 1.434324401111988
        parts += (-sa[row] + 3.0525811293166134) / 0.8335207024513095
        parts += (-excess + 0.0485696876403053) / 0.2860212110245455
        assert plogp[row] == pytest.approx(parts, abs=1e-12)


@pytest.mark.parametrize("name", [*ORACLES, "similarity:CCO"])
def test_every_named_oracle_scores_molecules_and_fails_as_nan(name: str) -> None:
    scores = find_oracle(name)(["CCO", "C(", "c1ccccc1O"])
    assert [math.isnan(score) for score in (scores[0], scores[2])] == [False, False]
    assert math.isnan(scores[1]) or name.startswith("similarity")


def test_identities_differ_and_similarity_is_canonical() -> None:
    identities = {find_oracle(name).identity for name in ORACLES}
    assert len(identities) == len(ORACLES)
    assert find_oracle("similarity:OCC").identity == find_oracle("similarity:CCO").identity


@pytest.mark.parametrize(
    ("name", "kind", "word"),
    [
        ("qedd", UnknownNameError, "Did you mean qed?"),
        ("", UnknownNameError, "module:function"),
        ("similarity:C(", InputError, "similarity"),
        ("no_such_module_here:f", UnknownNameError, "no_such_module_here"),
        ("math:no_such", UnknownNameError, "no_such"),
        ("math:pi", UnknownNameError, "not a function"),
        ("broken:f", OracleError, "ZeroDivisionError"),
        ("needs:f", OracleError, "no_such_dependency"),
    ],
)
def test_what_does_not_exist_is_explained(
    name: str, kind: type[Exception], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("1 / 0\n")
    Path("needs.py").write_text("import no_such_dependency\n")
    with pytest.raises(kind) as caught:
        find_oracle(name)
    assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_a_python_function_is_an_oracle() -> None:
    oracle = find_oracle(lambda smiles: [len(one) for one in smiles])
    assert oracle(["CC"]) == [2]
    assert find_oracle(oracle) is oracle
    assert isinstance(oracle, FunctionOracle)
