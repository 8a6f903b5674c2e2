"""The part of ``molvae evaluate`` that asks a model for property values and measures what it gives.

In: a model, and a dataset or a file of test molecules. Out: lines for people, JSON, and a calibration plot.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from molvae.generate.asking import Asking
    from molvae.kept import Kept
    from molvae.nn.checkpoint import LoadedModel


@dataclass(frozen=True)
class Conditions:
    """What is measured, on what and how.

    Attributes:
        source: dataset or file of test molecules.
        split: of the dataset.
        n: molecules a request.
        n_test: test molecules whose values are asked for; 0 leaves them out.
        asking: how the model is asked.
        seed: of all chance.
    """

    source: str
    split: str | None
    n: int
    n_test: int
    asking: Asking
    seed: int

    def keep(self, path: Path | None, resume: bool, loaded: LoadedModel) -> Kept:
        """Return what holds the parts until all of them are there, beside the file at ``path``."""
        from molvae.files import directory_digest, sha256_file
        from molvae.kept import Kept

        source = Path(self.source)
        content = sha256_file(source) if source.is_file() else directory_digest(source)
        model = directory_digest(loaded.directory) or str(loaded.directory)
        return Kept(path, {"model": model, "content": content, **asdict(self)}, resume)

    def measure(self, loaded: LoadedModel, workers: int | None, kept: Kept) -> dict[str, Any]:
        """Measure ``loaded`` and show how far it is."""
        from molvae.benchmark.conditioning import Settings, measure_conditioning
        from molvae.benchmark.held_out import held_out
        from molvae.cli.progress import Update, progress_bar
        from molvae.generate.known import load_known

        test = None
        if self.n_test:
            molecules = held_out(loaded, self.source, self.split, self.n_test, self.seed, workers)
            test = _values(loaded, molecules, workers)
        known = load_known(Path(self.source)) if Path(self.source).is_dir() else None
        settings = Settings(self.n, self.n_test, self.asking, seed=self.seed)
        bar: Update | None = None
        with ExitStack() as stack:

            def say(what: str, done: int, of: int) -> None:
                nonlocal bar
                if bar is None:  # what was measured before an interruption is no part of the rate
                    bar = stack.enter_context(progress_bar("Measuring", of, done, share=True))
                bar(done, at=what)

            return measure_conditioning(loaded, settings, test, known, workers, say, kept)


def _values(loaded: LoadedModel, molecules: Any, workers: int | None) -> NDArray[np.float64]:
    """Return the properties of test molecules, (N, P), by RDKit where the source does not say."""
    import numpy as np

    from molvae.chem.properties import PROPERTIES, compute
    from molvae.generate.chemistry import Write

    values: NDArray[np.float64] = np.array(molecules.properties, dtype=np.float64)
    names = [info.name for info in loaded.model.property_info]
    columns = [i for i, name in enumerate(names) if name in PROPERTIES and np.isnan(values[:, i]).all()]
    if columns:
        texts = Write(loaded.vocabulary).translate([(row.tolist(), True) for row in molecules.token_ids])
        values[:, columns] = compute([text or "" for text in texts], [names[i] for i in columns], workers)
    return values


def write_picture(path: Path, found: dict[str, Any]) -> None:
    """Draw the calibration to ``path``, .png or .svg."""
    from molvae.files import write_bytes, write_text
    from molvae.report.calibration import calibration_png, calibration_svg

    if path.suffix.lower() == ".svg":
        write_text(path, calibration_svg(found))
    else:
        write_bytes(path, calibration_png(found))


def describe_conditioning(found: dict[str, Any]) -> list[str]:
    """Return the figures of `molvae.benchmark.conditioning.measure_conditioning` as lines for people."""
    settings, plain = found["settings"], found["unconditional"]
    k = settings["k"]
    lines = [
        f"k = {k}, n = {settings['n']:,} a request, seed {settings['seed']}; {settings['route']}",
        f"unconditional: {_quality(plain)}",
        f"\n{'request':<28} {'property':<10} {'MAD':>8} {'bias':>8} {'without':>8} {'90 % int.':>9}  quality (k = {k})",
    ]
    for entry in found["requests"]:
        for number, (name, part) in enumerate(entry["properties"].items()):
            figures = " ".join(f"{_number(part[key]):>8}" for key in ("mad", "bias", "unconditional"))
            where, quality = (entry["where"], _quality(entry)) if number == 0 else ("", "")
            lines.append(f"{where:<28} {name:<10} {figures} {_number(part['coverage']):>9}  {quality}".rstrip())
    for chosen, parts in (found["test"] or {}).items():
        for name, part in parts.items():
            lines.append(
                f"values of {part['n']:,} test molecules, {chosen}: {name} MAD {_number(part['mad'])} "
                f"(without {_number(part['unconditional'])}), correlation {_number(part['correlation'])} (k = {k})"
            )
    lines.append(f"\nmean over requests (k = {k})")
    for name, part in found["summary"].items():
        ratio = part["together_ratio"]
        joint = "" if ratio is None else f", together {_number(part['together_mad'])} ({ratio:.2f} x)"
        lines.append(f"  {name}: MAD {_number(part['mad'])}, without {_number(part['unconditional'])}{joint}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _quality(part: dict[str, Any]) -> str:
    names = ("validity", "uniqueness", "novelty", "diversity")
    return ", ".join(f"{name} {_number(part[name])}" for name in names if part[name] is not None)
