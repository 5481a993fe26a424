"""Word error rates against counts by hand, and against a plain edit distance."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import MissingPackageError
from featcache.evaluate.wer import describe, word_errors

WORDS = st.lists(st.sampled_from(["yes", "no", "well", "never"]), max_size=8)


def edit_distance(reference, hypothesis):
    """Compute the Levenshtein distance over words, row by row of the table."""
    row = list(range(len(hypothesis) + 1))
    for number, word in enumerate(reference, start=1):
        above, row[0] = row[0], number
        for column, other in enumerate(hypothesis, start=1):
            above, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, above + (word != other))
    return row[-1]


def counts(errors):
    return errors.substitutions, errors.deletions, errors.insertions, errors.num_words


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat sat on the mat", "the cat sat on the mat", (0, 0, 0, 6)),
        ("the cat sat on the mat", "the bat sat on mat", (1, 1, 0, 6)),
        ("the cat sat", "the cat sat down here", (0, 0, 2, 3)),
        ("the cat sat", "", (0, 3, 0, 3)),
        ("yes", "no no no", (1, 0, 2, 1)),
    ],
)
def test_edits_counted_by_hand(reference, hypothesis, expected):
    errors = word_errors({"a": reference}, {"a": hypothesis})
    assert counts(errors) == expected
    assert errors.rate == pytest.approx(100 * sum(expected[:3]) / expected[3])


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_edits_are_the_fewest_that_there_are(pairs):
    references = {str(number): " ".join(reference) for number, (reference, _) in enumerate(pairs)}
    hypotheses = {str(number): " ".join(hypothesis) for number, (_, hypothesis) in enumerate(pairs)}
    errors = word_errors(references, hypotheses)
    compared = [(reference, hypothesis) for reference, hypothesis in pairs if reference]
    if not compared:
        assert errors is None
        return
    assert errors.substitutions + errors.deletions + errors.insertions == sum(edit_distance(*pair) for pair in compared)
    assert errors.num_words == sum(len(reference) for reference, _ in compared)
    assert (errors.num_compared, errors.num_without_words) == (len(compared), len(pairs) - len(compared))


def test_the_rate_is_the_corpus_and_no_mean_of_rates():
    errors = word_errors({"a": "one", "b": "one two three four"}, {"a": "two", "b": "one two three four"})
    assert errors.rate == pytest.approx(20.0)  # the mean of 100 % and 0 % would be 50 %


def test_case_punctuation_and_brackets_do_not_count():
    errors = word_errors(
        {"a": "Well, HE  said (quietly): no! [LAUGHTER]", "b": "Schöne Grüße"},
        {"a": "well he said no", "b": "schöne grüße."},
    )
    assert counts(errors) == (0, 0, 0, 6)
    errors = word_errors({"a": "grüße"}, {"a": "grusse"})
    assert errors.rate == 100.0  # letters are not normalised


def test_references_without_words_are_left_out_and_told():
    references = {"a": "yes", "b": "", "c": "[LAUGHTER]", "d": " ... ", "e": "not transcribed"}
    errors = word_errors(references, {"a": "no", "b": "hallucinated words", "c": "ha ha", "d": "", "f": "not there"})
    assert (errors.num_compared, errors.num_without_words, counts(errors)) == (1, 3, (1, 0, 0, 1))
    assert describe(errors) == (
        "WER 100.0 %: 1 words substituted, 0 deleted, 0 inserted, of 1 in 1 utterances; 3 without human transcript "
        "left out (jiwer; normalised by BasicTextNormalizer)"
    )


def test_without_human_words_there_is_no_rate():
    assert word_errors({"a": "", "b": "[BREATH]"}, {"a": "yes", "b": "no"}) is None
    assert word_errors({"a": "yes"}, {}) is None


def test_what_is_kept_says_how_it_was_counted():
    kept = word_errors({"a": "the cat sat"}, {"a": "the bat sat down"}).to_json()
    assert kept.pop("percent") == pytest.approx(200 / 3)
    assert kept == {
        "normaliser": "BasicTextNormalizer",
        "num_compared": 1,
        "num_without_words": 0,
        "num_words": 3,
        "substitutions": 1,
        "deletions": 0,
        "insertions": 1,
    }


def test_without_jiwer_the_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(
        MissingPackageError, match=r"need jiwer, which is not installed: pip install 'featcache\[text\]'"
    ):
        word_errors({"a": "yes"}, {"a": "no"})
