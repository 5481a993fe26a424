"""Workspace × what a user names → the corpora that a pipeline is run on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featcache.cache.reader import FeatureCache
from featcache.corpora import CORPORA, Corpus, read_corpus
from featcache.corpora.recorded import corpus_of, is_corpus
from featcache.errors import PipelineError, StoreError
from featcache.extraction.inputs import AudioInput
from featcache.manifest import Manifest
from featcache.pipeline.schema import Pipeline
from featcache.registry import is_external
from featcache.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class PipelineCorpus:
    """A corpus, where its audio lies, and where its features and runs go.

    Attributes:
        name: Of the folders under ``data/cache`` and ``data/runs``.
        kind: Which corpus it is, where that is known.
        data: The folder of the audio, or a table of utterances; None where there are features alone.
        root: What the manifest's paths start from.
        manifest: All its utterances.
        layout: Which known corpus it is read as, where the user says so.
        workspace: Where everything lives.
        checksums: Those that were asked for, so that each file is read once, whatever number of stores it feeds.
    """

    name: str
    kind: Corpus | None
    data: Path | None
    root: Path | None
    manifest: Manifest
    workspace: Workspace
    layout: str | None = None
    checksums: dict[str, str | None] = field(default_factory=dict)

    def checksum(self, path: str) -> str | None:
        """The SHA-256 of an audio file of the manifest; None where there is none."""
        if path not in self.checksums:
            self.checksums[path] = AudioInput(self.root).checksum(path) if self.root else None
        return self.checksums[path]

    @property
    def cache(self) -> Path:
        return self.workspace.cache(self.name)


def find_places(
    pipeline: Pipeline, workspace: Workspace, *, corpus: str | None, data: Path | None, layout: str | None = None
) -> list[PipelineCorpus]:
    """Find the corpora.

    Args:
        pipeline: What is to be run.
        workspace: Where to look.
        corpus: The name of one.
        data: Where its audio lies, if elsewhere. Without either, those that the pipeline is made for and that are
            there under their own names; else the only one there is.
        layout: Which known corpus it is, where its files do not tell.

    Raises:
        FeatcacheError: there is none, or several and none was named, or it is another than the pipeline needs.
    """
    names: list[str | None] = [corpus]
    if corpus is None and data is None:
        known = [name for name in map(_folder_name, pipeline.corpus) if _is_there(workspace, name)]
        names = [*known] or [_only_one(pipeline, workspace)]
    return [_place(pipeline, workspace, corpus=name, data=data, layout=layout) for name in names]


def _folder_name(reference: str) -> str:
    """Return what the folder of a corpus is called, unless the user says otherwise."""
    return CORPORA.find(reference).name if is_external(reference) else reference


def _only_one(pipeline: Pipeline, workspace: Workspace) -> str | None:
    """The corpus that can be meant where none bears the name that the pipeline needs; None for the only audio.

    Raises:
        FeatcacheError: several can be meant, or none is what the pipeline needs.
    """
    audio = _folders(workspace.corpora)
    caches = [path.parent for path in sorted(workspace.home.glob("cache/*/manifest.csv"))]
    if not pipeline.corpus:
        return workspace.find_cache(None).name if caches and not audio else None
    fitting = [cache.name for cache in caches if _is_one_of(corpus_of(cache), pipeline.corpus)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise PipelineError(f"several caches are of {_needed(pipeline)}: {', '.join(fitting)}; choose with --corpus")
    if len(audio) == 1 and not caches:
        return None
    there = sorted({*audio, *(cache.name for cache in caches)})
    raise PipelineError(
        f"the pipeline needs {_needed(pipeline)}, which is not here (found: {', '.join(there) or 'none'}); put its "
        f"audio at {workspace.corpora / _folder_name(pipeline.corpus[0])}, or give its folder with --data PATH"
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
    pipeline: Pipeline, workspace: Workspace, *, corpus: str | None, data: Path | None, layout: str | None
) -> PipelineCorpus:
    audio_is_elsewhere = data is None and corpus is not None and not workspace.corpus(corpus).is_dir()
    if corpus is not None and audio_is_elsewhere and _is_cached(workspace, corpus):
        cache = FeatureCache(workspace.cache(corpus))
        kind = corpus_of(cache.path)
        place = PipelineCorpus(
            name=corpus, kind=kind, data=None, root=None, manifest=cache.manifest, workspace=workspace
        )
    else:
        name, folder = workspace.find_corpus(corpus, data)
        workspace.check_corpus(name)
        files = read_corpus(folder, layout)
        place = PipelineCorpus(
            name=name,
            kind=files.corpus,
            data=folder,
            root=files.root,
            manifest=files.manifest,
            workspace=workspace,
            layout=layout,
        )
    if pipeline.corpus and not _is_one_of(place.kind, pipeline.corpus):
        found = place.kind.name if place.kind else "unknown"
        raise PipelineError(
            f"the pipeline needs {_needed(pipeline)}, but {place.data or place.cache} is of the corpus {found!r}; "
            "give the right folder with --data PATH"
        )
    return place


def require_audio(place: PipelineCorpus) -> Path:
    """The folder of the audio, when something is to be extracted.

    Raises:
        StoreError: there are features alone.
    """
    if place.data is None:
        raise StoreError(
            f"{place.cache} lacks features, and there is no audio under {place.workspace.corpora / place.name}; "
            "give its folder with --data"
        )
    return place.data
