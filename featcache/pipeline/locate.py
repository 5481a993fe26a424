"""Workspace, options of the user → the corpora that a pipeline runs on."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from featcache.audio.containers import ContainerError
from featcache.audio.known_files import KNOWN_FILES, KnownFiles
from featcache.cache.reader import FeatureCache
from featcache.corpora import CORPORA, Corpus, read_corpus
from featcache.corpora.corpus_folder import find_corpus_folder
from featcache.corpora.recorded import corpus_of, is_corpus, recorded_speakers
from featcache.errors import PipelineError, StoreError
from featcache.manifest import Manifest
from featcache.pipeline.schema import Pipeline
from featcache.registry import is_external
from featcache.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class PipelineCorpus:
    """A corpus with the folders of its audio, features and runs.

    Attributes:
        name: Name of its folders under ``data/cache`` and ``data/runs``.
        kind: The known corpus that the files belong to; None if it is unknown.
        data: Folder of the audio, or a table of utterances; None if only features are available.
        root: Base folder of the paths in the manifest; None if only features are available.
        manifest: Manifest of all utterances.
        layout: Name of the known corpus, if the user gave it.
        speaker_from: Regular expression that finds the speakers, if the user gave it.
        workspace: Workspace with the corpora, caches and runs.
        checksums: Audio path → checksum, kept so that each file is read once for all stores.
    """

    name: str
    kind: Corpus | None
    data: Path | None
    root: Path | None
    manifest: Manifest
    workspace: Workspace
    layout: str | None = None
    speaker_from: str | None = None
    checksums: dict[str, str | None] = field(default_factory=dict)

    def checksum(self, path: str) -> str | None:
        """Return the SHA-256 of an audio file of the manifest, or None if only features are available."""
        if path not in self.checksums:
            self.checksums[path] = None
            with suppress(ContainerError, OSError):
                self.checksums[path] = self.audio_files.checksum(path) if self.root else None
        return self.checksums[path]

    @cached_property
    def audio_files(self) -> KnownFiles:
        """Audio files of the corpus."""
        return KnownFiles(self.root or self.cache, self.cache / KNOWN_FILES)

    @property
    def cache(self) -> Path:
        """Folder of the cache."""
        return self.workspace.cache(self.name)


def find_places(
    pipeline: Pipeline,
    workspace: Workspace,
    *,
    corpus: str | None,
    data: Path | None,
    layout: str | None = None,
    speaker_from: str | None = None,
) -> list[PipelineCorpus]:
    """Find the corpora that a pipeline runs on.

    Without ``corpus`` and ``data``, these are all corpora of the pipeline that exist under their own names. If there
    are none, it is the only corpus in the workspace.

    Args:
        pipeline: The pipeline.
        workspace: Workspace to search.
        corpus: Name of a single corpus.
        data: Folder of its audio, if it is outside of the workspace.
        layout: Name of the known corpus, if the file names do not show it.
        speaker_from: Regular expression that finds the speakers [default: as recorded in the cache].

    Returns: one or more corpora.

    Raises:
        FeatcacheError: There is no corpus, there are several and none was chosen, or the pipeline needs another one.
    """
    names: list[str | None] = [corpus]
    if corpus is None and data is None:
        known = [name for name in map(_folder_name, pipeline.corpus) if _is_there(workspace, name)]
        names = [*known] or [_only_one(pipeline, workspace)]
    given: dict[str, Any] = {"data": data, "layout": layout, "speaker_from": speaker_from}
    return [_place(pipeline, workspace, corpus=name, **given) for name in names]


def _folder_name(reference: str) -> str:
    """Return the default folder name of a corpus."""
    return CORPORA.find(reference).name if is_external(reference) else reference


def _only_one(pipeline: Pipeline, workspace: Workspace) -> str | None:
    """Return the only suitable corpus if none has the expected name, or None to use the only audio folder.

    Raises:
        FeatcacheError: Several corpora are suitable, or none is.
    """
    audio = _folders(workspace.corpora)
    caches = [path.parent for path in sorted(workspace.home.glob("cache/*/manifest.csv"))]
    if not pipeline.corpus:
        return workspace.find_cache(None).name if caches and not audio else None
    fitting = [cache.name for cache in caches if _is_one_of(corpus_of(cache), pipeline.corpus)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        choices = " or ".join(f"--corpus {name}" for name in fitting)
        raise PipelineError(f"several caches contain {_needed(pipeline)}; which one? {choices}")
    if len(audio) == 1 and not caches:
        return None
    there = sorted({*audio, *(cache.name for cache in caches)})
    raise PipelineError(
        f"the pipeline needs {_needed(pipeline)}, which was not found (available: {', '.join(there) or 'none'}); put "
        f"its audio at {workspace.corpora / _folder_name(pipeline.corpus[0])}, or give its folder with --data PATH"
    )


def _is_one_of(corpus: Corpus | None, references: Sequence[str]) -> bool:
    return any(is_corpus(corpus, reference) for reference in references)


def _needed(pipeline: Pipeline) -> str:
    return f"the corpus {' or '.join(pipeline.corpus)}"


def _folders(folder: Path) -> list[str]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if path.is_dir() and not path.name.startswith("."))


def _is_there(workspace: Workspace, name: str) -> bool:
    return workspace.corpus(name).is_dir() or _is_cached(workspace, name)


def _is_cached(workspace: Workspace, name: str) -> bool:
    return (workspace.cache(name) / "manifest.csv").is_file()


def _place(
    pipeline: Pipeline,
    workspace: Workspace,
    *,
    corpus: str | None,
    data: Path | None,
    layout: str | None,
    speaker_from: str | None,
) -> PipelineCorpus:
    audio_is_elsewhere = data is None and corpus is not None and not workspace.corpus(corpus).is_dir()
    if corpus is not None and audio_is_elsewhere and _is_cached(workspace, corpus):
        cache = FeatureCache(workspace.cache(corpus))
        kind = corpus_of(cache.path)
        place = PipelineCorpus(
            name=corpus, kind=kind, data=None, root=None, manifest=cache.manifest, workspace=workspace
        )
    else:
        name, folder = find_corpus_folder(workspace, corpus, data)
        workspace.check_corpus(name)
        expression = speaker_from or recorded_speakers(workspace.cache(name))
        files = read_corpus(folder, layout, speaker_from=expression)
        place = PipelineCorpus(
            name=name,
            kind=files.corpus,
            data=folder,
            root=files.root,
            manifest=files.manifest,
            workspace=workspace,
            layout=layout,
            speaker_from=speaker_from,
        )
    if pipeline.corpus and not _is_one_of(place.kind, pipeline.corpus):
        found = place.kind.name if place.kind else "unknown"
        raise PipelineError(
            f"the pipeline needs {_needed(pipeline)}, but {place.data or place.cache} contains the corpus {found!r}; "
            "give the right folder with --data PATH"
        )
    return place


def require_audio(place: PipelineCorpus) -> Path:
    """Return the folder of the audio, which extraction needs.

    Raises:
        StoreError: Only features are available.
    """
    if place.data is None:
        raise StoreError(
            f"features are missing in {place.cache}, and there is no audio under "
            f"{place.workspace.corpora / place.name}; give the folder of the audio with --data"
        )
    return place.data
