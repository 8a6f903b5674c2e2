"""Keep a model's card true when a part of the model is made anew.

In: the card's Markdown and one section. Out: the Markdown with that section in place of the old one.
"""

from __future__ import annotations


def with_section(card: str, heading: str, body: str) -> str:
    """Return ``card`` with the section under ``heading``, such as "## Prior", put anew; the others stay as they are.

    >>> with_section("# m\\n\\n## Prior\\n\\nold\\n\\n## More\\n\\nkept\\n", "## Prior", "new")
    '# m\\n\\n## More\\n\\nkept\\n\\n## Prior\\n\\nnew\\n'
    """
    lines, kept, inside = card.splitlines(), [], False
    for line in lines:
        if line.startswith("## ") or line.startswith("# "):
            inside = line.strip() == heading
        if not inside:
            kept.append(line)
    rest = "\n".join(kept).rstrip()
    return f"{rest}\n\n{heading}\n\n{body.rstrip()}\n"
