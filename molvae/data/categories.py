"""Say which columns are the levels of one category: each level is a column of 0 and 1, NaN where nothing is known.

In: properties of a dataset or a model. Out: names of categories and levels, and which columns belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from molvae.data.dataset import PropertyInfo


def level_name(category: str, level: str) -> str:
    """Return the name of the column of one level.

    >>> level_name("target", "EGFR")
    'target=EGFR'
    """
    return f"{category}={level}"


def categories_of(info: Iterable[PropertyInfo]) -> dict[str, tuple[str, ...]]:
    """Return the levels of each category, in the order of their columns; empty when every property is a number.

    >>> levels = [PropertyInfo(f"target={text}", 0.5, 0.5, 0, 1, 9, "target") for text in ("EGFR", "none")]
    >>> categories_of([PropertyInfo("logp", 2, 1, -3, 6, 9), *levels])
    {'target': ('EGFR', 'none')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for entry in info:
        if entry.category:
            found[entry.category] = (*found.get(entry.category, ()), entry.level)
    return found


def groups_of(info: Sequence[PropertyInfo]) -> list[int]:
    """Return for each column the first column that is known whenever it is: its category's, or itself.

    >>> levels = [PropertyInfo(f"target={text}", 0.5, 0.5, 0, 1, 9, "target") for text in ("EGFR", "none")]
    >>> groups_of([*levels, PropertyInfo("logp", 2, 1, -3, 6, 9)])
    [0, 0, 2]
    """
    first: dict[str, int] = {}
    return [first.setdefault(entry.category, column) if entry.category else column for column, entry in enumerate(info)]


def expand(names: Iterable[str], info: Sequence[PropertyInfo]) -> list[str]:
    """Return ``names`` with every category, and every single level, replaced by all levels of that category.

    A model is told, and predicts, a whole category or nothing of it. Unknown names stay as they are.

    >>> levels = [PropertyInfo(f"target={text}", 0.5, 0.5, 0, 1, 9, "target") for text in ("EGFR", "none")]
    >>> expand(["logp", "target"], levels), expand(["target=none", "target"], levels)
    (['logp', 'target=EGFR', 'target=none'], ['target=EGFR', 'target=none'])
    """
    categories = categories_of(info)
    category_of = {entry.name: entry.category for entry in info if entry.category}
    expanded: list[str] = []
    for name in names:
        category = category_of.get(name, name)
        levels = [level_name(category, level) for level in categories.get(category, ())]
        expanded += levels or [name]
    return list(dict.fromkeys(expanded))
