"""Record, runs and figures of the output folder → docs/results.md and docs/results/*.png."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from featcache.units import counted
from tests.results import numbers
from tests.results.commands import ACOUSTIC, HEADS, NORMS, Case, Command, figure, run_name
from tests.results.record import Record, copy_figure

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = "results"  # folder of the figures beside the page

CORPORA = {
    "emodb-2s": (
        "EmoDB",
        "Berlin Database of Emotional Speech (Burkhardt et al. 2005): 535 utterances, 7 emotions, 10 speakers. This "
        "copy is cut or padded to 2.0 s. Each speaker is tested once (protocol `loso`). Chance is 14.3 %.",
    ),
    "ravdess-4actors": (
        "RAVDESS, four actors",
        "RAVDESS speech (Livingstone & Russo 2018): 240 utterances of 4 of the 24 actors, 8 emotions, two sentences. "
        "Each actor is tested once (protocol `loso`). Chance is 12.5 %. Four speakers are too few for a test over "
        "speakers: the table has intervals, but no p values.",
    ),
}
MODELS = {
    "whisper-base": "the encoder of OpenAI's multilingual Whisper base, 6 blocks, hidden size 512",
    "whisper-tiny.en": "the encoder of OpenAI's English Whisper tiny, 4 blocks, hidden size 384",
}
HEAD = """# Results on real speech

This page shows what trained models give, and what the same architecture gives without training (`--weights random`).
All numbers are from commands that this page lists.

**The scores are not comparable with published ones.** EmoDB is cut to 2.0 s, and RAVDESS has 4 of its 24 actors.

Scores are unweighted average recall (UAR) in percent. ± is the standard deviation over seeds; a score without ± has
one seed (`svm` and `logistic` do not depend on the seed). Intervals are 95 %, over speakers and seeds; see
[Intervals and seeds](explanation/statistics.md). The difference is trained minus untrained, with the interval and the
p value of `featcache compare`, without a correction for the number of rows. The controls have one set of random weights
each. `svm` and `logistic` take the last layer, the other heads take all layers. The learning rate of these is 0.001:
with the default of 0.0001, most trainings on so few utterances still improve after 100 epochs. Fits with speaker
normalisation use the features of the test speakers, but not their labels."""


def write_page(
    docs: Path, out: Path, cases: Sequence[Case], commands: Sequence[Command], record: Record, *, note: str = ""
) -> None:
    """Write the page and copy its figures.

    Args:
        docs: Folder of the page.
        out: Folder in which the commands were run.
        cases: Corpora and models.
        commands: All commands, run or not.
        record: Seconds, dates and conditions of the commands.
        note: Conditions that affect the times.
    """
    parts = [HEAD, _machine(commands, record, note), _extraction(out, cases, commands, record)]
    for corpus in dict.fromkeys(case.corpus for case in cases):
        title, text = CORPORA[corpus]
        parts.append(f"## {title}\n\n{_wrapped(text)}")
        of_corpus = [case for case in cases if case.corpus == corpus]
        for case in of_corpus:
            parts += _case(docs, out, case, commands, record)
        parts += _acoustic(out, corpus, commands, record)
        parts += _transcripts(out, of_corpus, commands, record)
    docs.mkdir(exist_ok=True)
    text = "\n\n".join(part for part in parts if part)
    (docs / "results.md").write_text(f"{text}\n", encoding="utf-8")


def _machine(commands: Sequence[Command], record: Record, note: str) -> str:
    """Return the section on machine and versions; one line for each different set of conditions."""
    entries = [entry for entry in map(record.succeeded, commands) if entry]
    conditions = dict.fromkeys(entry["conditions"] for entry in entries)
    dates = sorted({entry["date"] for entry in entries})
    lines = [f"- {one}" for one in conditions]
    if dates:
        lines.append(f"- run on {dates[0]}" if len(dates) == 1 else f"- run from {dates[0]} to {dates[-1]}")
    count = f"{len(entries)} of {len(commands)} commands were run. The others appear as *{numbers.NOT_RUN}*."
    again = (
        "`make results CORPORA=FOLDER MODELS=FOLDER` runs all commands again and writes this page. `CORPORA` contains "
        "`emodb-2s` and `ravdess-4actors`, `MODELS` contains `whisper-base` and `whisper-tiny.en`. The seconds are "
        f"wall-clock time of the whole command.{f' {note}' if note else ''}"
    )
    return "\n\n".join(["## Machine and versions", "\n".join(lines), count, _wrapped(again)])


def _extraction(out: Path, cases: Sequence[Case], commands: Sequence[Command], record: Record) -> str:
    rows, shown = [], []
    for case in cases:
        for store in case.stores:
            [command] = [
                one
                for one in commands
                if one.words[0] == "extract" and one.words[-1] == store and one.corpus == case.corpus
            ]
            entry = record.succeeded(command)
            done = [f"{entry['seconds']:.0f}", numbers.size_of(out, case, store)] if entry else [numbers.NOT_RUN, ""]
            rows.append([CORPORA[case.corpus][0], store, *done])
            shown.append(command)
    models = "; ".join(f"`{name}` is {text}" for name, text in MODELS.items() if name in {c.model for c in cases})
    text = f"{models}. Stores that end in `-random` have random weights. Layers are stored in float16."
    return _joined(
        ["## Extraction", _wrapped(text), _table(["Corpus", "Store", "Seconds", "Size"], rows), _listing(shown, record)]
    )


def _case(docs: Path, out: Path, case: Case, commands: Sequence[Command], record: Record) -> Iterator[str]:
    yield f"### {CORPORA[case.corpus][0]}, {case.model}"
    rows = []
    for head in HEADS:
        for norm in NORMS:
            names = [run_name(store, head, norm) for store in case.stores]
            runs = [numbers.finished(out, case.corpus, name) for name in names]
            seconds = [numbers.seconds_of(record, commands, name, case.corpus) for name in names]
            label = "fusion with eGeMAPS" if head == "fusion" else head
            scores = [cell for run in runs for cell in numbers.score_cells(run)]
            took = " / ".join(one or "-" for one in seconds) if any(seconds) else ""
            rows.append([label, norm, *scores, *numbers.difference_cells(*runs), took])
    columns = ["Head", "Norm", "Trained", "95 % CI", "Untrained", "95 % CI", "Difference", "95 % CI", "p", "Seconds"]
    yield _table(columns, rows)
    stores = [name for store in case.stores for name in (store, f"{store},egemaps")]
    yield _listing([one for one in _of(commands, case.corpus, "fit") if _after(one, "--features") in stores], record)
    yield _compared(case)
    yield from _layers(docs, out, case, commands, record)


def _compared(case: Case) -> str:
    names = [f"{case.corpus}/{run_name(store, 'HEAD', 'NORM')}" for store in case.stores]
    return f"The differences of a row: `featcache compare {' '.join(names)}`, with its head and normalisation."


def _layers(docs: Path, out: Path, case: Case, commands: Sequence[Command], record: Record) -> Iterator[str]:
    """Yield the figures on layers: what training gave, learned weights, probes, and relevance of each class."""
    here = f"{case.corpus}, {case.model}"
    folder = out / "data" / "runs" / case.corpus / f"trained-or-not_{case.model}"
    own = out / f"{figure('trained-or-not', case)}.png"
    if (folder / "layers.png").is_file():
        own.write_bytes((folder / "layers.png").read_bytes())
    probes = numbers.probe_rows(out, case, figure("probe", case))
    found = [
        ("run", own, f"UAR of each layer, trained and untrained; {here}"),
        ("layers", out / f"{figure('weights', case)}.png", f"Layer weights of dense, trained and untrained; {here}"),
        ("probe", out / f"{figure('probe', case)}.png", f"Linear probes of each layer, trained and untrained; {here}"),
        *(
            (
                "relevance",
                out / f"{figure('relevance', case)}_{store}.png",
                f"Layer weights and probes; {here}, {store}",
            )
            for store in case.stores
        ),
    ]
    for kind, path, alternative in found:
        name = copy_figure(path, docs / FIGURES)
        if name:
            yield f"![{alternative}]({FIGURES}/{name})"
        if kind == "run" and (rows := numbers.contrast_rows(folder)):
            yield _table(["Layer", "Trained", "95 % CI", "Untrained", "95 % CI", "Difference", "95 % CI", "p"], rows)
            yield _wrapped(
                "Each layer: a linear support vector machine on the means of utterances. All layers: `dense`, another "
                "head. p values have Holm's correction for the rows of this table. In the figure, the shaded area is "
                "what training gave."
            )
        if kind == "probe" and probes:
            yield _table(["Layer", "Trained", "Untrained"], probes)
            yield "Linear probes of utterance means; ± is the standard deviation over folds."
    kinds = ("run", "layers", "probe", "relevance")
    own_commands = [
        one for one in commands if one.corpus == case.corpus and one.words[0] in kinds and _names(one, case)
    ]
    yield _listing(own_commands, record)


def _names(command: Command, case: Case) -> bool:
    """Return whether a command names the stores, runs or model of a case."""
    words = {word.removeprefix(f"{case.corpus}/").removeprefix("models/") for word in command.words}
    return bool(words & {case.model, run_name(case.model, "dense", "speaker")})


def _acoustic(out: Path, corpus: str, commands: Sequence[Command], record: Record) -> Iterator[str]:
    title = CORPORA[corpus][0]
    rows = []
    for features, head in ACOUSTIC:
        for norm in NORMS:
            name = run_name(features, head, norm)
            run = numbers.finished(out, corpus, name)
            seconds = numbers.seconds_of(record, commands, name, corpus)
            rows.append([features, head, norm, *numbers.score_cells(run), seconds])
    yield f"### {title}, acoustic baseline"
    yield _table(["Features", "Head", "Norm", "UAR", "95 % CI", "Seconds"], rows)
    names = {features for features, _ in ACOUSTIC}
    shown = [one for one in _of(commands, corpus, "fit") if _after(one, "--features") in names]
    extracted = [one for one in _of(commands, corpus, "extract") if _after(one, "--model") in names]
    yield _listing([*extracted, *shown], record)


def _transcripts(out: Path, cases: Sequence[Case], commands: Sequence[Command], record: Record) -> Iterator[str]:
    shown = _of(commands, cases[0].corpus, "transcribe") if cases else []
    if not shown:
        return
    rows = []
    for case in cases:
        found = numbers.word_errors(out, case)
        counts = ("num_compared", "num_words", "substitutions", "deletions", "insertions")
        cells = [f"{found['percent']:.1f}", *(str(found[name]) for name in counts)] if found else [numbers.NOT_RUN]
        rows.append([case.model, *cells, *[""] * (len(counts) + 1 - len(cells))])
    yield f"### {CORPORA[cases[0].corpus][0]}, ASR transcripts"
    yield _wrapped(
        "Word error rates against the two sentences of the corpus: *Kids are talking by the door* and *Dogs are "
        "sitting by the door*."
    )
    yield _table(["Model", "WER (%)", "Utterances", "Words", "Substituted", "Deleted", "Inserted"], rows)
    yield _listing(shown, record)


def _of(commands: Sequence[Command], corpus: str, name: str) -> list[Command]:
    return [one for one in commands if one.corpus == corpus and one.words[0] == name]


def _after(command: Command, option: str) -> str:
    """Return the value of an option in a command; an empty text if it is not given."""
    words = command.words
    return words[words.index(option) + 1] if option in words else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(columns), ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _listing(commands: Sequence[Command], record: Record) -> str:
    """Return a block with commands and their seconds."""
    if not commands:
        return ""
    lines = "\n".join(f"{command}  # {_told(command, record)}" for command in commands)
    return (
        f'<details markdown="1"><summary>{counted(len(commands), "command")}, with seconds</summary>\n\n'
        f"```text\n{lines}\n```\n\n</details>"
    )


def _told(command: Command, record: Record) -> str:
    entry = record.entries.get(str(command))
    if entry is None:
        return numbers.NOT_RUN
    if entry["exit_code"] != 0:
        return f"{numbers.NOT_RUN}: " + ("interrupted" if entry["exit_code"] is None else "failed")
    return f"{entry['seconds']:.0f} s"


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
