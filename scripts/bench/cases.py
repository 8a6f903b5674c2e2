"""The table of what is measured: a stage is one or more comparisons, a comparison is ours beside a peer.

In: nothing. Out: `CASES` by name, and `COMPARISONS`, the rows of the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "137438953472"}
"""glibc keeps freed memory instead of handing it back: set at the start of a process."""


@dataclass(frozen=True)
class Case:
    """One thing to time: ``module.function`` makes it ready; cases of one ``process`` share a process.

    Attributes:
        environment: variables set at the start of its process.
    """

    module: str
    function: str
    process: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A row: a stage, our case beside the peer's.

    Attributes:
        roof: what limits the work: a case, or train, train32, sample or sample32 (the matrix rate over the operations
            of a molecule); None where no limit is known.
        gpu: whether the row is measured on a GPU too.
        must: least ratio wanted on one CPU core, None where none is.
        goal: ratio hoped for.
    """

    stage: str
    label: str
    ours: str
    peer: str
    roof: str | None = None
    must: float | None = None
    goal: float | None = None
    gpu: bool = False


def _chemistry(*names: str) -> dict[str, Case]:
    return {name: Case("bench.chemistry", name, "chemistry") for name in names}


CASES: dict[str, Case] = {
    **_chemistry(
        "read_ours", "read_csv", "read_roof", "standardize_ours", "canonical_rdkit", "encode_ours", "encode_selfies",
        "encode_proven", "tokenise_ours", "tokenise_selfies", "prepare_ours", "prepare_libraries", "decode_ours",
        "decode_selfies", "check_ours", "check_rdkit", "properties_ours", "properties_rdkit", "valid_libraries",
    ),
    "train_ours": Case("bench.network", "train_ours", "train_ours"),
    "train_ours_tuned": Case("bench.network", "train_ours", "train_ours_tuned", TUNED),
    "train_fp32_tuned": Case("bench.network", "train_fp32", "train_fp32_tuned", TUNED),
    "train_peer": Case("bench.network", "train_peer", "train_peer"),
    "train_peer_tuned": Case("bench.network", "train_peer", "train_peer_tuned", TUNED),
    "sample_ours": Case("bench.network", "sample_ours", "sample_ours"),
    "sample_fp32": Case("bench.network", "sample_fp32", "sample_fp32"),
    "sample_peer": Case("bench.network", "sample_peer", "sample_peer"),
    "validity_ours": Case("bench.network", "validity_ours", "validity_ours"),
}  # fmt: skip

MOSES = "MOSES VAE"
COMPARISONS: tuple[Comparison, ...] = (
    Comparison("read", "csv.gz: csv module", "read_ours", "read_csv", "read_roof"),
    Comparison("standardise", "RDKit parse + write", "standardize_ours", "canonical_rdkit"),
    Comparison("encode", "selfies.encoder, nothing proven", "encode_ours", "encode_selfies"),
    Comparison("encode", "selfies there and back + RDKit", "encode_ours", "encode_proven"),
    Comparison("tokenise", "selfies_to_encoding", "tokenise_ours", "tokenise_selfies"),
    Comparison("prepare", "a loop over the libraries", "prepare_ours", "prepare_libraries"),
    Comparison("train", f"{MOSES}, as it comes", "train_ours", "train_peer", "train", 8, 10, gpu=True),
    Comparison("train", f"{MOSES}, allocator tuned", "train_ours_tuned", "train_peer_tuned", "train", 4.5, 5.7),
    Comparison("train", f"{MOSES}, tuned; ours float32", "train_fp32_tuned", "train_peer_tuned", "train32"),
    Comparison("sample", f"{MOSES}, its sample", "sample_ours", "sample_peer", "sample", 8, 11, gpu=True),
    Comparison("sample", f"{MOSES}, its sample; ours float32", "sample_fp32", "sample_peer", "sample32"),
    Comparison("decode", "selfies.decoder", "decode_ours", "decode_selfies", None, 10, 100),
    Comparison("check", "RDKit parse + write alone", "check_ours", "check_rdkit", None, 0.85, 0.95),
    Comparison("properties", "RDKit", "properties_ours", "properties_rdkit"),
    Comparison("validity", "selfies.decoder + RDKit", "validity_ours", "valid_libraries", None, 8, 15, gpu=True),
)
STAGES = tuple(dict.fromkeys(row.stage for row in COMPARISONS))
