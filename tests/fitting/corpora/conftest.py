"""Caches of three tiny corpora with the same speakers' names and other names of the labels."""

import hashlib

import pytest

from featcache.manifest import Manifest, Utterance

LABELS = {"acted": ("anger", "joy", "calm"), "played": ("angry", "happy", "neutral"), "real": ("ANGER", "happiness")}
QUICK = {"seeds": "7,", "max_epochs": 2, "learning_rate": 0.01}
SPEAKERS = ("01", "02", "03", "04", "05")


def manifest_of(labels, column="emotion", **further):
    """Return the utterances of a corpus: two of each label and speaker."""
    return Manifest(
        [
            Utterance(
                utterance_id=f"{speaker}-{label}-{number}",
                path=f"wav/{speaker}-{label}-{number}.wav",
                speaker_id=speaker,
                labels={column: label, **further},
            )
            for speaker in SPEAKERS
            for label in labels
            for number in (1, 2)
        ]
    )


def recordings_of(corpus, manifest):
    """Return a different SHA-256 for each utterance."""
    return {i: {"audio_sha256": hashlib.sha256(f"{corpus} {i}".encode()).hexdigest()} for i in manifest.utterance_ids}


@pytest.fixture
def corpora(make_cache, quick_reports):
    """Return the folders of the caches of all corpora in LABELS."""
    return {name: make_corpus(make_cache, name, manifest_of(labels)) for name, labels in LABELS.items()}


def make_corpus(make_cache, name, manifest, **options):
    return make_cache(name, manifest=manifest, stores={"ssl": {"recordings": recordings_of(name, manifest), **options}})
