"""Human words × a machine's → word error rate, counted by jiwer after Whisper's normaliser for any language.

The rate is that of the whole corpus: all edits over all words of the references, not a mean of utterances' rates.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from featcache.errors import MissingPackageError

NORMALISER = "BasicTextNormalizer"
"""Of transformers: lower case, without punctuation, symbols, and whatever stands in brackets. Words stay as they are
spelt: "don't" is two words, "4" is not "four", and languages that write no blanks have one word per stretch."""


@dataclass(frozen=True, kw_only=True)
class WordErrors:
    """How a machine's words differ from human ones.

    Attributes:
        num_compared: Utterances that both have, and that have human words.
        num_without_words: Utterances whose human transcript has no words; they are left out.
        num_words: Of the references, after normalisation.
        substitutions: Words that were replaced by another.
        deletions: Words that were left out.
        insertions: Words that nobody said.
    """

    num_compared: int
    num_without_words: int
    num_words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """In percent of the references' words; above 100 where more is wrong than was said."""
        return 100 * (self.substitutions + self.deletions + self.insertions) / self.num_words

    def to_json(self) -> dict[str, Any]:
        """As it is kept beside the transcripts."""
        return {"percent": self.rate, "normaliser": NORMALISER, **asdict(self)}


def word_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> WordErrors | None:
    """Compare transcripts of the utterances that both have.

    Args:
        references: Utterance id → human transcript.
        hypotheses: Utterance id → a machine's.

    Returns:
        None where no reference has a word.

    Raises:
        MissingPackageError: jiwer is not installed.
    """
    normalise = _normaliser()
    pairs = [
        (normalise(reference).strip(), normalise(hypotheses[utterance_id]).strip())
        for utterance_id, reference in references.items()
        if utterance_id in hypotheses
    ]
    compared = [(reference, hypothesis) for reference, hypothesis in pairs if reference]
    if not compared:
        return None
    try:
        import jiwer
    except ImportError:
        raise MissingPackageError(
            "word error rates need jiwer, which is not installed: pip install 'featcache[text]'"
        ) from None
    counts = jiwer.process_words([reference for reference, _ in compared], [hypothesis for _, hypothesis in compared])
    return WordErrors(
        num_compared=len(compared),
        num_without_words=len(pairs) - len(compared),
        num_words=counts.hits + counts.substitutions + counts.deletions,
        substitutions=counts.substitutions,
        deletions=counts.deletions,
        insertions=counts.insertions,
    )


def describe(errors: WordErrors) -> str:
    """Word errors in one line."""
    skipped = f"; {errors.num_without_words} without human words left out" if errors.num_without_words else ""
    return (
        f"WER {errors.rate:.1f} %: {errors.substitutions} words substituted, {errors.deletions} deleted, "
        f"{errors.insertions} inserted, of {errors.num_words} in {errors.num_compared} utterances{skipped} "
        f"(jiwer; normalised by {NORMALISER})"
    )


def _normaliser() -> Any:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()
