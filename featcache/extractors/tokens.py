"""Text → tokens of a transformers tokenizer, cut to the length that the model can read."""

import hashlib
import json
from collections.abc import Container
from typing import Any

from featcache.errors import ModelError
from featcache.features import Tokens

# Tokenizers without a length limit report a very large number, such as 10^30.
NO_LIMIT = 10**9
# Text whose tokens identify a tokenizer: it contains upper case, accents, digits, punctuation and other scripts.
EXAMPLE = "It's 5 o'clock, she said: ÄÖÜ ß naïve — 東京 😀 (I CAN'T!)  two\nlines"


class Tokeniser:
    """Function that converts texts into tokens, safe to call from several threads.

    Args:
        tokenizer: Tokenizer of transformers.
        accepted: Names of the inputs that the model accepts.
        max_tokens: Largest number of tokens that the model can read, including special tokens; None for no limit.

    Attributes:
        before: Names of the special tokens before every text.
        after: Names of the special tokens after every text.
        without_words: Names of the tokens of an empty text.

    Raises:
        ModelError: an empty text would have no tokens, and the tokenizer has no special token to represent it.
    """

    def __init__(self, tokenizer: Any, *, accepted: Container[str], max_tokens: int | None) -> None:
        self._tokenizer = tokenizer
        self._accepted = accepted
        self._max_tokens = max_tokens
        # The first call also sets the tokenizer's truncation and padding, which is not safe in several threads.
        empty, letter = (self._encode(text)["input_ids"] for text in ("", "a"))
        differing = (i for i, (one, other) in enumerate(zip(empty, letter, strict=False)) if one != other)
        num_before = next(differing, len(empty))
        self._num_after = len(empty) - num_before
        names = tokenizer.convert_ids_to_tokens(empty)
        self.before, self.after = names[:num_before], names[num_before:]
        self._alone = empty or [_substitute(tokenizer)]
        self.without_words = tokenizer.convert_ids_to_tokens(self._alone)

    def __call__(self, text: str) -> Tokens:
        """Return the tokens of a text, at least one; white space alone counts as an empty text."""
        inputs = self._encode(text if text.strip() else "")
        if not inputs["input_ids"]:
            inputs = {name: [int(name == "attention_mask")] for name in inputs} | {"input_ids": self._alone}
        if self._max_tokens is None or len(inputs["input_ids"]) <= self._max_tokens:
            return Tokens(inputs=inputs)
        kept = self._max_tokens - self._num_after
        cut = {name: values[:kept] + values[len(values) - self._num_after :] for name, values in inputs.items()}
        return Tokens(inputs=cut, is_cut=True)

    def sha256(self) -> str:
        """Return the SHA-256 of the vocabulary and of the tokens of an example, which identifies the tokenizer."""
        content = [sorted(self._tokenizer.get_vocab().items()), self._encode(EXAMPLE), self._alone]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _encode(self, text: str) -> dict[str, list[int]]:
        encoded = self._tokenizer(text, verbose=False)
        return {name: list(values) for name, values in encoded.items() if name in self._accepted}


def most_tokens(module: Any, tokenizer: Any) -> int | None:
    """Return the largest number of tokens that a model can read, including special tokens; None for no limit.

    Args:
        module: Model of transformers.
        tokenizer: Its tokenizer.
    """
    from torch import nn

    limits = [int(tokenizer.model_max_length)] if tokenizer.model_max_length < NO_LIMIT else []
    positions = getattr(module.config, "max_position_embeddings", None) or 0
    if positions > 0:
        for name, part in module.named_modules():
            # RoBERTa and similar models count positions from the number after that of the padding.
            if "position" in name and isinstance(part, nn.Embedding) and part.padding_idx is not None:
                positions -= part.padding_idx + 1
        limits.append(positions)
    return min(limits, default=None)


def _substitute(tokenizer: Any) -> int:
    """Return the number of a special token that represents an empty text."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        if getattr(tokenizer, name, None) is not None:
            return int(getattr(tokenizer, name))
    raise ModelError("its tokenizer has no special token to represent an empty transcript")
