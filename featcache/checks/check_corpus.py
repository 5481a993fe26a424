"""Request → findings on a corpus. Each file is read once, and nothing is written."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from featcache.checks.file_checks import file_findings
from featcache.checks.findings import Finding, in_order
from featcache.checks.identical_audio import identical_findings
from featcache.checks.label_checks import class_columns, label_findings, target_of
from featcache.checks.measure import measure
from featcache.checks.sound_checks import sound_findings
from featcache.corpora import CorpusFiles, read_corpus
from featcache.corpora.corpus_folder import find_corpus_folder
from featcache.errors import ManifestError, ProtocolError, unknown_name
from featcache.manifest import Manifest
from featcache.protocols import PROTOCOLS, Fold, default_protocol, make_folds
from featcache.threads import available_cores
from featcache.utterances import NO_TARGETS
from featcache.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class CheckedCorpus:
    """Findings on a corpus, and what they are based on.

    Attributes:
        name: Name of the corpus.
        files: The corpus as found on disk.
        facts: (num_utterances,) rows of ``featcache.checks.sound.FACTS``, in the order of the manifest.
        target: Label whose classes are counted; None if the corpus has no classes.
        protocol: Protocol whose folds are compared; None if it makes no folds.
        findings: All findings, in the order of ``KINDS``.
    """

    name: str
    files: CorpusFiles
    facts: npt.NDArray[Any]
    target: str | None
    protocol: str | None
    findings: list[Finding]

    @property
    def manifest(self) -> Manifest:
        """The utterances of the corpus."""
        return self.files.manifest


def check_corpus(
    workspace: Workspace,
    corpus: str | None,
    *,
    data: str | os.PathLike[str] | None = None,
    layout: str | None = None,
    target: str | None = None,
    protocol: str | None = None,
    workers: int | None = None,
) -> CheckedCorpus:
    """Read a corpus and look for problems in its files, sound, labels and speakers.

    Args:
        workspace: Folder of corpora, caches and runs.
        corpus: Name of the corpus in the workspace, or the path of its folder or table; by default the only one.
        data: Folder of the corpus, or its table.
        layout: Name or reference of the known corpus, if its files do not show it.
        target: Label whose classes are counted; by default the corpus's own target.
        protocol: Protocol whose folds are compared; by default that of a fit.
        workers: Number of threads; by default one per core.

    Raises:
        CorpusError: there is no corpus, or there are several and none was named.
        ManifestError: the table of the corpus is faulty, or it has no such target.
        ProtocolError: the named protocol is unknown. If it does not fit the corpus, this is a finding.
    """
    if corpus is not None and data is None and not _is_name(workspace, corpus) and Path(corpus).exists():
        corpus, data = None, corpus
    name, path = find_corpus_folder(workspace, corpus, None if data is None else Path(data))
    workspace.check_corpus(name)
    files = read_corpus(path, layout)
    manifest = files.manifest
    columns = class_columns(manifest, files.corpus)
    if target is not None and target not in columns:
        raise ManifestError(unknown_name("label with classes", target, columns))
    target = target or target_of(columns, files.corpus)
    found = list(label_findings(manifest, files.corpus, target))
    used, folds, why = _folds(files, target, protocol)
    if why:
        found.append(Finding(kind="no-folds", found=why))
    measured = measure(files.root, manifest, workers or available_cores())
    compared = [*columns, *(one for one in NO_TARGETS if one in manifest.label_columns)]
    found += file_findings(files, measured)
    found += sound_findings(manifest, measured.facts)
    found += identical_findings(manifest, measured.facts, compared, folds)
    return CheckedCorpus(
        name=name, files=files, facts=measured.facts, target=target, protocol=used, findings=in_order(found)
    )


def _is_name(workspace: Workspace, corpus: str) -> bool:
    return (
        os.sep not in corpus and "/" not in corpus and corpus not in (".", "..") and workspace.corpus(corpus).is_dir()
    )


def _folds(files: CorpusFiles, target: str | None, protocol: str | None) -> tuple[str | None, Sequence[Fold], str]:
    """Return the protocol, its folds, and the reason if there are none.

    Raises:
        ProtocolError: the protocol is named by the user and unknown.
    """
    if protocol is not None:
        PROTOCOLS.find(protocol)
    if target is None:
        return None, [], "no label with classes"
    try:
        used = protocol or default_protocol(files.manifest, files.corpus, target)
        return used, make_folds(used, files.manifest, target), ""
    except (ProtocolError, ManifestError) as error:
        return None, [], str(error)
