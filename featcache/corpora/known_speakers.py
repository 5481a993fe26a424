"""Table of utterances of a known corpus, such as EmoBox's → speakers from the file names, and mixed folds."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from featcache.corpora.base import Corpus, NamedCorpus
from featcache.errors import CorpusError
from featcache.manifest import Manifest
from featcache.units import counted
from featcache.utterances import Utterance

DATASET = "dataset"
"""Label of EmoBox that names the corpus of an utterance."""
_NAME = re.compile(r"[^a-z0-9]")

log = logging.getLogger(__name__)


def with_known_speakers(manifest: Manifest, corpora: Mapping[str, Corpus]) -> Manifest:
    """Return the utterances with the speakers that a known corpus has in its file names, if the table has none.

    A warning is logged if the folds or splits of the table mix these speakers.

    Args:
        manifest: Utterances of a table. The label ``dataset`` is the name of the corpus, as EmoBox writes it.
        corpora: Name → corpus.
    """
    if any(u.speaker_id for u in manifest) or not any(u.labels.get(DATASET) for u in manifest):
        return manifest
    names = {_NAME.sub("", name): name for name in corpora}
    datasets = {u.labels.get(DATASET, "") for u in manifest}
    found = {one: corpora[names[key]] for one in datasets if (key := _NAME.sub("", one.lower())) in names}
    utterances = [replace(u, speaker_id=_speaker(u, found.get(u.labels.get(DATASET, "")))) for u in manifest]
    if not any(u.speaker_id for u in utterances):
        return manifest
    known = Manifest(utterances)
    titles = ", ".join(corpus.title for corpus in found.values())
    log.info("%s taken from the file names of %s", counted(len(known.speaker_ids), "speaker", "are"), titles)
    for warning in mixed_parts(known):
        log.warning("%s", warning)
    return known


def mixed_parts(manifest: Manifest) -> Iterator[str]:
    """Yield a warning for each of the labels ``fold`` and ``split`` whose parts share speakers.

    Args:
        manifest: Utterances with speakers.
    """
    for label in ("fold", "split"):
        parts: dict[str, set[str]] = {}
        for utterance in manifest:
            if utterance.speaker_id and utterance.labels.get(label):
                parts.setdefault(utterance.speaker_id, set()).add(utterance.labels[label])
        mixed = sum(len(one) > 1 for one in parts.values())
        if mixed:
            yield (
                f"the published {label}s of this table mix speakers: {mixed} of {counted(len(parts), 'speaker')} are "
                f"in several, so that scores with --protocol {label}{'s' if label == 'fold' else ''} are of known "
                "speakers; --protocol loso or group-kfold keeps speakers apart"
            )


def _speaker(utterance: Utterance, corpus: Corpus | None) -> str:
    if not isinstance(corpus, NamedCorpus) or (match := corpus.match(utterance.path)) is None:
        return ""
    try:
        return corpus.utterance(utterance.path, match).speaker_id
    except (KeyError, CorpusError):  # a code that the corpus does not have; it is no reason to refuse the table
        return ""
