"""Human transcripts × ASR transcripts → word error rate, computed by jiwer after Whisper's multilingual normaliser.

The rate is for the whole corpus: all edits divided by all words of the references, not a mean over utterances.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from featcache.errors import MissingPackageError

NORMALISER = "BasicTextNormalizer"
"""Name of a class of transformers, which converts text to lower case and removes punctuation, symbols and brackets with
their content. Spelling is not changed: "don't" becomes two words, "4" is not "four", and a language without spaces has
one word per stretch of text."""


@dataclass(frozen=True, kw_only=True)
class WordErrors:
    """Word errors of ASR transcripts.

    Attributes:
        num_compared: Number of utterances with an ASR transcript and a human transcript that contains words.
        num_without_words: Number of utterances whose human transcript has no words; they are left out.
        num_words: Number of words in the human transcripts, after normalisation.
        substitutions: Number of words replaced by another word.
        deletions: Number of words missing in the ASR transcripts.
        insertions: Number of additional words in the ASR transcripts.
    """

    num_compared: int
    num_without_words: int
    num_words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Word error rate in percent; above 100 if there are more errors than reference words."""
        return 100 * (self.substitutions + self.deletions + self.insertions) / self.num_words

    def to_json(self) -> dict[str, Any]:
        """Return the entries that are saved with the ASR transcripts."""
        return {"percent": self.rate, "normaliser": NORMALISER, **asdict(self)}


def word_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> WordErrors | None:
    """Count word errors in the utterances that have both transcripts.

    Args:
        references: Utterance id → human transcript.
        hypotheses: Utterance id → ASR transcript.

    Returns:
        The word errors, or None if no human transcript contains a word.

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
    """Return the word errors as one line of text."""
    skipped = f"; {errors.num_without_words} without human transcript left out" if errors.num_without_words else ""
    return (
        f"WER {errors.rate:.1f} %: {errors.substitutions} words substituted, {errors.deletions} deleted, "
        f"{errors.insertions} inserted, of {errors.num_words} in {errors.num_compared} utterances{skipped} "
        f"(jiwer; normalised by {NORMALISER})"
    )


def _normaliser() -> Any:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()
