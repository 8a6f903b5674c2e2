"""Send molecules through the model and back, and compare.

In: SMILES. Out: a DataFrame with input, canonical, output, match, state, detail and similarity, one row per input.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.standardize import DEFAULT as AS_GIVEN
from molvae.chem.standardize import StandardizeOptions
from molvae.generate.latents import decode_latents, encode_smiles
from molvae.generate.sampling import GREEDY, SamplingOptions
from molvae.nn.checkpoint import LoadedModel


def reconstruct(
    loaded: LoadedModel,
    smiles: Sequence[str],
    *,
    options: SamplingOptions = GREEDY,
    standardize: StandardizeOptions = AS_GIVEN,
    sampled: bool = False,
    seed: int = 0,
    batch_size: int | None = None,
    workers: int | None = None,
) -> pd.DataFrame:
    """Encode and decode molecules and compare.

    Args:
        standardize: what standardisation may change before the comparison.
        sampled: go through a draw from q(z|x) instead of its mean.
        loaded, smiles, options, seed, batch_size, workers: as in `encode_smiles` and `decode_latents`.

    Returns:
        One row per input, in order: input, canonical and output (SMILES, None where there is none), match (the
        canonical SMILES are equal), state (``ok``, or why there is no canonical form or no output), detail, and
        similarity (Tanimoto of Morgan fingerprints, radius 2, 2048 bits, stereo ignored; NaN without a pair).
    """
    encoded = encode_smiles(
        loaded, smiles, options=standardize, sampled=sampled, seed=seed, batch_size=batch_size, workers=workers
    )
    decoded = decode_latents(
        loaded, encoded.latents, options=options, seed=seed, batch_size=batch_size, workers=workers
    )
    outputs = [result.smiles for result in decoded]
    pairs = list(zip(encoded.smiles, outputs, strict=True))
    # Where nothing could be read, why that was says more than the missing latent.
    states = [r.reason if r else d.state for r, d in zip(encoded.rejected, decoded, strict=True)]
    columns = {
        "input": pd.Series(list(smiles), dtype=object),
        "canonical": pd.Series(encoded.smiles, dtype=object),
        "output": pd.Series(outputs, dtype=object),
        "match": pd.Series([a is not None and a == b for a, b in pairs], dtype=bool),
        "state": pd.Series(states, dtype=object),
        "detail": pd.Series([r.detail if r else "" for r in encoded.rejected], dtype=object),
        "similarity": pd.Series(_similarities(pairs, workers), dtype="float64"),
    }
    return pd.DataFrame(columns)


def _similarities(pairs: list[tuple[str | None, str | None]], workers: int | None) -> list[float]:
    complete = [(a, b) for a, b in pairs if a is not None and b is not None]
    left, right = morgan([a for a, _ in complete], workers=workers), morgan([b for _, b in complete], workers=workers)
    values = iter([float(tanimoto(left[row : row + 1], right[row : row + 1])[0, 0]) for row in range(len(complete))])
    return [float("nan") if a is None or b is None else next(values) for a, b in pairs]
