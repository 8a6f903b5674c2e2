"""Use a trained model from Python: one object, one result per input, in order.

In: SMILES or latents (N, D). Out: arrays, lists and DataFrames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from molvae.chem.domain import Domain
from molvae.chem.properties import compute
from molvae.chem.rejected import Rejected
from molvae.data.vocabulary import Vocabulary
from molvae.files import carry_files
from molvae.generate.anomaly import own_reference, read_reference, score
from molvae.generate.asking import PLAINLY, Asking
from molvae.generate.checking import check as check_molecules
from molvae.generate.complete import TRIES, complete
from molvae.generate.exact import ExactCodes, decode_exact, encode_exact, sample_exact
from molvae.generate.impute import as_table, impute
from molvae.generate.interpolate import interpolate
from molvae.generate.known import load_known
from molvae.generate.labelled import label
from molvae.generate.latents import decode_latents, encode_smiles
from molvae.generate.neighbors import neighbors
from molvae.generate.predict import FITTED_FILE, head_facts, save_with_head
from molvae.generate.reconstruction import reconstruct
from molvae.generate.requests import Condition
from molvae.generate.sampling import GREEDY, SamplingOptions
from molvae.generate.scaffold import sample_scaffold
from molvae.generate.scaffold_where import sample_asked
from molvae.generate.wanted import PROPERTIES, Wanted
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.optimize.oracles import Oracle
from molvae.optimize.result import Result
from molvae.optimize.run import ProgressCallback, optimize
from molvae.train.fit_head import check_labels, cross_validate, fit_head, random_folds


class MolVAE:
    """A trained model, ready to read, write and improve molecules.

    Make one with `from_pretrained`. Every method gives one result per input, in the order given; a molecule that cannot
    be read is a row of NaN and a reason, one that cannot be written is None.

    >>> model = MolVAE.from_pretrained("runs/mine")  # doctest: +SKIP
    >>> latents = model.encode(["CCO", "c1ccccc1"])  # doctest: +SKIP
    >>> model.decode(latents)  # doctest: +SKIP
    ['CCO', 'c1ccccc1']
    >>> model.sample(1000, unique=True, seed=1).to_csv("new.csv", index=False)  # doctest: +SKIP
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    def __repr__(self) -> str:
        return f"MolVAE({str(self.loaded.directory)!r}, latent_size={self.latent_size}, device={str(self.device)!r})"

    @classmethod
    def from_pretrained(cls, name_or_directory: str | Path | None = None, device: str = "auto") -> MolVAE:
        """Load a model.

        Args:
            name_or_directory: a directory written by ``molvae train``, or the name of a shipped model; None takes the
                default shipped model.
            device: auto (a GPU when there is one), cpu, cuda, cuda:1 or mps.

        Raises:
            UnknownNameError: when there is no such model.
            ModelFileError: when a file of it is missing or changed.
            DeviceError: when the device is not there.
        """
        return cls(load_model(name_or_directory, device))

    def save_pretrained(self, directory: str | Path, *, half: bool = False) -> None:
        """Write the model to ``directory``, with its card, for `from_pretrained` on any machine.

        Args:
            directory: made when missing.
            half: store weights in half precision, at half the size.

        Raises:
            OutputError: when it cannot be written.
        """
        card = self.loaded.directory / "README.md"
        text = card.read_text("utf-8") if card.is_file() else None
        model, vocabulary, config, facts = self.loaded.model, self.vocabulary, self.loaded.config, self.loaded.facts
        carry_files(self.loaded.directory, Path(directory), (FITTED_FILE,))
        save_model(Path(directory), model, vocabulary, config, facts, half=half, card=text)

    @property
    def latent_size(self) -> int:
        """D, the number of latent dimensions."""
        return self.loaded.model.latent

    @property
    def vocabulary(self) -> Vocabulary:
        """The SELFIES tokens that the model reads and writes."""
        return self.loaded.vocabulary

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.loaded.model.device

    @overload
    def encode(
        self, smiles: Sequence[str], *, sampled: bool = ..., seed: int = ..., return_rejected: Literal[False] = ...
    ) -> NDArray[np.float32]: ...

    @overload
    def encode(
        self, smiles: Sequence[str], *, sampled: bool = ..., seed: int = ..., return_rejected: Literal[True]
    ) -> tuple[NDArray[np.float32], list[Rejected | None]]: ...

    @overload
    def encode(
        self, smiles: Sequence[str], *, exact: Literal[True], sampled: bool = ..., seed: int = ...
    ) -> ExactCodes: ...

    def encode(
        self, smiles: Sequence[str], *, sampled: bool = False, seed: int = 0, return_rejected: bool = False,
        exact: bool = False,
    ) -> NDArray[np.float32] | tuple[NDArray[np.float32], list[Rejected | None]] | ExactCodes:  # fmt: skip
        """Read molecules into latents. Stereo, charges, isotopes and salts are kept.

        Args:
            smiles: N SMILES.
            sampled: draw from q(z|x) instead of taking its mean.
            seed: of that draw, and of the noise of exact codes.
            return_rejected: return also why each molecule could not be read, None where it could.
            exact: return `ExactCodes`: the decoder's noise too, with which `decode` gives back all that could be read.

        Returns:
            float32 array (N, D); a row of NaN for a molecule that cannot be read.

        Raises:
            InputError: when ``smiles`` is not a list of strings.
        """
        if exact:
            return encode_exact(self.loaded, smiles, sampled=sampled, seed=seed)
        encoded = encode_smiles(self.loaded, smiles, sampled=sampled, seed=seed)
        return (encoded.latents, encoded.rejected) if return_rejected else encoded.latents

    def decode(
        self, latents: ArrayLike | ExactCodes, *, options: SamplingOptions = GREEDY, seed: int = 0
    ) -> list[str | None]:
        """Write one molecule per latent.

        Args:
            latents: (N, D), or exact codes of this model, whose noise then chooses the tokens.
            options: how tokens are chosen; the likeliest each time unless something else is asked for.
            seed: of the choice, when there is one.

        Returns:
            N canonical SMILES; None, never "", where a latent decodes to nothing, to no molecule, or is not finite.

        Raises:
            InputError, ModelFileError: when ``latents`` has another shape, or the codes are another model's.
        """
        if isinstance(latents, ExactCodes):
            return [result.smiles for result in decode_exact(self.loaded, latents)]
        return [result.smiles for result in decode_latents(self.loaded, latents, options=options, seed=seed)]

    def sample(
        self, n: int, *, temperature: float | None = None, greedy: bool = False, top_k: int = 0, top_p: float = 1.0,
        unique: bool = False, not_in: Iterable[str] | Path = frozenset(), properties: Sequence[str] = PROPERTIES,
        alerts: bool = True, keep_failed: bool = False, prior_temperature: float = 1.0, seed: int = 0,
        batch_size: int | None = None, workers: int | None = None,
        conditions: str | Mapping[str, Condition] | None = None, asking: Asking = PLAINLY, scaffold: str | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Generate ``n`` molecules; the same seed gives the same ones.

        Args:
            n: how many.
            temperature, greedy, top_k, top_p: how tokens are chosen, see `SamplingOptions`.
            unique: give each molecule once.
            not_in: molecules that are not wanted: canonical SMILES, or the path of a dataset (its train split counts)
                or of a file of SMILES.
            properties, alerts, keep_failed, prior_temperature: see `molvae.generate.wanted.Wanted`.
            seed: of all chance.
            batch_size, workers: molecules on the device at once, processes for chemistry; None takes what suits.
            conditions: what molecules should have, as in --where or as
                ``{"logp": 2.5, "qed": (0.8, None), "target": "EGFR"}``.
            asking: how they are asked for, see `molvae.generate.asking.Asking`.
            scaffold: what every molecule holds, SMILES with one to three [*], or two fragments to be linked; then all
                are different, and columns say what sits at each [*], see `molvae.generate.scaffold`.

        Returns:
            A table with smiles, state, nats, the properties and alerts; ``attrs["counts"]`` says what was drawn;
            under conditions also what was asked, obtained and missed, see `conditional.sample_where`.

        Raises:
            InputError: when a number makes no sense, or ``not_in`` or the scaffold cannot be read.
            UnknownNameError: when a property does not exist.
        """
        options = SamplingOptions(temperature, greedy, top_k, top_p)
        known = load_known(Path(not_in)) if isinstance(not_in, str | Path) else frozenset(not_in)
        wanted = Wanted(unique, known, properties, alerts, keep_failed, prior_temperature)
        return sample_asked(self.loaded, n, options, wanted, conditions=conditions, asking=asking, scaffold=scaffold,
                            seed=seed, batch_size=batch_size, workers=workers)  # fmt: skip

    def sample_exact(self, n: int, *, seed: int = 0) -> ExactCodes:
        """Draw exact codes of ``n`` molecules, see `molvae.generate.exact.sample_exact`; `decode` writes them."""
        return sample_exact(self.loaded, n, seed=seed)

    def sample_scaffold(self, n: int, scaffold: str, *, seed: int = 0) -> pd.DataFrame:
        """Generate ``n`` molecules that hold a scaffold with open positions [*]: see `molvae.generate.scaffold`."""
        return sample_scaffold(self.loaded, n, scaffold, seed=seed)

    def reconstruct(self, smiles: Sequence[str]) -> pd.DataFrame:
        """Encode and decode molecules and compare: see `molvae.generate.reconstruction.reconstruct`.

        Args:
            smiles: N SMILES.

        Returns:
            N rows: input, canonical, output, match, state, detail, similarity.
        """
        return reconstruct(self.loaded, smiles)

    def interpolate(
        self, first: str, second: str, *, steps: int = 10, spherical: bool = True, fold: bool = True
    ) -> pd.DataFrame:
        """Walk from one molecule to another: see `molvae.generate.interpolate.interpolate`.

        Args:
            first, second: SMILES of the two ends.
            steps: parts of the path.
            spherical: along the sphere on which codes lie, otherwise a straight line.
            fold: one row for points in a row that give the same molecule.

        Returns:
            In order: position, until, steps, smiles, state, similarity_a and _b, distance_a and _b, nats.

        Raises:
            InputError: when the model cannot read one of the two.
        """
        return interpolate(self.loaded, first, second, steps=steps, spherical=spherical, fold=fold)

    def neighbors(
        self, smiles: str, n: int = 20, *, radii: Sequence[float] = (), properties: Sequence[str] = PROPERTIES,
        seed: int = 0, exact: bool = False, redraw: int = 0,
    ) -> pd.DataFrame:  # fmt: skip
        """Find molecules around one molecule: see `molvae.generate.neighbors.neighbors`.

        Args:
            smiles: the molecule.
            n: different valid molecules wanted.
            radii: in units of the molecule's own posterior noise; none widens until there are ``n``.
            properties: columns to compute.
            seed: of all chance.
            exact, redraw: hold the decoder's noise that gives the molecule itself; tokens that get new noise.

        Returns:
            The likest first: smiles, similarity, radius, distance, nats, the properties.

        Raises:
            InputError: when the model cannot read the molecule, or a number makes no sense.
        """
        return neighbors(
            self.loaded, smiles, n, radii=radii, properties=properties, seed=seed, exact=exact, redraw=redraw
        )

    def score(
        self, smiles: Sequence[str], *, reference: Sequence[str] = (), samples: int = 16, seed: int = 0
    ) -> pd.DataFrame:
        """Say how unusual molecules are, and which of their atoms: see `molvae.generate.anomaly.score`.

        Args:
            smiles: N SMILES.
            reference: molecules that count as usual, best of the training set's kind; they give the percentile and the
                nearest neighbour. Without any, the percentile is against molecules that came with the model, if any.
            samples: K of the importance-weighted bound; more are tighter.
            seed: of its noise.

        Returns:
            N rows; ``nats`` bounds -log p(x) from above, infinite for a molecule with tokens that the model lacks.

        Raises:
            ConfigError: when the model has no likelihood.
            InputError: when the model can read fewer than two molecules of the reference.
        """
        own = self.loaded
        usual = read_reference(own, reference, samples, seed) if len(reference) else own_reference(own, samples, seed)
        return score(self.loaded, smiles, reference=usual, known=reference, samples=samples, seed=seed)

    def fit_head(
        self, smiles: Sequence[str], values: Sequence[float], name: str, output: str | Path, *, seed: int = 0
    ) -> MolVAE:
        """Write a copy of this model that also predicts a measured property, and return it.

        Args:
            smiles, values: N molecules, 30 different ones at least, and their values, NaN where not measured.
            name, output: of the property, and of the directory to be made.
            seed: of the folds by which its intervals are calibrated.

        Raises:
            InputError, ConfigError: with fewer than 30 labels, equal ones, or a name that the model was trained with.
        """
        labelled = label(self.loaded, list(smiles), [float(value) for value in values])
        check_labels(labelled.values, name)
        checked = cross_validate(labelled.latents, labelled.values, random_folds(len(labelled.values), seed), seed)
        head = fit_head(labelled.latents, labelled.values, checked, seed)
        facts = head_facts("a table in memory", labelled, seed)
        save_with_head(self.loaded, name, head, facts, Path(output), Domain.of(labelled.smiles))
        return MolVAE(load_model(output, str(self.loaded.model.device)))

    def impute(self, smiles: Sequence[str], *names: str, by_head: bool = False) -> pd.DataFrame:
        """Return properties of N molecules, each with its deviation and origin: see `molvae.generate.impute`.

        Args:
            smiles: N SMILES.
            names: properties, by RDKit where it can compute them, else by a head.
            by_head: predict computed properties too, where there is a head.

        Raises:
            UnknownNameError: for a property that can be neither computed nor predicted.
        """
        nothing = np.full(len(smiles), np.nan)
        return as_table(impute(self.loaded, smiles, dict.fromkeys(names, nothing), by_head=by_head))

    def complete(self, masked: Sequence[str], k: int = 10, *, tries: int = TRIES, seed: int = 0) -> pd.DataFrame:
        """Complete molecules with missing pieces, the likeliest first: see `molvae.generate.complete.complete`.

        Args:
            masked: N SMILES with {?}, {3} or {2..5} where a piece is missing.
            k: different completions wanted for each.
            tries: sequences written for each.
            seed: of all chance.
        """
        return complete(self.loaded, masked, k, tries=tries, seed=seed)

    def optimize(
        self, oracle: str | Callable[[list[str]], Sequence[float]] | Oracle, starts: Sequence[str] = (), *,
        method: str = "hybrid", budget: int = 500, seed: int = 0, minimize: bool = False, min_similarity: float = 0.0,
        keep: str = "", directory: str | Path | None = None, resume: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Result:  # fmt: skip
        """Search the latent space for molecules that score well: see `molvae.optimize.run.optimize`.

        Args:
            oracle: a name such as ``qed``, ``module:function``, or a function from a list of SMILES to scores.
            starts: SMILES to set out from; none draws from the prior.
            method: how to search.
            budget: unique oracle calls allowed.
            seed: of all chance.
            minimize: look for low scores instead of high ones.
            min_similarity: Tanimoto similarity to its start that a molecule must have.
            keep: SMARTS of a part that every molecule must contain; "" asks for nothing.
            directory: where to write the run; None writes nothing.
            resume: continue the run in ``directory``.
            progress: told after every batch.

        Raises:
            UnknownNameError: for an unknown oracle or method.
            InputError: for settings out of range, or when no start can be encoded.
            OracleError: when the oracle mostly fails.
        """
        return optimize(
            self.loaded, oracle, starts, method, budget, seed, None if directory is None else Path(directory), progress,
            minimize=minimize, min_similarity=min_similarity, resume=resume, keep=keep,
        )  # fmt: skip

    @staticmethod
    def check(smiles: Sequence[str], *, alerts: bool = True) -> pd.DataFrame:
        """Check molecules, one row each: see `molvae.generate.checking.check`.

        >>> MolVAE.check(["OCC", ""])["state"].tolist()
        ['ok', 'empty']
        """
        return check_molecules(smiles, alerts=alerts)

    @staticmethod
    def properties(smiles: Sequence[str], names: Sequence[str] = PROPERTIES) -> pd.DataFrame:
        """Compute properties of molecules, one row each; NaN where a string is no molecule.

        Args:
            smiles: N SMILES.
            names: keys of `molvae.chem.properties.PROPERTIES`.

        Raises:
            UnknownNameError: when a property does not exist.

        >>> MolVAE.properties(["CCO"], ["tpsa"])["tpsa"].tolist()
        [20.23]
        """
        return pd.DataFrame(compute(smiles, names), columns=list(names))
