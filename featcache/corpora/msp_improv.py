"""MSP-IMPROV file names and its label file → utterances."""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from featcache.corpora.base import NamedCorpus, named
from featcache.corpora.folder_contents import label_file
from featcache.errors import CorpusError, listed
from featcache.files.spreadsheets import read_text
from featcache.manifest import Utterance

EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}
NO_CLASS = {"O": "other", "X": "no agreement"}
SCENARIOS = {"P": "natural", "R": "target read", "S": "other improvised", "T": "target improvised"}
GENDERS = {"F": "female", "M": "male"}
DIMENSIONS = {"A": "arousal", "V": "valence", "D": "dominance", "N": "naturalness"}
# The corpus spells the name without the second "a".
LABEL_FILES = ("Evalution.txt", "Evaluation.txt")


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    sentence, intended, actor, session, scenario, talker = match.groups()
    return Utterance(
        utterance_id=PurePosixPath(path).stem,
        path=path,
        # In …-F01-P-MF02, F01 is the actor of the scene's target sentence; the M of MF02 is the actor who talks.
        speaker_id=f"{talker}{session}",
        labels={
            "emotion": "",
            "session": str(int(session)),
            "scenario": SCENARIOS[scenario],
            "target_actor": f"{actor}{session}",
            "target_sentence": sentence,
            "intended_emotion": EMOTIONS[intended],
            "gender": GENDERS[talker],
        },
    )


def _labelled(folder: Path, utterances: list[Utterance]) -> tuple[list[Utterance], list[str]]:
    table = label_file(folder, *LABEL_FILES)
    if table is None:
        raise CorpusError(f"{folder}: {LABEL_FILES[0]} with the labels of MSP-IMPROV is missing; add it")
    evaluations = _evaluations(table)
    unlabelled = [u.utterance_id for u in utterances if u.utterance_id not in evaluations]
    if unlabelled:
        raise CorpusError(f"{table} has no line for {listed(unlabelled)}; check that it is complete")
    labelled = [replace(u, labels=u.labels | evaluations[u.utterance_id]) for u in utterances]
    found = {utterance.utterance_id for utterance in utterances}
    return labelled, [utterance_id for utterance_id in evaluations if utterance_id not in found]


def _evaluations(table: Path) -> dict[str, dict[str, str]]:
    """Read utterance id → labels from lines like ``UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.8; V:3.2; D:2.8; N:3.4;``.

    The lines of single evaluators, which follow each such line, are skipped.
    """
    evaluations = {}
    for line in read_text(table, lenient=True).splitlines():
        if not line.startswith("UTD-IMPROV-"):
            continue
        video, code, *values = (field.strip() for field in line.split(";"))
        if code not in EMOTIONS | NO_CLASS:
            known = ", ".join(EMOTIONS | NO_CLASS)
            raise CorpusError(f"{table}: {video} has the label {code!r}, expected {known}; fetch the file again")
        means = dict(value.split(":", 1) for value in values if ":" in value)
        evaluations["MSP" + PurePosixPath(video).stem[3:]] = {
            "emotion": EMOTIONS.get(code, ""),
            **{name: _number(means.get(letter, "")) for letter, name in DIMENSIONS.items()},
        }
    return evaluations


def _number(text: str) -> str:
    return "" if text.strip().lower() == "nan" else text.strip()


MSP_IMPROV = NamedCorpus(
    name="msp-improv",
    title="MSP-IMPROV",
    description="12 American actors in 6 sessions of two: target sentences, improvised and read, the improvisations "
    "around them, and natural talk in between (Busso et al. 2017). 7798 utterances have one of 4 emotions, 640 more "
    "another one or none. The speaker is the actor who talks, according to the file name, not the actor of the target "
    "sentence.",
    license="academic licence on request",
    source="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html (Audio and Evalution.txt)",
    classes=tuple(EMOTIONS.values()),
    published_counts={"anger": 792, "happiness": 2644, "neutral": 3477, "sadness": 885},
    protocols=("msp-improv-6fold",),
    dimensions=dict.fromkeys(DIMENSIONS.values(), (1.0, 5.0)),
    dialogue="session",
    example="MSP-IMPROV-S01A-F01-P-FM01.wav",
    pattern=named(r"MSP-IMPROV-S(\d\d)([A-Z])-([FM])(0[1-6])-([A-Z])-([FM])[FM]\d+"),
    utterance=_utterance,
    complete=_labelled,
)
