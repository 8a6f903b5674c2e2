"""Compare the codec with selfies.decoder, string by string, and count where RDKit's second reading matters.

python scripts/check_codec.py test.csv.gz zinc250k.smi.gz --random 1000000
python scripts/check_codec.py test.csv.gz zinc250k.smi.gz --limits default octet_rule hypervalent --random 1000000
python scripts/check_codec.py test.csv.gz zinc250k.smi.gz --random 100000 --reread 20000

A file holds one SMILES a line, or in its first column. Every molecule of every file is encoded by selfies and decoded
three times: by selfies.decoder, by the compiled codec and by the plain one. So are random strings of 1 to 80 tokens
over the alphabet of each file, over selfies' robust alphabet and over odd tokens, the dot always among them.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import selfies

from molvae.chem import codec as codec_module
from molvae.chem.codec import TokenCodec
from molvae.chem.codec_check import check_decoded
from molvae.chem.codec_kernel import load
from molvae.chem.rejected import Rejected
from molvae.chem.selfies import constraint_table, split
from molvae.chem.standardize import standardize_mol

CHUNK = 10_000
LONGEST = 80
KNOWN = (
    ". [nop] [epsilon] [=epsilon] [C] [=C] [#C] [=N] [O] [S] [P] [Ring1] [=Ring1] [#Ring2] [Ring3] [-/Ring1] "
    "[\\/Ring1] [/-Ring2] [Branch1] [=Branch1] [#Branch2] [Branch3] [C@@H1] [/C@H1] [\\N] [13CH3] [=13C@] [N+1] [O-1] "
    "[Na+1] [H] [CH4]"
)
REFUSED = "[nonsense] [Ring4] [CH9] [--Ring1] [#Branch4]"
ODD = 8 * KNOWN.split() + REFUSED.split()
"""Tokens that alphabets of real molecules lack; those that selfies refuses, once it reaches them, are rarer."""

Row = Sequence[str]


def read_file(path: Path) -> list[str]:
    """Return the first column of a file, without its header."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as handle:
        words = [line.replace(",", " ").split()[0] for line in handle if line.strip()]
    return words[words[:1] in (["SMILES"], ["smiles"]) :]


def encode_all(smiles: Sequence[str]) -> tuple[list[Row], int]:
    """Return the tokens of each SMILES that selfies takes, and how many it does not take."""
    rows, refused = [], 0
    for text in smiles:
        try:
            rows.append(split(selfies.encoder(text)))
        except selfies.EncoderError:
            refused += 1
    return rows, refused


def random_rows(alphabet: Sequence[str], n: int, generator: random.Random) -> Iterator[Row]:
    """Yield ``n`` strings of 1 to `LONGEST` tokens."""
    return (generator.choices(alphabet, k=generator.randint(1, LONGEST)) for _ in range(n))


def reference(row: Row) -> str:
    """Return what selfies decodes; "" where it refuses."""
    try:
        return str(selfies.decoder("".join(row)))
    except selfies.DecoderError:
        return ""


def decode_rows(codec: TokenCodec, rows: Sequence[Row], *, compiled: bool) -> list[str]:
    """Decode ``rows`` by one of the two ways of the codec."""
    ids = {token: token_id for token_id, token in enumerate(codec.tokens)}
    flat = [ids[token] for row in rows for token in row]
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    codec_module.COMPILE_AFTER = 0 if compiled else sys.maxsize
    return codec.decode_many(flat, offsets)


def compare(name: str, rows: Sequence[Row], reread: int, show: bool) -> Counter[str]:
    """Decode every row in every way; count the strings, the empty ones and what differs."""
    codec = TokenCodec(sorted({token for row in rows for token in row}))
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        expected = list(map(reference, part))
        for way in ("compiled", "plain"):
            found = decode_rows(codec, part, compiled=way == "compiled")
            wrong = [place for place, text in enumerate(found) if text != expected[place]]
            counts[f"{way} differs"] += len(wrong)
            for place in wrong[:3]:
                sys.stdout.write(f"  {way}: {''.join(part[place])}\n    {expected[place]}\n    {found[place]}\n")
        counts["strings"] += len(part)
        counts["empty"] += expected.count("")
        counts["with a dot"] += sum("." in text for text in expected)
        counts.update(count_rereading(expected[: max(0, reread - start)]))
        if show:
            rate = counts["strings"] / (time.monotonic() - began)
            sys.stderr.write(f"\r{name}: {counts['strings']} of {len(rows)}, {rate:.0f}/s ")
    if show:
        sys.stderr.write("\n")
    return counts


def count_rereading(decoded: Sequence[str]) -> Counter[str]:
    """Count the decoded strings that a second reading refuses, and those judged otherwise without one."""
    counts: Counter[str] = Counter()
    for text in decoded:
        full, short = standardize_mol(text), check_decoded(text)
        counts["read twice"] += 1
        if isinstance(full, Rejected):
            counts[f"refused: {full.reason}"] += 1
            counts["judged otherwise"] += not isinstance(short, Rejected)
        else:
            counts["judged otherwise"] += isinstance(short, Rejected) or short[0] != full[0].smiles
    return counts


def collect(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Row]]]:
    """Yield the sets of strings, each with its name."""
    alphabets = {"robust": [*sorted(selfies.get_semantic_robust_alphabet()), "."], "odd tokens": ODD}
    for path in arguments.files:
        smiles = read_file(path)[: arguments.most]
        rows, refused = encode_all(smiles)
        sys.stdout.write(f"{path.name}: {len(smiles)} molecules, {refused} refused by selfies.encoder\n")
        alphabets = {f"random {path.name}": sorted({token for row in rows for token in row} | {"."}), **alphabets}
        if not arguments.only_random:
            yield path.name, rows
    generator = random.Random(arguments.seed)
    for name, alphabet in alphabets.items():
        yield name, list(random_rows(alphabet, arguments.random // len(alphabets), generator))


def main(given: Sequence[str] | None = None) -> int:
    """Run all comparisons; return how many strings differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--random", type=int, default=0, help="random strings, shared out over the alphabets")
    parser.add_argument("--only-random", action="store_true", help="take only their alphabets from the files")
    parser.add_argument("--most", type=int, help="molecules read from a file at most")
    parser.add_argument("--limits", nargs="*", default=["molvae"], help="molvae, default, octet_rule, hypervalent")
    parser.add_argument("--reread", type=int, default=0, help="strings of each set that RDKit reads twice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    arguments = parser.parse_args(given)
    if load() is None:
        sys.stdout.write("numba cannot be used here: only the plain decoder is compared\n")
    wrong = 0
    for limits in arguments.limits:
        selfies.set_semantic_constraints(constraint_table() if limits == "molvae" else limits)
        for name, rows in collect(arguments):
            counts = compare(name, rows, arguments.reread, not arguments.quiet)
            wrong += counts["compiled differs"] + counts["plain differs"] + counts["judged otherwise"]
            told = ", ".join(f"{what} {count}" for what, count in counts.items())
            sys.stdout.write(f"{limits} | {name}: {told}\n")
            sys.stdout.flush()
    selfies.set_semantic_constraints(constraint_table())
    sys.stdout.write(f"{wrong} in all differ\n")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main()))
