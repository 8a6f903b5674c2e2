"""Map SELFIES tokens to integers and back.

In: SELFIES tokens such as ``[C]``. Out: token ids, specials first (PAD 0, BOS 1, EOS 2, UNK 3).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from molvae.errors import ModelFileError
from molvae.files import write_json

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")


class Vocabulary:
    """The closed set of tokens that a model can read and write.

    Args:
        tokens: SELFIES tokens without the specials; kept in the given order, ids start at 4.

    Raises:
        ValueError: when a token occurs twice.

    >>> vocabulary = Vocabulary.from_tokens(["[O]", "[C]", "[C]"])
    >>> vocabulary.encode(["[C]", "[O]"]), vocabulary.decode([4, 5, 2, 0])
    ([4, 5], ['[C]', '[O]'])
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens: tuple[str, ...] = (*SPECIALS, *tokens)
        self._ids = {token: token_id for token_id, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError("A vocabulary holds each token once.")

    @classmethod
    def from_tokens(cls, tokens: Iterable[str]) -> Vocabulary:
        """Return the vocabulary of all distinct ``tokens``, sorted, so that it does not depend on their order."""
        return cls(sorted(set(tokens) - set(SPECIALS)))

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and other.tokens == self.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def encode(self, tokens: Sequence[str]) -> list[int] | None:
        """Return token ids without BOS and EOS, or None when a token is not in the vocabulary (see `missing`)."""
        ids = self._ids
        try:
            return [ids[token] for token in tokens]
        except KeyError:
            return None

    def missing(self, tokens: Iterable[str]) -> list[str]:
        """Return the distinct tokens that the vocabulary lacks, in order of appearance."""
        return [token for token in dict.fromkeys(tokens) if token not in self._ids]

    def decode(self, token_ids: Iterable[int]) -> list[str]:
        """Return the SELFIES tokens of ``token_ids`` up to the first EOS; other specials are left out."""
        tokens = []
        for token_id in token_ids:
            if token_id == EOS:
                break
            if token_id > UNK:
                tokens.append(self.tokens[token_id])
        return tokens

    def save(self, path: Path) -> None:
        """Write ``vocab.json``."""
        write_json(path, {"version": 1, "tokens": list(self.tokens)})

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read ``vocab.json``.

        Raises:
            ModelFileError: when the file is missing or is not a vocabulary of this version.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            tokens = content["tokens"]
            if content["version"] != 1 or tuple(tokens[:4]) != SPECIALS or not all(isinstance(t, str) for t in tokens):
                raise ValueError("not a molvae vocabulary of version 1")
            return cls(tokens[4:])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{path} cannot be read: {error}.", "Copy the model again from its source.") from error
