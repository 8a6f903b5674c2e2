"""Draw molecules as SVG or PNG, alone, in grids and in pairs that show what two molecules share.

In: SMILES and plain-text legends. Out: SVG text without ids, scripts or outside references, or PNG bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor, rdFMCS
from rdkit.Chem.Draw import rdMolDraw2D

LONGEST_SMILES = 1000  # RDKit's parser recurses; far longer strings can end the process
SHARED = (0.69, 0.88, 0.80)
CHANGED = (0.99, 0.80, 0.66)
AtomColors = Mapping[int, tuple[float, float, float]]
"""Red, green and blue of the highlight of an atom, each 0 to 1, by its index."""
_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def parse(smiles: str) -> Any | None:
    """Return the RDKit molecule with 2D coordinates, or None when ``smiles`` is empty, too long or not a molecule."""
    if not smiles or len(smiles) > LONGEST_SMILES:
        return None
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None or mol.GetNumAtoms() == 0:
            return None
        rdDepictor.Compute2DCoords(mol)
        rdDepictor.StraightenDepiction(mol)
    return mol


def _style(options: Any) -> None:
    options.clearBackground = False
    options.bondLineWidth = 1.5
    options.padding = 0.04
    options.fixedBondLength = 24.0  # one scale for all cells; larger molecules shrink to fit
    options.minFontSize = 9
    options.baseFontSize = 0.7
    options.legendFontSize = 13
    options.highlightBondWidthMultiplier = 20
    options.highlightRadius = 0.28


def _blank(width: int, height: int, text: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<text x="{width / 2}" y="{height / 2}" text-anchor="middle" font-family="{escape(_SANS)}" font-size="12" '
        f'fill="#6b7280">{escape(text)}</text></svg>'
    )


def draw(
    mol: Any | None, width: int = 220, height: int = 160, atoms: Sequence[int] = (), color: Any = SHARED,
    colors: AtomColors | None = None,
) -> str:  # fmt: skip
    """Draw one molecule, with ``atoms`` and the bonds between them highlighted, as SVG text.

    Args:
        mol: an RDKit molecule with 2D coordinates (see `parse`), or None for an empty cell that says so.
        width: pixels.
        height: pixels.
        atoms: indices of the atoms to highlight.
        color: red, green and blue of the highlight, each 0 to 1.
        colors: one colour an atom, instead of ``atoms`` and ``color``; their bonds stay as they are.
    """
    if mol is None:
        return _blank(width, height, "cannot be drawn")
    chosen = set(atoms)
    shades = dict.fromkeys(chosen, color) if colors is None else dict(colors)
    bonds = [b.GetIdx() for b in mol.GetBonds() if b.GetBeginAtomIdx() in chosen and b.GetEndAtomIdx() in chosen]
    drawer = rdMolDraw2D.MolDraw2DSVG(width, height)
    _style(drawer.drawOptions())
    try:
        rdMolDraw2D.PrepareAndDrawMolecule(
            drawer,
            mol,
            highlightAtoms=sorted(shades),
            highlightBonds=bonds,
            highlightAtomColors=shades,
            highlightBondColors=dict.fromkeys(bonds, color),
        )
        drawer.FinishDrawing()
    except (ValueError, RuntimeError):
        return _blank(width, height, "cannot be drawn")
    text = drawer.GetDrawingText()
    text = re.sub(r"<\?xml.*?\?>|<!--.*?-->|\s(?:class|xmlns:\w+|xml:space|baseProfile)='[^']*'", "", text)
    return re.sub(r">\s+<", "><", text).strip()


def heat(values: Sequence[float], full: float = 5.0) -> AtomColors:
    """Return one colour for each atom whose value can be seen, from faint orange to red at ``full`` and above.

    Args:
        values: one an atom, such as its nats; below a tenth of ``full`` an atom stays as it is.
        full: the value that gets the strongest colour.

    >>> sorted(heat([0.0, 5.0, 2.5]))
    [1, 2]
    """
    shares = {atom: min(value / full, 1.0) for atom, value in enumerate(values) if value >= full / 10}
    return {atom: (1.0, 0.88 - 0.55 * share, 0.78 - 0.55 * share) for atom, share in shares.items()}


def molecule_svg(smiles: str, width: int = 220, height: int = 160, colors: AtomColors | None = None) -> str:
    """Draw one SMILES as SVG text, its atoms coloured by ``colors``; what cannot be drawn gives a cell that says so.

    >>> molecule_svg("c1ccccc1").startswith("<svg")
    True
    >>> "cannot be drawn" in molecule_svg("<script>")
    True
    """
    return draw(parse(smiles), width, height, colors=colors)


def shared_atoms(
    first: Any, second: Any, *, whole_rings: bool = True, seconds: int = 2
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find the largest common substructure of two molecules.

    Args:
        first: an RDKit molecule.
        second: an RDKit molecule.
        whole_rings: take a ring only when all of it is shared.
        seconds: the best found by then is the answer.

    Returns:
        The matching atom indices in ``first`` and in ``second``, same order; both empty when nothing is shared.
    """
    with rdBase.BlockLogs():
        found = rdFMCS.FindMCS(
            [first, second], timeout=seconds, ringMatchesRingOnly=True, completeRingsOnly=whole_rings
        )
        query = Chem.MolFromSmarts(found.smartsString) if found.numAtoms else None
        if query is None:
            return (), ()
        return tuple(first.GetSubstructMatch(query)), tuple(second.GetSubstructMatch(query))


def pair_svg(
    first: str, second: str, width: int = 220, height: int = 160, *, shared: bool = True, whole_rings: bool = True
) -> tuple[str, str]:
    """Draw two molecules in one orientation.

    Args:
        first: SMILES on the left.
        second: SMILES on the right, turned so that the common part lies as in ``first``.
        width: pixels of each drawing.
        height: pixels of each drawing.
        shared: highlight what both have; otherwise what each has alone.
        whole_rings: take a ring only when all of it is shared; otherwise a ring that gained an atom counts too.

    Returns:
        Two SVG texts.
    """
    left, right = parse(first), parse(second)
    if left is None or right is None:
        return draw(left, width, height), draw(right, width, height)
    here, there = shared_atoms(left, right, whole_rings=whole_rings)
    if len(here) > 2 and len(here) == len(there):
        rdDepictor.GenerateDepictionMatching2DStructure(right, left, list(zip(here, there, strict=True)))
    if shared:
        return draw(left, width, height, here), draw(right, width, height, there)
    only_left = [i for i in range(left.GetNumAtoms()) if i not in set(here)]
    only_right = [i for i in range(right.GetNumAtoms()) if i not in set(there)]
    return draw(left, width, height, only_left, CHANGED), draw(right, width, height, only_right, CHANGED)


def grid_svg(
    smiles: Sequence[str], legends: Sequence[str] | None = None, columns: int = 5, cell: tuple[int, int] = (220, 190),
    colors: Sequence[AtomColors] | None = None,
) -> str:  # fmt: skip
    """Draw a grid of molecules as one SVG file's text, a legend under each; legends are escaped.

    Args:
        smiles: one per cell, row by row; what cannot be drawn keeps its place.
        legends: one per molecule, or None.
        columns: cells in a row.
        cell: width and height of a cell in pixels.
        colors: of each molecule's atoms, see `heat`.

    >>> grid_svg(["CCO", "c1ccccc1"], ["<b>", "benzene"]).count("&lt;b&gt;")
    1
    """
    width, height = cell
    rows = max(1, -(-len(smiles) // columns))
    across = min(columns, max(1, len(smiles))) * width
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{across}" height="{rows * height}" '
        f'viewBox="0 0 {across} {rows * height}"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    foot = 26 if legends else 0
    for index, text in enumerate(smiles):
        x, y = index % columns * width, index // columns * height
        shades = colors[index] if colors else None
        parts.append(f'<g transform="translate({x} {y})">{molecule_svg(text, width, height - foot, shades)}')
        if legends and index < len(legends):
            parts.append(
                f'<text x="{width / 2}" y="{height - 9}" text-anchor="middle" font-family="{escape(_SANS)}" '
                f'font-size="12" fill="#374151">{escape(legends[index])}</text>'
            )
        parts.append("</g>")
    return "".join(parts) + "</svg>\n"


def grid_png(
    smiles: Sequence[str], legends: Sequence[str] | None = None, columns: int = 5, cell: tuple[int, int] = (220, 190),
    colors: Sequence[AtomColors] | None = None,
) -> bytes:  # fmt: skip
    """Draw the same grid as `grid_svg` as the bytes of a PNG file."""
    rows = max(1, -(-len(smiles) // columns))
    across = min(columns, max(1, len(smiles)))
    drawer = rdMolDraw2D.MolDraw2DCairo(across * cell[0], rows * cell[1], *cell)
    _style(drawer.drawOptions())
    drawer.drawOptions().clearBackground = True
    mols = [parse(text) or Chem.Mol() for text in smiles]
    texts = [*(legends or [])][: len(mols)]
    # A molecule that cannot be drawn has no atoms to colour.
    shades = [
        dict(each) if mol.GetNumAtoms() else {} for each, mol in zip(colors or [{}] * len(mols), mols, strict=True)
    ]
    drawer.DrawMolecules(
        mols, legends=texts + [""] * (len(mols) - len(texts)),
        highlightAtoms=[sorted(each) for each in shades], highlightAtomColors=shades,
    )  # fmt: skip
    drawer.FinishDrawing()
    return bytes(drawer.GetDrawingText())
