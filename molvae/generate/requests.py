"""Read what somebody asks of molecules: points, bounds, ranges, levels of categories, checked against a model.

In: text such as ``logp=2.5, qed>=0.8, tpsa=60..90, target=EGFR``, or a mapping. Out: `Request` values, and
warnings in words.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from molvae.chem.properties import PROPERTIES
from molvae.data.categories import categories_of, level_name
from molvae.data.dataset import PropertyInfo
from molvae.errors import InputError, UnknownNameError

POSSIBLE = {
    "qed": (0.0, 1.0), "sa": (1.0, 10.0), "tpsa": (0.0, math.inf), "mol_weight": (0.0, math.inf),
    "hbd": (0.0, math.inf), "hba": (0.0, math.inf), "rotatable_bonds": (0.0, math.inf), "rings": (0.0, math.inf),
}  # fmt: skip
"""Values that a computed property can have at all; one that is not here is not limited."""

OTHER_NAMES = {"sas": "sa", "mw": "mol_weight", "weight": "mol_weight", "psa": "tpsa"}
"""What else people call the computed properties."""

EXAMPLE = 'Write for instance "logp=2.5, qed>=0.8, tpsa=60..90".'

FEW = 10
"""Training molecules with a level below which a request for it is warned of."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(r"^\s*(?P<name>[^<>=]+?)\s*(?P<sign><=|>=|==|=|<|>)\s*(?P<value>.*?)\s*$")
_RANGE = re.compile(rf"^({_NUMBER})\s*\.\.\s*({_NUMBER})$")

Condition = float | int | str | tuple[float | None, float | None] | tuple[str, ...]
"""A value, or a lower and an upper bound of which one may be None; a level of a category, or several to choose from."""


@dataclass(frozen=True, slots=True)
class Request:
    """The values of one property that are asked for: from ``low`` to ``high``, both included and in its own unit.

    Of a category one of ``levels`` is asked for, and there are no bounds.

    >>> Request("qed", low=0.8).text, Request("logp", 2.5, 2.5).text, Request("tpsa", 60, 90).text
    ('qed>=0.8', 'logp=2.5', 'tpsa=60..90')
    >>> Request("target", levels=("EGFR", "HER2")).text
    'target=EGFR|HER2'
    """

    name: str
    low: float = -math.inf
    high: float = math.inf
    levels: tuple[str, ...] = ()

    @property
    def point(self) -> bool:
        """Whether one value is asked for."""
        return self.low == self.high

    @property
    def text(self) -> str:
        """The request as `parse_where` reads it."""
        if self.levels:
            return f"{self.name}={'|'.join(self.levels)}"
        if self.point:
            return f"{self.name}={self.low:g}"
        if math.isinf(self.high):
            return f"{self.name}>={self.low:g}"
        return f"{self.name}<={self.high:g}" if math.isinf(self.low) else f"{self.name}={self.low:g}..{self.high:g}"

    def error(self, value: float) -> float:
        """Return how far ``value`` lies above (positive) or below what is asked for, 0 inside; NaN for NaN.

        >>> Request("tpsa", 60, 90).error(95.0), Request("logp", 2.5, 2.5).error(2.0), Request("qed", 0.8).error(0.9)
        (5.0, -0.5, 0.0)
        """
        return value - min(max(value, self.low), self.high)


def parse_where(text: str) -> tuple[Request, ...]:
    """Read requests with commas between them.

    Signs: ``=`` a value or, as ``a..b``, a range; ``>=`` and ``>`` a lower bound, ``<=`` and ``<`` an upper one, which
    count as included. Two bounds of one property make a range. What is no number after ``=`` is a level of a category,
    or several with ``|`` between them.

    Raises:
        InputError: when a request cannot be read, is no number, or contradicts another; ``text`` holds none.

    >>> [request.text for request in parse_where("logp=2.5, tpsa>=60, tpsa<=90")]
    ['logp=2.5', 'tpsa=60..90']
    >>> parse_where("target = EGFR | HER2")[0].levels
    ('EGFR', 'HER2')
    """
    terms = [_read_term(term) for term in text.split(",") if term.strip()]
    if not terms:
        raise InputError(f"{text!r} asks for nothing.", EXAMPLE)
    return _merge(terms)


def read_conditions(conditions: str | Mapping[str, Condition]) -> tuple[Request, ...]:
    """Read requests from text, see `parse_where`, or from a mapping of names to values or pairs of bounds.

    Raises:
        InputError: when a request cannot be read, is no number, or contradicts another.

    >>> [request.text for request in read_conditions({"logp": 2.5, "qed": (0.8, None)})]
    ['logp=2.5', 'qed>=0.8']
    """
    if isinstance(conditions, str):
        return parse_where(conditions)
    requests = []
    for name, value in conditions.items():
        levels = value if isinstance(value, tuple) else (value,)
        if _may_be_levels(name, levels):
            requests.append(Request(name, levels=tuple(map(str, levels))))
            continue
        low, high = value if isinstance(value, tuple) else (value, value)
        bounds = (-math.inf if low is None else _finite(low, name), math.inf if high is None else _finite(high, name))
        requests.append(Request(name, *bounds))
    if not requests:
        raise InputError("The conditions ask for nothing.", 'Give for instance {"logp": 2.5, "qed": (0.8, None)}.')
    return _merge(requests)


def _may_be_levels(name: str, values: Sequence[object]) -> bool:
    """Tell whether values are levels of a category: texts that are no numbers, and not of a computed property."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    computed = OTHER_NAMES.get(name.casefold(), name.casefold()) in PROPERTIES
    return bool(values) and len(texts) == len(values) and not computed and (len(texts) > 1 or not _is_float(texts[0]))


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _finite(value: object, name: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name}: {value!r} is no number.", EXAMPLE)
    return number


def _read_term(term: str) -> Request:
    found = _TERM.match(term)
    if found is None:
        raise InputError(f"{term.strip()!r} is no request.", EXAMPLE)
    name, sign, value = found["name"], found["sign"], found["value"]
    between = _RANGE.match(value)
    if between and sign in ("=", "=="):
        low, high = float(between[1]), float(between[2])
        if low > high:
            raise InputError(f"{term.strip()!r} has its larger bound first.", f"Write {name}={high:g}..{low:g}.")
        return Request(name, low, high)
    levels = tuple(level.strip() for level in value.split("|"))
    if sign in ("=", "==") and _may_be_levels(name, levels):
        return Request(name, levels=levels)
    number = _finite(value, name)
    if sign in ("=", "=="):
        return Request(name, number, number)
    return Request(name, low=number) if sign in (">", ">=") else Request(name, high=number)


def _merge(requests: Iterable[Request]) -> tuple[Request, ...]:
    """Return one request for each property, in the order of their first appearance."""
    merged: dict[str, Request] = {}
    for request in requests:
        before = merged.get(request.name, Request(request.name))
        either = before.levels or request.levels
        levels = tuple(level for level in either if level in (request.levels or either))
        both = Request(request.name, max(before.low, request.low), min(before.high, request.high), levels)
        if both.low > both.high or (either and not levels):
            asked = request.text if before == Request(request.name) else f"{before.text} and {request.text}"
            raise InputError(f"{asked} contradict each other: no value is both.", "Leave one of them out.")
        merged[request.name] = both
    return tuple(merged.values())


def check_requests(
    requests: Sequence[Request], known: Sequence[PropertyInfo]
) -> tuple[tuple[Request, ...], tuple[str, ...]]:
    """Check requests against the properties ``known`` to a model.

    Names and levels are found in any case, and computed properties by their usual other names.

    Returns:
        The requests with the model's own names, and one warning for each that lies outside the training set.

    Raises:
        UnknownNameError: when the model does not know a property, or a category has no such level.
        InputError: when no molecule can have a value, or two requests contradict each other.
    """
    categories, table = categories_of(known), {info.name: info for info in known}
    names = [*(info.name for info in known if not info.category), *categories]
    named = (replace(request, name=_find_name(request.name, names)) for request in requests)
    found = _merge(_as_asked(request, categories.get(request.name)) for request in named)
    warnings: list[str] = []
    for request in found:
        if request.levels:
            warnings += _rare(request, table)
            continue
        _check_possible(request, table[request.name])
        warnings += filter(None, [_outside(request, table[request.name])])
    return found, tuple(warnings)


def _as_asked(request: Request, levels: Sequence[str] | None) -> Request:
    """Return a request for levels as the model writes them, or for a number, as ``levels``, None for a number, says."""
    bounded = math.isfinite(request.low) or math.isfinite(request.high)
    if levels is None:
        if request.levels:
            raise InputError(f"{request.name}: {'|'.join(request.levels)!r} is no number.", EXAMPLE)
        return request
    if bounded and (request.levels or not request.point):
        raise InputError(
            f"{request.name} is a category, which has no bounds.", f"Its levels: {', '.join(levels)}; ask for one."
        )
    # A level such as 2 was read as a number.
    asked = request.levels or tuple(level for level in levels if _is_float(level) and float(level) == request.low)
    asked = asked or (f"{request.low:g}",)
    return Request(request.name, levels=tuple(dict.fromkeys(_find_level(request.name, one, levels) for one in asked)))


def _find_level(name: str, level: str, levels: Sequence[str]) -> str:
    if level in levels:
        return level
    same = [one for one in levels if one.casefold() == level.casefold()]
    if len(same) == 1:
        return same[0]
    close = difflib.get_close_matches(level, levels, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}? " if close else ""
    raise UnknownNameError(f"{name} has no level {level!r}.", f"{hint}Its levels: {', '.join(levels)}.")


def _rare(request: Request, table: Mapping[str, PropertyInfo]) -> list[str]:
    """Warn of each level that few training molecules have."""
    columns = [table[level_name(request.name, level)] for level in request.levels]
    counts = [round(info.mean * info.n) for info in columns]
    return [
        f"{info.name}: only {count} molecules of the training set are known to have it."
        for info, count in zip(columns, counts, strict=True) if count < FEW
    ]  # fmt: skip


def _find_name(name: str, table: Collection[str]) -> str:
    if name in table:
        return name
    folded = {key.casefold(): key for key in table}
    wanted = OTHER_NAMES.get(name.casefold(), name.casefold())
    if wanted in folded:
        return folded[wanted]
    listed = ", ".join(table) or "none"
    if wanted in PROPERTIES:
        raise UnknownNameError(
            f"The model was trained without {wanted}.", f"It knows: {listed}. Train one on a dataset with {wanted}."
        )
    close = difflib.get_close_matches(wanted, [*folded, *OTHER_NAMES], n=1, cutoff=0.5)
    hint = f"Did you mean {folded.get(close[0], close[0])}? " if close else ""
    raise UnknownNameError(f"The model knows no property {name!r}.", f"{hint}It knows: {listed}.")


def _check_possible(request: Request, info: PropertyInfo) -> None:
    low, high = POSSIBLE.get(request.name, (-math.inf, math.inf))
    if request.high < low or request.low > high or (request.point and not low <= request.low <= high):
        allowed = f"between {low:g} and {high:g}" if math.isfinite(high) else f"{low:g} or more"
        raise InputError(
            f"{request.text}: no molecule has it, {request.name} is {allowed}.",
            f"Ask for a value between {info.minimum:.4g} and {info.maximum:.4g}, which the training set has.",
        )


def _outside(request: Request, info: PropertyInfo) -> str:
    """Say how far a request lies outside the training set, "" when it does not."""
    if request.low > info.maximum:
        away, side, nearest = request.low - info.maximum, "above", request.low
    elif request.high < info.minimum:
        away, side, nearest = info.minimum - request.high, "below", request.high
    else:
        return ""
    width, std = info.maximum - info.minimum, info.std or 1.0
    share = f"{away / width:.1%} of its range" if width > 0 else "where it is constant"
    return (
        f"{request.text} lies {away:.4g} {side} the training set ({info.minimum:.4g} to {info.maximum:.4g}, {share}), "
        f"{abs(nearest - info.mean) / std:.1f} standard deviations from its mean."
    )
