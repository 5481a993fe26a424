"""Corpora × models → the commands whose results the page shows, the most valuable ones first."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CASES = (("ravdess-4actors", "whisper-tiny.en"), ("emodb-2s", "whisper-base"), ("ravdess-4actors", "whisper-base"))
FUNCTIONALS = "egemaps-functionals"
# The heads, in the order in which they are fitted; the first ones take seconds, the last ones most of the time.
HEADS = ("linear", "svm", "logistic", "ffn", "dense", "fusion", "lstm")
NORMS = ("speaker", "global")
SOLVED = ("svm", "logistic")  # heads without a learning rate, which take one layer: the last one
CHEAP = ("linear", *SOLVED)
# The corpora are small: with the default of 1e-4, most trainings still improve after 100 epochs. 0.001 is in the paper.
LEARNING_RATE = ("--learning-rate", "0.001")
ACOUSTIC = ((FUNCTIONALS, "svm"), (FUNCTIONALS, "logistic"), ("egemaps", "svm"), ("egemaps", "dense"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A corpus and a model; the names of folders in ``corpora/`` and ``models/``."""

    corpus: str
    model: str

    @property
    def stores(self) -> tuple[str, str]:
        """Names of the stores with trained and with random weights."""
        return self.model, f"{self.model}-random"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of featcache.

    Attributes:
        words: Arguments of ``featcache``.
        corpus: Corpus of the command.
        rank: Position in the order of the work.
        run: Name of the run folder, for a fit.
    """

    words: tuple[str, ...]
    corpus: str
    rank: int
    run: str | None = None

    def __str__(self) -> str:
        return f"featcache {shlex.join(self.words)}"


def run_name(features: str, head: str, norm: str) -> str:
    """Return the name of a run folder."""
    return f"{features}-{head}-{norm}"


def figure(kind: str, case: Case) -> str:
    """Return the path of a figure in the output folder, without suffix."""
    return f"figures/{kind}-{case.corpus}-{case.model}"


def present(command: Command, out: Path) -> bool:
    """Return whether the corpus and the model of a command are on this machine."""
    return all((out / word).is_dir() for word in command.words if word.startswith(("corpora/", "models/")))


def ordered(cases: Sequence[Case], *, seeds: int, max_epochs: int) -> list[Command]:
    """Return all commands in the order of the work.

    Args:
        cases: Corpora and models.
        seeds: Number of seeds of the heads that take long; the cheap ones always have five.
        max_epochs: Maximum number of epochs of each fit.
    """
    epochs = ("--max-epochs", str(max_epochs)) if max_epochs != 100 else ()
    slow = (*epochs, *(("--seeds", str(seeds)) if seeds != 5 else ()))
    found = {str(one): one for case in cases for one in _commands(case, epochs, slow)}
    return sorted(found.values(), key=lambda one: one.rank)


def _commands(case: Case, cheap: tuple[str, ...], slow: tuple[str, ...]) -> Iterator[Command]:
    def command(rank: int, *words: str, run: str | None = None) -> Command:
        return Command(words=words, corpus=case.corpus, rank=rank, run=run)

    def fit(rank: int, features: str, store: str, head: str, norm: str) -> Command:
        layers = ("--layers", "last") if head in SOLVED and not store.startswith("egemaps") else ()
        run = run_name(store, head, norm)
        chosen = ("--corpus", case.corpus, "--features", features, *layers, "--head", head, "--norm", norm)
        chosen += () if head in SOLVED else LEARNING_RATE
        return command(rank, "fit", *chosen, *(cheap if head in CHEAP else slow), "--name", run, run=run)

    model, data, corpus = f"models/{case.model}", f"corpora/{case.corpus}", ("--corpus", case.corpus)
    for store, weights in zip(case.stores, ("pretrained", "random"), strict=True):
        yield command(0, "extract", "--model", model, "--data", data, "--weights", weights, "--name", store)
        for head in HEADS:
            for norm in NORMS:
                features = f"{store},egemaps" if head == "fusion" else store
                yield fit(_rank(head, norm), features, store, head, norm)
    yield command(0, "extract", "--model", FUNCTIONALS, "--data", data)
    for features, head in ACOUSTIC:
        for norm in NORMS:
            yield fit(_rank(head, norm), features, features, head, norm)
    yield command(2, "probe", *case.stores, *corpus, "--out", figure("probe", case))
    if case.corpus.startswith("ravdess"):  # the only corpus here with human transcripts
        language = () if case.model.endswith(".en") else ("--language", "en")
        yield command(2, "transcribe", "--model", model, "--data", data, *language)
    weighing = [f"{case.corpus}/{run_name(store, 'dense', 'speaker')}" for store in case.stores]
    yield command(_rank("dense", "speaker"), "layers", *weighing, "--out", figure("weights", case))
    relevance = ("--head", "linear", *LEARNING_RATE, "--seeds", "1", "--out", figure("relevance", case))
    yield command(10, "relevance", *case.stores, *corpus, *relevance)
    yield command(11, "run", "trained-or-not", "--model", model, "--data", data, *slow)


def _rank(head: str, norm: str) -> int:
    """Return the position of a fit: cheap heads first, then speaker normalisation, then global."""
    if head in CHEAP:
        return 1
    return 3 + HEADS.index(head) + (20 if norm == "global" else 0)
