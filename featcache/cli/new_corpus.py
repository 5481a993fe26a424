"""Folder of audio → draft of a description, and what it reads."""

import re
from collections import Counter
from pathlib import Path

from featcache.cli.columns import print_fitting
from featcache.corpora import CORPORA, read_corpus
from featcache.corpora.described import described
from featcache.corpora.description import parse_description
from featcache.corpora.drafts import draft_description
from featcache.corpora.registered import descriptions_folder
from featcache.errors import CorpusError, listed
from featcache.files.disk import writing
from featcache.files.regular import replace_file, resolved
from featcache.files.yaml_text import load
from featcache.terminal.console import print_line, print_pairs
from featcache.units import counted

MOST_SHOWN = 6


def print_new_corpus(folder: Path, name: str | None, out: Path | None) -> None:
    """Write the draft of a description, and print the parts of the names and the labels that it reads.

    Args:
        folder: Folder of the corpus.
        name: Name of the corpus; by default that of the folder.
        out: File to write; by default in the folder of descriptions of the workspace.

    Raises:
        CorpusError: the folder has no audio or its names no common form, the name is not valid or known, or the file
            exists.
    """
    called = name or re.sub(r"[^a-z0-9._-]+", "-", resolved(folder).name.lower()).strip("-._") or "corpus"
    path = out or descriptions_folder() / f"{called}.yaml"
    if path.exists():
        raise CorpusError(f"{path} exists; remove it, or write another file with --out")
    if out is None and called in CORPORA:
        raise CorpusError(f"a corpus {called!r} is known already; choose another name with --name")
    draft = draft_description(folder, called)
    corpus = described(parse_description(load(draft.text), f"the draft for {folder}"))
    files = read_corpus(folder, corpus)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, draft.text.encode())
    print_fitting(
        {
            "Part": [part.name for part in draft.parts],
            "Probably": [part.meaning or "a label" for part in draft.parts],
            "Values": [str(len(part.values)) for part in draft.parts],
            "Examples": [", ".join(part.values[:MOST_SHOWN]) for part in draft.parts],
        }
    )
    print_line()
    speakers = Counter(u.speaker_id for u in files.manifest if u.speaker_id)
    emotions = Counter(u.labels[corpus.target] for u in files.manifest if u.labels[corpus.target])
    print_pairs(
        {
            "utterances": f"{len(files.manifest)} of {counted(draft.num_files, 'audio file')}",
            "not read": listed(files.ignored) or "-",
            "speakers": f"{len(speakers)}: {_counts(speakers)}" if speakers else "none found",
            corpus.target: _counts(emotions) or "none found",
        },
        title="Read with this draft",
    )
    print_line()
    print_line(f"wrote {path}; check it, complete the lines that say 'unknown', and show it with:")
    print_line(f"featcache corpora {called if out is None else path}")


def _counts(counts: Counter[str]) -> str:
    shown = [f"{name} {number}" for name, number in counts.most_common(MOST_SHOWN)]
    return ", ".join([*shown, *(["…"] if len(counts) > MOST_SHOWN else [])])
