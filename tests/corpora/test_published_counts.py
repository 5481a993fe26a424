"""Published numbers of utterances are those of the parts of a corpus that are there."""

import pytest

from featcache.checks.label_checks import label_findings, published_differences
from featcache.corpora import CORPORA
from featcache.corpora.description import parse_description
from featcache.corpora.published_counts import counts_in, parts_in
from featcache.errors import CorpusError
from featcache.manifest import Manifest, Utterance

WITH_PARTS = [name for name, corpus in CORPORA.available().items() if corpus.part]
# Numbers of the authors: https://zenodo.org/records/1188976, https://github.com/declare-lab/MELD,
# https://github.com/HLTSingapore/Emotional-Speech-Data, https://github.com/mansourehk/ShEMO.
SIZES = {
    "ravdess": {"speech": 1440, "song": 1012},
    "meld": {"train": 9989, "dev": 1109, "test": 2610},
    "esd": {"English": 17500, "Mandarin": 17500},
    "shemo": {"female": 1263, "male": 1737},
    "jl-corpus": {"primary": 1200, "secondary": 1200},
}


def manifest_of(corpus, numbers):
    """Return a manifest with some numbers of utterances, part → class → number."""
    return Manifest(
        [
            Utterance(
                utterance_id=f"{part}-{name}-{i}",
                path=f"{part}-{name}-{i}.wav",
                labels={corpus.part: part, corpus.target: name},
            )
            for part, counts in numbers.items()
            for name, number in counts.items()
            for i in range(number)
        ]
    )


@pytest.mark.parametrize("name", WITH_PARTS)
def test_parts_have_the_published_sizes_and_add_up(name):
    corpus = CORPORA[name]
    assert {part: sum(counts.values()) for part, counts in corpus.part_counts.items()} == SIZES[name]
    assert {
        label: sum(counts.get(label, 0) for counts in corpus.part_counts.values()) for label in corpus.classes
    } == corpus.published_counts


@pytest.mark.parametrize("name", ["ravdess", "jl-corpus"])
def test_a_complete_part_differs_from_nothing(name):
    corpus = CORPORA[name]
    for part in corpus.part_counts:
        manifest = manifest_of(corpus, {part: corpus.part_counts[part]})
        assert parts_in(corpus, manifest) == [part]
        assert published_differences(manifest, corpus, corpus.target) == []
    whole = manifest_of(corpus, corpus.part_counts)
    assert parts_in(corpus, whole) == []
    assert counts_in(corpus, whole) == corpus.published_counts
    assert published_differences(whole, corpus, corpus.target) == []


def test_missing_utterances_of_a_part_are_told_with_its_name():
    corpus = CORPORA["ravdess"]
    manifest = manifest_of(corpus, {"speech": corpus.part_counts["speech"] | {"calm": 190}})
    found = [one.found for one in label_findings(manifest, corpus, "emotion") if one.kind == "counts"]
    assert found == [
        "emotion 'calm' has 190 utterances; the published corpus (vocal_channel 'speech') has 192",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": "half"}, "part: no label 'half'"),
        ({"part": ""}, "give 'part' and 'part_counts', or neither"),
        ({"part_counts": {"English": {"anger": 1}}}, "their sum is {'anger': 1}, expected that of 'counts'"),
    ],
)
def test_parts_of_a_description_are_checked(changes, message):
    with pytest.raises(CorpusError, match=message):
        parse_description(CORPORA["esd"].record() | changes, "x.yaml")
