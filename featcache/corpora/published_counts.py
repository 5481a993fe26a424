"""Corpus, manifest → published numbers of utterances of those parts of the corpus that exist here."""

from collections import Counter
from collections.abc import Mapping

from featcache.corpora.base import Corpus
from featcache.manifest import Manifest


def parts_in(corpus: Corpus, manifest: Manifest) -> list[str]:
    """Return the parts with published counts of which the manifest has utterances; empty if it has all parts.

    Args:
        corpus: Description of the corpus.
        manifest: The utterances of the folder.
    """
    there = {utterance.labels.get(corpus.part, "") for utterance in manifest} if corpus.part else set()
    found = [part for part in corpus.part_counts if part in there]
    return found if len(found) < len(corpus.part_counts) else []


def counts_in(corpus: Corpus, manifest: Manifest) -> Mapping[str, int]:
    """Return class → published number of utterances, in those parts of the corpus of which the manifest has utterances.

    Many users download one part only, such as the speech of RAVDESS without its songs.

    Args:
        corpus: Description of the corpus.
        manifest: The utterances of the folder.
    """
    parts = parts_in(corpus, manifest)
    if not parts:
        return corpus.published_counts
    total: Counter[str] = Counter()
    for part in parts:
        total.update(corpus.part_counts[part])
    return {name: total[name] for name in corpus.published_counts if total[name]}
