"""Translate canonical SMILES into SELFIES tokens and back, and prove each translation.

In: RDKit-canonical SMILES, or tokens. Out: tokens proven to decode to the same molecule, or `Rejected`; SMILES.

Fragments of a salt are joined by the token ``.``, so that salts survive the round trip. ``[nop]`` and ``[epsilon]`` are
not tokens here: padding is an id of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import selfies
from rdkit import Chem
from selfies.constants import ELEMENTS

from molvae.chem.codec_plain import write_smiles
from molvae.chem.codec_tables import Lexicon
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import parse

REMEMBERED = 4096
"""Molecules whose tokens are kept: a search reads the molecules it sets out from in more than one place."""

MOST_BONDS = 8
"""Bonds an atom may have when RDKit sets no limit (metals); also the default limit of selfies."""

# 10 and 20 are left out: selfies reads no charge with a zero in it, though it writes them.
_CHARGES = [charge for charge in range(-9, 20) if charge and "0" not in str(charge)]
_ATOM = re.compile(r"\[[=#/\\]?\d*([A-Z][a-z]?)@{0,2}(?:H(\d))?([+-][1-9]+)?\]")
_STRUCTURE = re.compile(r"\[(?:[=#]?(?:Branch|Ring)|-[/\\]Ring|[/\\][-/\\]Ring)[123]\]")

# What selfies raises on strings RDKit accepts: its own errors, and slips of its parser.
_ENCODER_FAULTS = (
    selfies.EncoderError, selfies.DecoderError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    RecursionError,
)  # fmt: skip


def _capacity(element: str, charge: int) -> int:
    """Return how many bonds RDKit lets an atom have, at most `MOST_BONDS`; negative when it accepts no such atom.

    A charged atom counts as its isoelectronic neighbour; P, S, As and Se with a negative charge stay hypervalent.
    """
    table = Chem.GetPeriodicTable()
    number = table.GetAtomicNumber(element)
    own = int(max(table.GetValenceList(number)))
    if own < 0:
        return MOST_BONDS
    electrons = number - charge
    if not 1 <= electrons <= 118:
        return 0
    if (number in (15, 16) and electrons > 16) or (number in (33, 34) and electrons > 34):
        return min(own + charge, MOST_BONDS)
    most = int(max(table.GetValenceList(electrons)))
    return MOST_BONDS if most < 0 else min(most, MOST_BONDS)


def constraint_table() -> dict[str, int]:
    """Return the bond limits molvae works under: those of selfies, and for every other atom and charge those of RDKit.

    selfies gives an atom missing from its table 8 bonds, and then 22 % of random strings are no molecules to RDKit.
    """
    table = selfies.get_preset_constraints("default")
    for element in sorted(ELEMENTS):
        for charge in (0, *_CHARGES):
            limit = _capacity(element, charge)
            if limit >= 0:
                table.setdefault(f"{element}{charge:+d}" if charge else element, limit)
    return dict(table)


selfies.set_semantic_constraints(constraint_table())
_lexicon = Lexicon()


@lru_cache(maxsize=100_000)
def is_allowed(token: str) -> bool:
    """Say whether a token may enter a vocabulary: selfies can decode it and the constraint table knows its atom.

    >>> [is_allowed(token) for token in ("[C]", ".", "[=Branch1]", "[Ring4]", "[C+100]", "[CH9]", "[nop]")]
    [True, True, True, False, False, False, False]
    """
    if token == "." or _STRUCTURE.fullmatch(token):
        return True
    match = _ATOM.fullmatch(token)
    if match is None:
        return False
    element, hydrogens, charge = match.groups()
    limit = selfies.get_semantic_constraints().get(element + (charge or ""))
    return limit is not None and limit >= int(hydrogens or 0)


def split(text: str) -> tuple[str, ...]:
    """Cut a SELFIES string into tokens.

    >>> split("[C][=O].[Na+1]")
    ('[C]', '[=O]', '.', '[Na+1]')
    """
    return tuple(text.replace("][", "]\n[").replace(".", "\n.\n").split("\n")) if text else ()


def decode(tokens: Sequence[str]) -> str:
    """Write the SMILES that tokens stand for; "" when they stand for nothing or hold a token selfies does not know.

    The SMILES is selfies' own, not canonical, and RDKit has not seen it: pass it through `standardize` or `check`.

    >>> decode(["[C]", "[=O]", "[C]"])
    'C=O'
    >>> decode(["[Branch1]", "[nonsense"])
    ''
    """
    text = write_smiles(_lexicon.look_up(tokens))
    if text is not None:
        return text
    try:
        return str(selfies.decoder("".join(tokens)))
    except (selfies.DecoderError, ValueError, LookupError, RecursionError):
        return ""


@lru_cache(maxsize=REMEMBERED)
def encode(canonical: str) -> tuple[str, ...] | Rejected:
    """Return the SELFIES tokens of a canonical SMILES after decoding them again to the very same canonical SMILES.

    Stereo, charges, isotopes and salts are kept; what SELFIES cannot say is refused, never altered.

    >>> encode("CC=O")
    ('[C]', '[C]', '[=O]')
    >>> encode("*C").reason
    'unsupported-selfies'
    """
    try:
        text = str(selfies.encoder(canonical))
    except _ENCODER_FAULTS as error:
        return Rejected(canonical, "unsupported-selfies", _brief(error))
    tokens = split(text)
    odd = next((token for token in tokens if not is_allowed(token)), None)
    if odd is not None:
        return Rejected(canonical, "unsupported-selfies", f"token {odd}")
    return prove(canonical, tokens)


def prove(canonical: str, tokens: tuple[str, ...]) -> tuple[str, ...] | Rejected:
    """Return ``tokens`` if RDKit reads what they decode to as the molecule of that canonical SMILES.

    >>> prove("CC=O", ("[C]", "[C]", "[O]")).detail
    'decodes to CCO'
    """
    mol = parse(decode(tokens))
    if mol is None or not tokens:
        return Rejected(canonical, "roundtrip", "decodes to no molecule")
    again = Chem.MolToSmiles(mol)
    if again != canonical:
        return Rejected(canonical, "roundtrip", f"decodes to {again}")
    return tokens


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".strip(": ")
