"""Corpus → ``check.html``, ``findings.csv`` and figures of ``featcache check``."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.checks.check_corpus import CheckedCorpus, check_corpus
from featcache.checks.findings import COLUMNS, KINDS, Finding, findings_csv
from featcache.corpora.published_counts import counts_in
from featcache.errors import StoreError, listed
from featcache.files.regular import read_regular, replace_file
from featcache.registry import naming
from featcache.report.audio_links import AudioLinks, audio_links
from featcache.report.embedded import script_data
from featcache.report.html import figures_for_page, render
from featcache.runs.file_names import METRICS
from featcache.settings.corpus_checks import CheckSettings
from featcache.settings.public import documented
from featcache.units import counted
from featcache.utterances import NO_TARGETS
from featcache.workspace import Workspace

CHECK, FINDINGS = "check.html", "findings.csv"
_FIGURES = ("classes", "durations", "levels", "classes-of-speakers")
FILES = (CHECK, FINDINGS, *(f"{name}.{suffix}" for name in _FIGURES for suffix in ("png", "svg", "pdf")))
"""Names of all files that a check may write."""
# Number of findings of one kind in the table of the page; findings.csv has all.
_MOST_SHOWN = 500
# Number of rows of other tables.
_MOST_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class WrittenCheck:
    """Files of a check.

    Attributes:
        page: Path of ``check.html``.
        table: Path of ``findings.csv``.
        checked: The corpus and its findings.
    """

    page: Path
    table: Path
    checked: CheckedCorpus


@documented("write_check", CheckSettings, expand=naming("layout", "protocol", "plugin"))
def write_check(
    corpus: str | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    layout: str | None = None,
    target: str | None = None,
    protocol: str | None = None,
    workers: int | None = None,
    out: str | os.PathLike[str] | None = None,
    plugin: str | Sequence[str] = (),
    home: str | os.PathLike[str] | None = None,
) -> WrittenCheck:
    """Look for problems in a corpus, and write a page with figures and a table of all findings.

    Args:
        corpus: Name of the corpus, or the path of its folder or table; by default the only one.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns: the findings and the paths of the page and the table.

    Raises:
        FeatcacheError: no corpus, or several; a faulty table of the corpus; an unknown layout, target or protocol; the
            files cannot be written.
    """
    workspace = Workspace.at(home)
    if out is not None:
        _check_is_free(Path(out))
    checked = check_corpus(
        workspace, corpus, data=data, layout=layout, target=target, protocol=protocol, workers=workers
    )
    folder = workspace.home / "checks" / checked.name if out is None else Path(out)
    page, table = folder / CHECK, folder / FINDINGS
    replace_file(table, findings_csv(checked.findings))
    replace_file(page, _page(checked, folder).encode())
    return WrittenCheck(page=page, table=table, checked=checked)


def _check_is_free(folder: Path) -> None:
    """Check that a folder has no files of others that a check would replace; those of an earlier check it may replace.

    Raises:
        StoreError: it is a run, or has such files.
    """
    if (folder / METRICS).exists():
        raise StoreError(f"{folder} is a run, not a folder of checks; choose another folder with --out")
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there and not _is_written(folder / FINDINGS):
        found = f"{folder} contains {listed(there)}, but no {FINDINGS} of an earlier check"
        raise StoreError(f"{found}; choose another folder with --out")


def _is_written(table: Path) -> bool:
    """Check whether a table is one of an earlier check, which writes it before its other files."""
    start = ",".join(COLUMNS[:2]).encode()
    try:
        return read_regular(table, len(start)) == start
    except OSError:
        return False


def kind_rows(findings: Sequence[Finding]) -> list[tuple[str, int, bool]]:
    """Return kind, number of findings and whether they need attention, in the order of the page."""
    numbers = Counter(one.kind for one in findings)
    return [(kind, numbers[kind], about.attention) for kind, about in KINDS.items() if numbers[kind]]


def _page(checked: CheckedCorpus, folder: Path) -> str:
    from featcache.report.check_figures import check_figures, class_by_speaker
    from featcache.report.figures import save

    figures = check_figures(checked)
    for name, figure, _ in figures:
        save(figure, folder / name)
    facts = checked.facts[checked.facts["measured"]]
    classes, speakers, counts = class_by_speaker(checked)
    shown = _shown(checked.findings)
    rows = kind_rows(checked.findings)
    return render(
        "check.html.jinja",
        scripts=("tables.js", "findings.js") if shown else (),
        title=f"Check of {checked.name}",
        corpus=checked.files.corpus.title,
        content=_content(checked, float(facts["duration"].sum())),
        attention=sum(number for _, number, attention in rows if attention),
        kinds=[(KINDS[kind], number) for kind, number, _ in rows],
        images=figures_for_page(folder, [(name, caption) for name, _, caption in figures]),
        tables=_tables(checked),
        classes=classes,
        by_speaker=list(zip(speakers, counts.tolist(), strict=True))[:_MOST_ROWS] if classes else [],
        left_out=max(0, len(speakers) - _MOST_ROWS),
        target=checked.target,
        cut=len(checked.findings) - len(shown),
        findings=script_data(_finding_table(shown, _links(checked, shown, folder))) if shown else None,
    )


def _content(checked: CheckedCorpus, seconds: float) -> str:
    """Return the size of the corpus as text."""
    manifest = checked.manifest
    parts = [counted(len(manifest), "utterance")]
    if manifest.speaker_ids:
        parts.append(counted(len(manifest.speaker_ids), "speaker"))
    parts.append(f"{seconds / 3600:.1f} h of audio" if seconds >= 3600 else f"{seconds / 60:.1f} min of audio")
    return ", ".join(parts)


def _shown(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings in the table of the page: the first of each kind."""
    numbers: Counter[str] = Counter()
    found = []
    for one in findings:
        numbers[one.kind] += 1
        if numbers[one.kind] <= _MOST_SHOWN:
            found.append(one)
    return found


def _links(checked: CheckedCorpus, shown: Sequence[Finding], folder: Path) -> AudioLinks | None:
    known = set(checked.manifest.utterance_ids)
    ids = [one.utterance_id for one in shown if one.utterance_id in known]
    return audio_links(checked.manifest.subset(ids), checked.files.root, folder) if ids else None


def _finding_table(shown: Sequence[Finding], audio: AudioLinks | None) -> dict[str, Any]:
    """Return the columns and rows of the findings, for the script of the page."""
    titles = [KINDS[kind].title for kind, _, _ in kind_rows(shown)]
    columns: list[dict[str, Any]] = [
        {"title": "Utterance or file", "kind": "text"},
        {"title": "Finding", "kind": "choice", "levels": titles},
        {"title": "Found", "kind": "text"},
        {"title": "Speaker", "kind": "text"},
    ]
    cells: list[list[Any]] = [
        [one.utterance_id or one.path or "–" for one in shown],
        [titles.index(KINDS[one.kind].title) for one in shown],
        [one.found for one in shown],
        [one.speaker_id for one in shown],
    ]
    if audio is not None and audio.links:
        columns.append({"title": "Audio", "kind": "audio", "base": audio.base, "unplayable": audio.unplayable})
        cells.append([audio.links.get(one.utterance_id, 0) for one in shown])
    return {"columns": columns, "rows": [list(row) for row in zip(*cells, strict=True)]}


def _tables(checked: CheckedCorpus) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, head and rows of the small tables: numbers by label, part, sampling rate and channels."""
    from featcache.checks.label_checks import class_columns

    corpus, manifest = checked.files.corpus, checked.manifest
    found: list[tuple[str, list[str], list[list[str]]]] = []
    parts = [column for column in NO_TARGETS if column in manifest.label_columns]
    for column in (*class_columns(manifest, corpus), *parts):
        numbers = Counter(utterance.labels.get(column, "") for utterance in manifest)
        published = counts_in(corpus, manifest) if column == corpus.target else {}
        head = ["Value", "Utterances", *(["Published"] if published else [])]
        known = [*(one for one in published if one not in numbers), *sorted(numbers)]
        rows = [
            [one or "(none)", str(numbers[one]), *([str(published.get(one, "–"))] if published else [])]
            for one in known[:_MOST_ROWS]
        ]
        found.append((column, head, rows))
    facts = checked.facts[checked.facts["measured"]]
    formats = Counter(zip(facts["sampling_rate"].tolist(), facts["channels"].tolist(), strict=True))
    rows = [[f"{rate} Hz", str(channels), str(number)] for (rate, channels), number in sorted(formats.items())]
    found.append(("Format", ["Sampling rate", "Channels", "Utterances"], rows[:_MOST_ROWS]))
    return found
