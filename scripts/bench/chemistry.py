"""The stages that need RDKit or selfies, each beside the libraries' own calls on the same molecules.

In: a `Setting`. Out: for each case a function that does one repeat and returns how many molecules that were.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.setting import Setting, Unavailable

if TYPE_CHECKING:
    from molvae.data.vocabulary import Vocabulary

Repeat = Callable[[], int]
NAMES = ("qed", "logp", "sa", "mol_weight", "tpsa")
"""Properties computed in the stage of that name."""
FILE_ROWS = 10
"""The table that is read and prepared has this many times ``molecules`` rows."""


def _need(*names: str) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Unavailable(f"{name} is not installed") from error


def constraints() -> Mapping[str, int]:
    """Return the bond limits that molvae works under."""
    _need("rdkit", "selfies")
    from molvae.chem.selfies import constraint_table

    return constraint_table()


@lru_cache(maxsize=4)
def token_rows(setting: Setting, count: int | None = None) -> tuple[Vocabulary, list[tuple[int, ...]]]:
    """Return the vocabulary of the molecules and the token ids of each, without BOS and EOS."""
    _need("rdkit", "selfies")
    from molvae.chem.rejected import Rejected
    from molvae.chem.selfies import encode
    from molvae.data.vocabulary import Vocabulary

    # Translated once, however many are asked for.
    given = setting.read_smiles(min(count or setting.molecules, setting.molecules))
    tokens = [found for found in map(encode, map(_canonical, given)) if not isinstance(found, Rejected)]
    vocabulary = Vocabulary.from_tokens(token for row in tokens for token in row)
    ids = [tuple(vocabulary.encode(row) or ()) for row in tokens]
    return vocabulary, [ids[i % len(ids)] for i in range(count or len(ids))]


def _canonical(smiles: str) -> str:
    from rdkit import Chem

    return str(Chem.CanonSmiles(smiles))


def _each(function: Callable[[str], object], items: Sequence[str]) -> Repeat:
    def repeat() -> int:
        for item in items:
            function(item)
        return len(items)

    return repeat


def _table(setting: Setting) -> Path:
    path = Path(setting.folder) / "table.csv.gz"
    if not path.exists():
        rows = setting.read_smiles(FILE_ROWS * setting.molecules)
        with tempfile.NamedTemporaryFile(dir=setting.folder, delete=False) as file:
            file.write(gzip.compress(("SMILES\n" + "\n".join(rows) + "\n").encode(), mtime=0))
        Path(file.name).rename(path)
    return path


def read_ours(setting: Setting) -> Repeat:
    """`molvae.data.table.Table`: finds the column, numbers the rows, refuses odd cells."""
    _need("rdkit")
    from molvae.data.table import Table

    path = str(_table(setting))

    def repeat() -> int:
        table = Table(path)
        count = sum(1 for _ in table.rows())
        table.source.close()
        return count

    return repeat


def read_csv(setting: Setting) -> Repeat:
    """Python's own csv over gzip."""
    path = _table(setting)

    def repeat() -> int:
        with gzip.open(path, "rt") as stream:
            return sum(1 for _ in csv.reader(stream)) - 1

    return repeat


def read_roof(setting: Setting) -> Repeat:
    """zlib: unpack the same bytes and do nothing with them."""
    packed = _table(setting).read_bytes()

    def repeat() -> int:
        return zlib.decompress(packed, 31).count(b"\n") - 1

    return repeat


def standardize_ours(setting: Setting) -> Repeat:
    """`standardize`."""
    _need("rdkit")
    from molvae.chem.standardize import standardize

    return _each(standardize, setting.read_smiles(setting.molecules))


def canonical_rdkit(setting: Setting) -> Repeat:
    """RDKit: MolFromSmiles and MolToSmiles."""
    _need("rdkit")
    from rdkit import Chem

    return _each(lambda text: Chem.MolToSmiles(Chem.MolFromSmiles(text)), setting.read_smiles(setting.molecules))


def encode_ours(setting: Setting) -> Repeat:
    """`chem.selfies.encode`, the round trip proven."""
    _need("rdkit", "selfies")
    from molvae.chem.selfies import encode

    return _each(encode, list(map(_canonical, setting.read_smiles(setting.molecules))))


def encode_selfies(setting: Setting) -> Repeat:
    """`selfies.encoder` alone, nothing proven."""
    _need("rdkit", "selfies")
    import selfies

    return _each(selfies.encoder, list(map(_canonical, setting.read_smiles(setting.molecules))))


def encode_proven(setting: Setting) -> Repeat:
    """`selfies.encoder`, `selfies.decoder`, and RDKit's parse and canonical write of what it gives."""
    _need("rdkit", "selfies")
    import selfies
    from rdkit import Chem

    def prove(text: str) -> bool:
        return bool(Chem.MolToSmiles(Chem.MolFromSmiles(selfies.decoder(selfies.encoder(text)))) == text)

    return _each(prove, list(map(_canonical, setting.read_smiles(setting.molecules))))


def _strings(setting: Setting) -> list[str]:
    vocabulary, rows = token_rows(setting)
    return ["".join(vocabulary.decode(row)) for row in rows]


def tokenise_ours(setting: Setting) -> Repeat:
    """`chem.selfies.split` and `Vocabulary.encode`: a SELFIES string to token ids."""
    strings, vocabulary = _strings(setting), token_rows(setting)[0]
    from molvae.chem.selfies import split

    return _each(lambda text: vocabulary.encode(split(text)), strings)


def tokenise_selfies(setting: Setting) -> Repeat:
    """`selfies.selfies_to_encoding`, labels only."""
    strings, vocabulary = _strings(setting), token_rows(setting)[0]
    import selfies

    known = {token: number for number, token in enumerate(vocabulary.tokens)}
    return _each(lambda text: selfies.selfies_to_encoding(text, known, enc_type="label"), strings)


def prepare_ours(setting: Setting) -> Repeat:
    """`molvae.data.prepare`: a gzipped table to a dataset directory, properties off, ``threads`` workers."""
    _need("rdkit", "selfies")
    from molvae.data.prepare import PrepareOptions, prepare

    path = str(_table(setting))
    options = PrepareOptions(properties=(), workers=setting.threads, max_rejected=1.0, force=True)

    def repeat() -> int:
        return prepare([path], Path(setting.folder) / "prepared", options).read

    return repeat


def prepare_libraries(setting: Setting) -> Repeat:
    """A loop in one process: RDKit, selfies there and back, RDKit on what comes back, ids; nothing written."""
    _need("rdkit", "selfies")
    import selfies
    from rdkit import Chem

    smiles = setting.read_smiles(setting.molecules)

    def repeat() -> int:
        known: dict[str, int] = {}
        for text in smiles:
            canonical = Chem.MolToSmiles(Chem.MolFromSmiles(text))
            string = selfies.encoder(canonical)
            if Chem.MolToSmiles(Chem.MolFromSmiles(selfies.decoder(string))) == canonical:
                np.array([known.setdefault(token, len(known)) for token in selfies.split_selfies(string)], dtype="u1")
        return len(smiles)

    return repeat


def decode_ours(setting: Setting) -> Repeat:
    """`chem.codec`: a batch of token ids to SMILES, no strings in between."""
    vocabulary, rows = token_rows(setting, 10 * setting.molecules)
    from molvae.data.vocabulary import EOS, UNK

    try:
        from molvae.chem.codec import TokenCodec
    except ImportError as error:
        raise Unavailable(f"{error}") from error
    codec = TokenCodec(vocabulary.tokens, left_out=range(UNK + 1), end=EOS)
    flat = np.fromiter((token for row in rows for token in row), dtype=np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])

    def repeat() -> int:
        return len(codec.decode_many(flat, offsets))

    return repeat


def decode_selfies(setting: Setting) -> Repeat:
    """`selfies.decoder`, its strings joined before the clock starts."""
    strings = _strings(setting)
    import selfies

    return _each(selfies.decoder, strings)


def check_ours(setting: Setting) -> Repeat:
    """`generate.chemistry.Write`: token ids to checked canonical SMILES, as every verb writes them, one process."""
    vocabulary, rows = token_rows(setting)
    from molvae.generate.chemistry import Write

    write = Write(vocabulary)
    items = [(row, True) for row in rows]

    def repeat() -> int:
        texts = write.translate(items)
        return sum(write.judge(text).smiles is not None for text in texts)

    return repeat


def check_rdkit(setting: Setting) -> Repeat:
    """RDKit: MolFromSmiles and MolToSmiles of the same molecules, as `selfies.decoder` writes them."""
    strings = _strings(setting)
    import selfies
    from rdkit import Chem

    written = [selfies.decoder(text) for text in strings]
    return _each(lambda text: Chem.MolToSmiles(Chem.MolFromSmiles(text)), written)


def properties_ours(setting: Setting) -> Repeat:
    """`chem.properties.compute_mol`: QED, logP, SA, weight and TPSA, RDKit's parse included."""
    _need("rdkit")
    from rdkit import Chem

    from molvae.chem.properties import compute_mol

    return _each(lambda text: compute_mol(Chem.MolFromSmiles(text), NAMES), setting.read_smiles(setting.molecules // 4))


def properties_rdkit(setting: Setting) -> Repeat:
    """RDKit: `QED.qed`, `Crippen.MolLogP`, `sascorer`, `MolWt`, `TPSA`, its parse included."""
    _need("rdkit")
    from rdkit import Chem
    from rdkit.Chem import QED, Crippen, Descriptors, rdMolDescriptors
    from rdkit.Contrib.SA_Score import sascorer

    parts = (QED.qed, Crippen.MolLogP, sascorer.calculateScore, Descriptors.MolWt, rdMolDescriptors.CalcTPSA)

    def compute(text: str) -> list[float]:
        mol = Chem.MolFromSmiles(text)
        return [part(mol) for part in parts]

    return _each(compute, setting.read_smiles(setting.molecules // 4))


def valid_libraries(setting: Setting) -> Repeat:
    """`selfies.decoder` and RDKit's MolFromSmiles."""
    strings = _strings(setting)
    import selfies
    from rdkit import Chem

    return _each(lambda text: Chem.MolFromSmiles(selfies.decoder(text)), strings)
