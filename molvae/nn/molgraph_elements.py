"""Know the elements: number, weight and the valences RDKit lets them have.

In: an element, charge or isotope. Out: plain numbers, from the table below.

Source: the periodic table of RDKit 2026.9 (Code/GraphMol/atomic_data.cpp, BSD licence; weights rounded there to 0.001
g/mol), isotopes from the same file. A test compares every entry with the RDKit that is installed.
"""

from __future__ import annotations

from typing import NamedTuple

_ROWS = """
H 1.008 1|He 4.003 0|Li 6.941 1/-1|Be 9.012 2|B 10.812 3|C 12.011 4|N 14.007 3|O 15.999 2|F 18.998 1|Ne 20.18 0|
Na 22.99 1/-1|Mg 24.305 2/-1|Al 26.982 3|Si 28.086 4|P 30.974 3/5|S 32.067 2/4/6|Cl 35.453 1|Ar 39.948 0|K 39.098 1/-1|
Ca 40.078 2/-1|Sc 44.956 -1|Ti 47.867 -1|V 50.944 -1|Cr 51.996 -1|Mn 54.938 -1|Fe 55.845 -1|Co 58.933 -1|Ni 58.693 -1|
Cu 63.546 -1|Zn 65.39 -1|Ga 69.723 3|Ge 72.61 4|As 74.922 3/5|Se 78.96 2/4/6|Br 79.904 1|Kr 83.8 0|Rb 85.468 1/-1|
Sr 87.62 2/-1|Y 88.906 -1|Zr 91.224 -1|Nb 92.906 -1|Mo 95.94 -1|Tc 98 -1|Ru 101.07 -1|Rh 102.906 -1|Pd 106.42 -1|
Ag 107.868 -1|Cd 112.412 -1|In 114.818 3|Sn 118.711 2/4|Sb 121.76 3/5|Te 127.6 2/4/6|I 126.904 1/3/5|Xe 131.29 0/2/4/6|
Cs 132.905 1|Ba 137.328 2/-1|La 138.906 -1|Ce 140.116 -1|Pr 140.908 -1|Nd 144.24 -1|Pm 145 -1|Sm 150.36 -1|
Eu 151.964 -1|Gd 157.25 -1|Tb 158.925 -1|Dy 162.5 -1|Ho 164.93 -1|Er 167.26 -1|Tm 168.934 -1|Yb 173.04 -1|Lu 174.967 -1|
Hf 178.49 -1|Ta 180.948 -1|W 183.84 -1|Re 186.207 -1|Os 190.23 -1|Ir 192.217 -1|Pt 195.078 -1|Au 196.967 -1|
Hg 200.59 -1|Tl 204.383 -1|Pb 207.2 2/4|Bi 208.98 3/5|Po 209 2/4/6|At 210 1/3/5|Rn 222 0|Fr 223 1|Ra 226 2/-1|
Ac 227 -1|Th 232.038 -1|Pa 231.036 -1|U 238.029 -1|Np 237 -1|Pu 244 -1|Am 243 -1|Cm 247 -1|Bk 247 -1|Cf 251 -1|
Es 252 -1|Fm 257 -1|Md 258 -1|No 259 -1|Lr 262 -1|Rf 267 -1|Db 268 -1|Sg 269 -1|Bh 270 -1|Hs 269 -1|Mt 278 -1|
Ds 281 -1|Rg 281 -1|Cn 285 -1|Nh 284 -1|Fl 289 -1|Mc 288 -1|Lv 293 -1|Ts 292 -1|Og 294 -1
"""

ISOTOPES = {
    (1, 2): 2.0141017778, (1, 3): 3.0160492777, (6, 11): 11.0114336, (6, 13): 13.0033548378, (6, 14): 14.003241989,
    (7, 13): 13.00573861, (7, 15): 15.0001088982, (8, 15): 15.0030656, (8, 17): 16.9991317, (8, 18): 17.999161,
    (9, 18): 18.000938, (15, 32): 31.97390727, (16, 34): 33.9678669, (16, 35): 34.96903216, (17, 36): 35.96830698,
    (17, 37): 36.96590259, (35, 76): 75.924541, (53, 123): 122.905589, (53, 124): 123.9062099, (53, 125): 124.9046302,
    (53, 131): 130.9061246,
}  # fmt: skip
"""Exact masses [g/mol] of isotopes that chemists label with; any other weighs its mass number here."""

NO_LIMIT = 99
"""Stands for "as many bonds as there are"."""


class Element(NamedTuple):
    """One row of the table.

    Args:
        number: protons.
        symbol: such as ``Cl``.
        weight: average [g/mol].
        valences: in rising order; a last -1 means that RDKit sets no upper limit.
    """

    number: int
    symbol: str
    weight: float
    valences: tuple[int, ...]


def _read(cell: str, number: int) -> Element:
    symbol, weight, valences = cell.split()
    return Element(number, symbol, float(weight), tuple(map(int, valences.split("/"))))


ELEMENTS = tuple(_read(cell, number) for number, cell in enumerate(_ROWS.replace("\n", "").split("|"), 1))
BY_SYMBOL = {element.symbol: element for element in ELEMENTS}


def max_valence(number: int, charge: int) -> int:
    """Return the largest sum of bond orders and hydrogens RDKit accepts; `NO_LIMIT` for any.

    A charged atom counts as its isoelectronic neighbour; P, S, As and Se with a negative charge stay hypervalent.

    >>> max_valence(7, 0), max_valence(7, 1), max_valence(15, -1), max_valence(26, 2)
    (3, 4, 6, 99)
    """
    own = ELEMENTS[number - 1].valences
    if own[-1] < 0:
        return NO_LIMIT
    if (number, charge) == (1, -1):
        return 2
    electrons = number - charge
    if electrons < 1:
        return NO_LIMIT  # RDKit takes it for a dummy atom
    if (number in (15, 16) and electrons > 16) or (number in (33, 34) and electrons > 34):
        return own[-1] + charge
    most = ELEMENTS[electrons - 1].valences[-1]
    return NO_LIMIT if most < 0 else most


def mass(number: int, isotope: int = 0) -> float:
    """Return the weight of an atom [g/mol]: the average over isotopes, or that of one isotope.

    >>> mass(6), round(mass(6, 13), 3), mass(6, 12), mass(92, 235)
    (12.011, 13.003, 12.0, 235.0)
    """
    return ISOTOPES.get((number, isotope), float(isotope)) if isotope else ELEMENTS[number - 1].weight
