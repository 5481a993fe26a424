"""IEMOCAP file names, evaluations and transcriptions → utterances."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from featcache.corpora.base import NamedCorpus, named
from featcache.corpora.folder_contents import files_in
from featcache.corpora.votes import shared_votes, vote_labels
from featcache.errors import CorpusError, ManifestError, listed
from featcache.files.spreadsheets import read_text
from featcache.manifest import Utterance

EMOTIONS = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excitement",
    "neu": "neutral",
    "sad": "sadness",
    "fru": "frustration",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
    "oth": "other",
    "xxx": "",  # no majority among the evaluators
}
EMOTION_4 = {
    "anger": "anger",
    "happiness": "happiness",
    "excitement": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
}
CLASSES = tuple(filter(None, EMOTIONS.values()))
FOUR_CLASSES = ("anger", "happiness", "neutral", "sadness")
EVALUATORS_WORDS = {"excited": "excitement", "neutral state": "neutral"}
GENDERS = {"F": "female", "M": "male"}
TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\S+)\t(\S+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]")
EVALUATOR = re.compile(r"C-E\d+:\t([^(]*)")  # C-F1 and C-M1 are the actors' ratings of themselves
TRANSCRIPTION = re.compile(r"(Ses\S+) \[[\d.]+-[\d.]+\]: (.*)")
WORD = re.compile(r"\s*\d+\s+\d+\s+-?\d+\s+(?!<s>|</s>|<sil>)\S")


@dataclass(kw_only=True)
class Evaluation:
    """Labels of one turn in a file of ``EmoEvaluation``.

    Attributes:
        emotion: Emotion that the majority of evaluators chose; empty without a majority.
        valence, arousal, dominance: Mean ratings, as text.
        evaluators: For each evaluator the emotions chosen.
    """

    emotion: str
    valence: str
    arousal: str
    dominance: str
    evaluators: list[set[str]] = field(default_factory=list)

    def labels(self) -> dict[str, str]:
        """Return the labels of the turn for the manifest."""
        agreeing = sum(self.emotion in named for named in self.evaluators)
        full = bool(self.evaluators) and all(named == {self.emotion} for named in self.evaluators)
        return {
            "emotion": self.emotion,
            "emotion_4": EMOTION_4.get(self.emotion, ""),
            "valence": self.valence,
            "arousal": self.arousal,
            "dominance": self.dominance,
            "agreement": f"{agreeing}/{len(self.evaluators)}" if self.emotion else "",
            "full_agreement": "yes" if full else "no",
        }

    def votes(self) -> dict[str, str]:
        """Return the votes of the evaluators for the manifest, for both labels."""
        of_four = [{EMOTION_4.get(name, name) for name in chosen} for chosen in self.evaluators]
        return {
            **vote_labels("emotion", CLASSES, shared_votes(self.evaluators)),
            **vote_labels("emotion_4", FOUR_CLASSES, shared_votes(of_four)),
        }


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    half, session, dialogue, talker = match.groups()
    return Utterance(
        utterance_id=PurePosixPath(path).stem,
        path=path,
        speaker_id=f"Ses0{session}{talker}",
        labels={
            "session": session,
            "dialogue_half": half,
            "improvised": "yes" if dialogue.startswith("impro") else "no",
            "gender": GENDERS[talker],
        },
    )


def _labelled(folder: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    sessions = sorted({_session_folder(utterance.path) for utterance in utterances})
    evaluations: dict[str, Evaluation] = {}
    transcripts: dict[str, str] = {}
    for session in sessions:
        evaluations |= _evaluations(folder / session / "dialog" / "EmoEvaluation")
        transcripts |= _transcripts(folder / session / "dialog" / "transcriptions")
    unlabelled = [u.path for u in utterances if u.utterance_id not in evaluations]
    if unlabelled:
        raise CorpusError(
            f"{folder}: no evaluation of {listed(unlabelled)}; keep IEMOCAP's folders, with "
            "Session1/dialog/EmoEvaluation/*.txt beside Session1/sentences/wav"
        )
    alignments = {session: folder / session / "sentences" / "ForcedAlignment" for session in sessions}
    alignments = {session: place for session, place in alignments.items() if place.is_dir()}
    labelled = [
        replace(
            u,
            transcript=transcripts.get(u.utterance_id, ""),
            labels={
                **evaluations[u.utterance_id].labels(),
                **u.labels,
                "aligned": _aligned(alignments, u.path),
                **evaluations[u.utterance_id].votes(),
            },
        )
        for u in utterances
    ]
    found = {utterance.utterance_id for utterance in utterances}
    return labelled, [utterance_id for utterance_id in evaluations if utterance_id not in found]


def _session_folder(path: str) -> str:
    """Return the session folder in a path: ``release/Session1/`` of ``release/Session1/sentences/wav/…``."""
    return path.rpartition("sentences/")[0]


def _evaluations(folder: Path) -> dict[str, Evaluation]:
    evaluations: dict[str, Evaluation] = {}
    for table, line in _lines(folder):
        turn = TURN.match(line)
        evaluator = EVALUATOR.match(line)
        if turn:
            utterance_id, code, valence, arousal, dominance = turn.groups()
            if code not in EMOTIONS:
                raise CorpusError(
                    f"{table}: {utterance_id} has the label {code!r}, expected {', '.join(EMOTIONS)}; "
                    "fetch the file again"
                )
            latest = Evaluation(emotion=EMOTIONS[code], valence=valence, arousal=arousal, dominance=dominance)
            evaluations[utterance_id] = latest
        elif evaluator and evaluations:
            words = {word.strip().lower() for word in evaluator[1].split(";")} - {""}
            latest.evaluators.append({EVALUATORS_WORDS.get(word, word) for word in words})
    return evaluations


def _transcripts(folder: Path) -> dict[str, str]:
    matches = (TRANSCRIPTION.match(line) for _, line in _lines(folder))
    return {match[1]: match[2].strip() for match in matches if match}


def _lines(folder: Path) -> Iterator[tuple[Path, str]]:
    for table in files_in(folder, ".txt"):
        for line in read_text(table, lenient=True).splitlines():
            yield table, line


def _aligned(alignments: Mapping[str, Path], path: str) -> str:
    """Return "yes" if the corpus's forced alignment of an utterance contains a word, else "no"; empty without any."""
    session = _session_folder(path)
    if session not in alignments:
        return ""
    dialogue, name = PurePosixPath(path).with_suffix(".wdseg").parts[-2:]
    try:
        text = read_text(alignments[session] / dialogue / name, lenient=True)
    except ManifestError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return "no"
        raise
    return "yes" if any(WORD.match(line) for line in text.splitlines()) else "no"


IEMOCAP = NamedCorpus(
    name="iemocap",
    title="IEMOCAP",
    description="10 American actors in 5 sessions of two, scripted and improvised (Busso et al. 2008). emotion_4 "
    "merges excitement into happiness: 5531 of 10039 utterances; emotion has all 10 classes, and is empty without a "
    "majority. speaker_id is the actor who talks; dialogue_half is the actor with the markers, which other work uses "
    "as the speaker.",
    license="academic licence on request",
    source="https://sail.usc.edu/iemocap (IEMOCAP_full_release: Session1 … Session5)",
    target="emotion_4",
    classes=FOUR_CLASSES,
    published_counts={"anger": 1103, "happiness": 1636, "neutral": 1708, "sadness": 1084},
    # The scale is 1 to 5 (Busso et al. 2008), but users report means up to 5.5, which must not be refused.
    dimensions=dict.fromkeys(("arousal", "valence", "dominance"), (0.5, 5.5)),
    protocols=("iemocap-loso-session", "iemocap-superb", "iemocap-issa"),
    dialogue="session",
    example="Ses01F_impro01_F000.wav",
    pattern=named(r"(Ses0([1-5])[FM])_(impro\d\d[a-z]?|script\d\d_\d[a-z]?)_([FM])\d{3}"),
    utterance=_utterance,
    complete=_labelled,
)
