"""Folder of audio without any table → Manifest without labels."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.corpora.base import Corpus, CorpusFiles
from featcache.corpora.folder_contents import AUDIO_SUFFIXES, audio_files
from featcache.errors import CorpusError
from featcache.manifest import Manifest, Utterance


@dataclass(frozen=True, kw_only=True)
class PlainAudio(Corpus):
    """Any folder of audio, in which every file is an utterance without a label and without a speaker."""

    def read(self, path: Path) -> CorpusFiles:
        """Read the audio files anywhere below a folder, sorted by path.

        Args:
            path: The folder.

        Returns:
            One utterance per audio file.

        Raises:
            CorpusError: the path is not a folder, or contains no audio file.
            ManifestError: a file name is not UTF-8 text.
        """
        paths = audio_files(path)
        if not paths:
            raise CorpusError(f"{path}: no audio files, expected {', '.join(AUDIO_SUFFIXES)}; check the folder")
        return CorpusFiles(corpus=self, root=path, manifest=Manifest(plain_utterances(paths)))


def plain_utterances(paths: Sequence[str]) -> list[Utterance]:
    """Return one utterance per audio file, without labels.

    Args:
        paths: Different paths, relative to the folder of the audio.

    Returns:
        Utterances in the same order. The id is the path without its suffix, or with it where several files differ in
        the suffix only.
    """
    stems = [os.path.splitext(path)[0] for path in paths]
    counts = Counter(stems)
    ids = [stem if counts[stem] == 1 else path for stem, path in zip(stems, paths, strict=True)]
    if len(set(ids)) < len(ids):  # such as x.wav, x.flac and x.wav.ogg
        ids = list(paths)
    return [Utterance(utterance_id=name, path=path) for name, path in zip(ids, paths, strict=True)]


AUDIO = PlainAudio(
    name="audio",
    title="a folder of audio without labels",
    description="Any audio, without a table: every audio file is an utterance without a label and without a speaker. "
    "It is only used if you name it with --layout audio.",
    license="depends on the audio",
    source=f"audio files ({', '.join(AUDIO_SUFFIXES)}) in any folders",
    target="",
)
