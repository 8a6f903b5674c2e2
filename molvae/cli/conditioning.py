"""The part of ``molvae evaluate`` that asks a model for property values and measures what it gives.

In: a model, and a dataset or a file of test molecules. Out: lines for people, JSON, and a calibration plot.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from molvae.generate.conditional import Asking
    from molvae.nn.checkpoint import LoadedModel


def run_conditioning(
    loaded: LoadedModel, source: str, split: str | None, n: int, n_test: int, asking: Asking, seed: int,
    workers: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Measure ``loaded`` on its grid and on the values of ``n_test`` molecules of ``source``; 0 leaves those out."""
    from molvae.benchmark.conditioning import Settings, measure_conditioning
    from molvae.benchmark.held_out import held_out
    from molvae.generate.known import load_known

    test = None
    if n_test:
        test = _values(loaded, held_out(loaded, source, split, n_test, seed, workers), workers)
    known = load_known(Path(source)) if Path(source).is_dir() else None
    settings = Settings(n, n_test, asking, seed=seed)
    return measure_conditioning(
        loaded, settings, test, known, workers, say=lambda text: typer.echo(f"measuring {text}", err=True)
    )


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
