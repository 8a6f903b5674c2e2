"""Turn a vocabulary and bond limits into the tables that molecular graphs are derived with on the device.

In: tokens and a constraint table, plain data. Out: `GraphTables`, tensors indexed by token id, class and state.

The grammar of SELFIES is a state machine. A state is the number of bonds the current atom has left, with `DEAD` for
"this branch says nothing more", plus 16 times the number of index symbols still to be skipped. Every token belongs to a
class (an atom by its bond order and capacity, a branch, a ring, ...), and ``transitions[class * 64 + state]`` says what
it does.

Source: grammar_rules.py and decoder.py of selfies 2.2.0 (Krenn et al., doi:10.1088/2632-2153/aba947).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from molvae.data.vocabulary import EOS, SPECIALS
from molvae.errors import ConfigError
from molvae.nn.molgraph_elements import BY_SYMBOL, NO_LIMIT, mass, max_valence

DEAD = 15
STATES = 64
"""Codes of a state: 16 numbers of bonds left, times 0 to 3 symbols to skip."""

# Fields of a transition. Bits 0-5 hold the next state, bits 12-15 the state kept for after the branch.
ATOM, RING, BRANCH, BROKEN = 1 << 6, 1 << 7, 1 << 8, 1 << 9
ORDER_SHIFT, OUTER_SHIFT = 10, 12

_ATOM = re.compile(r"\[([=#/\\]?)(\d*)([A-Z][a-z]?)(@{0,2})((?:H\d)?)((?:[+-][1-9]+)?)\]")
_BRANCH = re.compile(r"\[([=#]?)Branch([123])\]")
_RING = re.compile(r"\[([=#]?|-[/\\]|[/\\][-/\\])Ring([123])\]")
_INDEX = (
    "[C]", "[Ring1]", "[Ring2]", "[Branch1]", "[=Branch1]", "[#Branch1]", "[Branch2]", "[=Branch2]", "[#Branch2]",
    "[O]", "[N]", "[=N]", "[=C]", "[#C]", "[S]", "[P]",
)  # fmt: skip
_ORGANIC = frozenset({"B", "C", "N", "O", "S", "P", "F", "Cl", "Br", "I"})
# Elements SELFIES has no word for; RDKit knows them.
_NOT_IN_SELFIES = frozenset({"Nh", "Mc", "Ts", "Og"})
BY_NUMBER = {element.number: symbol for symbol, element in BY_SYMBOL.items()}
_LADDER = 3  # valences an atom written without brackets may choose from, at most


@dataclass(frozen=True)
class _Token:
    """What one token means; the defaults are those of a token that makes no atom."""

    kind: tuple[str, int, int] = ("bad", 0, 0)
    length: int = 0
    number: int = 0
    charge: int = 0
    isotope: int = 0
    hydrogens: int = 0
    implicit: bool = False
    stereo: bool = False


def _parse(token: str, limits: Mapping[str, int]) -> _Token:
    """Read one token as selfies does under ``limits``."""
    if token == "[nop]" or token in SPECIALS:
        return _Token(("skip", 0, 0))
    if token == ".":
        return _Token(("dot", 0, 0))
    orders = {"=": 2, "#": 3}
    if match := _BRANCH.fullmatch(token):
        length = int(match[2])
        return _Token(("branch", orders.get(match[1], 1), length), length)
    if match := _RING.fullmatch(token):
        length, stereo = int(match[2]), "/" in match[1] or "\\" in match[1]
        return _Token(("ring", orders.get(match[1], 1), length), length, stereo=stereo)
    if token[-4:-2] not in ("ch", "ng") and "eps" in token:
        return _Token(("epsilon", 0, 0))
    match = _ATOM.fullmatch(token)
    if match is None or match[3] not in BY_SYMBOL or match[3] in _NOT_IN_SELFIES:
        return _Token()
    bond, isotope, symbol, chiral, hydrogens, sign = match.groups()
    charge, given = int(sign or 0), int(hydrogens[1:] or 0)
    capacity = limits.get(symbol + (f"{charge:+d}" if charge else ""), limits["?"]) - given
    if capacity < 0:
        return _Token()
    if capacity >= DEAD:
        raise ConfigError(f"{token} may have {capacity} bonds by the constraint table.", f"Allow at most {DEAD - 1}.")
    bare = symbol in _ORGANIC and token[1 + len(bond) : -1] == symbol
    return _Token(
        ("atom", orders.get(bond, 1), capacity), 0, BY_SYMBOL[symbol].number, charge, int(isotope or 0), given, bare,
        bool(chiral) or bond in ("/", "\\"),
    )  # fmt: skip


def _act(kind: str, first: int, second: int, state: int) -> int:
    """Return the transition of a class of tokens from ``state``, awake; fields as above."""
    if kind == "dot":
        return BRANCH  # the next fragment starts from state 0, with no frame left: see `molgraph_walk.walk`
    if state == DEAD or kind == "skip":
        return DEAD
    if kind == "bad":
        return DEAD | BROKEN
    if kind == "epsilon":
        return 0 if state == 0 else DEAD
    if kind == "atom":
        order = min(first, state, second)
        made = ATOM if order or state == 0 else 0
        return (second - order or DEAD) | made | order << ORDER_SHIFT
    if kind == "ring":
        order = min(first, state)
        return ((state - order or DEAD) + 16 * second) | RING | order << ORDER_SHIFT if state else 0
    inner = min(state - 1, first)
    return (inner + 16 * second) | BRANCH | (state - inner) << OUTER_SHIFT if state > 1 else state


def _row(kind: tuple[str, int, int]) -> list[int]:
    """Return the transitions of a class from each of the `STATES`; a symbol that is skipped does nothing."""
    awake = [_act(*kind, state) for state in range(16)]
    if kind[0] == "dot":
        return awake * 4
    asleep = [16 * (skip - 1) + state for skip in (1, 2, 3) for state in range(16)]
    return awake + asleep


@dataclass(frozen=True)
class GraphTables:
    """Everything that depends on the vocabulary and the bond limits; V token ids, C classes.

    Attributes:
        transitions: (C * 64,) int64, see the module.
        base: (V,) int64, first transition of the token's class.
        code: (V,) int64, value as an index symbol, 0 to 15.
        length: (V,) int64, index symbols that follow a branch or ring, else 0.
        skip: (V,) bool, tokens that count for nothing (PAD, BOS, UNK, ``[nop]``).
        dot: (V,) bool.
        number, charge, isotope, hydrogens: (V,) int64, of the atom; 0 where the token makes none.
        capacity: (V,) int64, bonds the constraint table allows.
        implicit: (V,) bool, written without brackets, so that hydrogens fill its valence.
        stereo: (V,) bool, says something about stereochemistry.
        most: (V,) int64, largest valence RDKit accepts.
        recharged: (119 * 17,) int64, the same for element ``i // 17`` with the charge ``i % 17 - 8``.
        ladder: (V, 3) int64, valences that implicit hydrogens fill up to, rising.
        species: (V,) int64, column of the formula.
        columns: (symbol, isotope) of every column; the first is hydrogen.
        weights: (S,) float64, g/mol of every column.
        cleans: whether RDKit's clean-up (N=O, halogen oxo groups) can matter under these limits.
        end: the id that ends a row.
    """

    transitions: torch.Tensor
    base: torch.Tensor
    code: torch.Tensor
    length: torch.Tensor
    skip: torch.Tensor
    dot: torch.Tensor
    number: torch.Tensor
    charge: torch.Tensor
    isotope: torch.Tensor
    hydrogens: torch.Tensor
    capacity: torch.Tensor
    implicit: torch.Tensor
    stereo: torch.Tensor
    most: torch.Tensor
    recharged: torch.Tensor
    ladder: torch.Tensor
    species: torch.Tensor
    columns: tuple[tuple[str, int], ...]
    weights: torch.Tensor
    cleans: bool
    end: int = EOS

    @classmethod
    def build(cls, tokens: Sequence[str], limits: Mapping[str, int], device: torch.device | str = "cpu") -> GraphTables:
        """Make the tables.

        Args:
            tokens: of a `Vocabulary`, specials first, PAD with the id 0: ``vocabulary.tokens``.
            limits: bonds by element and charge as in ``selfies.get_semantic_constraints``; ``?`` for all others.
            device: where graphs will be derived.

        Raises:
            ConfigError: when ``limits`` has no ``?``, or allows an atom of the vocabulary more than 14 bonds.

        >>> tables = GraphTables.build(["<pad>", "<bos>", "<eos>", "<unk>", "[C]", "[=O]"], {"C": 4, "O": 2, "?": 8})
        >>> tables.number.tolist(), tables.columns
        ([0, 0, 0, 0, 6, 8], (('H', 0), ('C', 0), ('O', 0)))
        """
        if "?" not in limits:
            raise ConfigError("The constraint table has no entry '?'.", "Add the limit of all atoms it does not name.")
        parsed = [_parse(token, limits) for token in tokens]
        atoms = [(BY_NUMBER[token.number], token.isotope) if token.number else ("H", 0) for token in parsed]
        columns = (("H", 0), *sorted(set(atoms) - {("H", 0)}))
        fields: dict[str, Any] = {
            name: torch.tensor(values, dtype=torch.int64, device=device)
            for name, values in {**_grammar(tokens, parsed), **_chemistry(parsed)}.items()
        }
        for name in ("skip", "dot", "implicit", "stereo"):
            fields[name] = fields[name] > 0
        fields["species"] = torch.tensor([columns.index(atom) for atom in atoms], dtype=torch.int64, device=device)
        weights = [mass(BY_SYMBOL[symbol].number, isotope) for symbol, isotope in columns]
        fields["weights"] = torch.tensor(weights, dtype=torch.float64, device=device)
        return cls(**fields, columns=columns, cleans=any(_can_be_cleaned(token) for token in parsed))

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.base.device

    def to(self, device: torch.device | str) -> GraphTables:
        """Return the same tables on another device."""
        moved: dict[str, Any] = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in vars(self).items()
        }
        return GraphTables(**moved)


def _grammar(tokens: Sequence[str], parsed: Sequence[_Token]) -> dict[str, list[int]]:
    """Return the columns that the state machine needs."""
    kinds = list(dict.fromkeys(token.kind for token in parsed))
    codes = {token: value for value, token in enumerate(_INDEX)}
    return {
        "transitions": [entry for kind in kinds for entry in _row(kind)],
        "base": [STATES * kinds.index(token.kind) for token in parsed],
        "code": [codes.get(token, 0) for token in tokens],
        "length": [token.length for token in parsed],
        "skip": [token.kind[0] == "skip" for token in parsed],
        "dot": [token.kind[0] == "dot" for token in parsed],
    }


def _chemistry(parsed: Sequence[_Token]) -> dict[str, Sequence[int] | list[list[int]]]:
    """Return the columns that say what an atom is, zeros where there is none."""
    return {
        "number": [token.number for token in parsed],
        "charge": [token.charge for token in parsed],
        "isotope": [token.isotope for token in parsed],
        "hydrogens": [token.hydrogens for token in parsed],
        "capacity": [token.kind[2] if token.number else 0 for token in parsed],
        "implicit": [token.implicit for token in parsed],
        "stereo": [token.stereo for token in parsed],
        "most": [max_valence(token.number, token.charge) if token.number else 0 for token in parsed],
        "recharged": [max_valence(max(number, 1), charge) for number in range(119) for charge in range(-8, 9)],
        "ladder": [_ladder(token) for token in parsed],
    }


def _can_be_cleaned(token: _Token) -> bool:
    """Say whether RDKit's clean-up has something to change: N with five bonds, halogens with three."""
    return token.kind[2] >= {7: 5, 17: 3, 35: 3, 53: 3, 85: 3}.get(token.number, NO_LIMIT)


def _ladder(token: _Token) -> list[int]:
    """Return the valences implicit hydrogens may fill up to, padded with the last; zeros when there are none."""
    if not token.implicit:
        return [0] * _LADDER
    valences = list(BY_SYMBOL[BY_NUMBER[token.number]].valences)
    return (valences + valences[-1:] * _LADDER)[:_LADDER]
