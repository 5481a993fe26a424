"""Reference → corpus: those of the registry, and corpora that YAML files describe.

A description contains no code. It is found by the name of its file in the folder ``descriptions`` of the workspace
(``$FEATCACHE_HOME`` or ``data``), or as ``./file.yaml`` if the user named it in this process. The descriptions that
come with featcache are built-in corpora, which are read at their first use.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.corpora.base import Corpus
from featcache.errors import unknown_name
from featcache.files.regular import is_hidden, sha256_of_file
from featcache.registry import DESCRIPTIONS, Origin, Registry, named_descriptions
from featcache.workspace import Workspace

if TYPE_CHECKING:
    from featcache.corpora.described import DescribedCorpus

SHIPPED = Path(__file__).with_name("descriptions")


def shipped_descriptions() -> dict[str, str]:
    """Return name → place of the corpora whose descriptions come with featcache, for the registry."""
    names = sorted(path.stem for path in SHIPPED.glob("*.yaml") if not is_hidden(path.name))
    return {name: f"{__name__}:{name}" for name in names}


def __getattr__(name: str) -> Any:
    """Return the corpus of a shipped description."""
    path = SHIPPED / f"{name}.yaml"
    if name.startswith("_") or not path.is_file():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from featcache.corpora.described import describe

    return describe(path)


class CorpusRegistry(Registry[Corpus]):
    """Registry of corpora, to which the descriptions of the user belong."""

    def __iter__(self) -> Iterator[str]:
        known = list(super().__iter__())
        yield from known
        yield from (name for name in _in_workspace() if name not in known)

    def __contains__(self, reference: object) -> bool:
        return super().__contains__(reference) or (isinstance(reference, str) and self._file(reference) is not None)

    def find(self, reference: str) -> Corpus:
        path = self._file(reference)
        corpus = self._loaded[reference] = super().find(reference) if path is None else _describe(path)
        return corpus

    def remember(self, corpus: Corpus) -> None:
        """Count the corpus of a cache among those that this process uses, because protocols look at its dialogues."""
        self._loaded[f"{corpus.name} of a cache"] = corpus

    def refusal(self, reference: str) -> str:
        if not reference.endswith(DESCRIPTIONS):
            return super().refusal(reference)
        return unknown_name(
            self.kind, reference, self, hint=f"name a description with --layout, or put it into {descriptions_folder()}"
        )

    def origin(self, reference: str) -> Origin | None:
        path = self._file(reference)
        return super().origin(reference) if path is None else Origin(reference=reference, sha256=sha256_of_file(path))

    def _file(self, reference: str) -> Path | None:
        """Return the description that a reference names; built-in corpora and those of packages take precedence."""
        if reference.endswith(DESCRIPTIONS):
            return named_descriptions().get(reference)
        if super().__contains__(reference):
            return None
        return _in_workspace().get(reference)

    def _named_references(self) -> Iterator[str]:
        yield from super()._named_references()
        yield from named_descriptions()


def descriptions_folder() -> Path:
    """Return the folder of the user's descriptions."""
    return Workspace.at().home / "descriptions"


def _in_workspace() -> dict[str, Path]:
    """Return name → description in the folder of the workspace."""
    folder = descriptions_folder()
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return {Path(name).stem: folder / name for name in names if name.endswith(DESCRIPTIONS) and not is_hidden(name)}


def _describe(path: Path) -> "DescribedCorpus":
    from featcache.corpora.described import describe

    return describe(path)
