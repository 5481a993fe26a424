"""EMOVO file names → utterances."""

import re
from pathlib import PurePosixPath

from featcache.corpora.base import NamedCorpus, named
from featcache.manifest import Utterance

# The codes abbreviate disgusto, gioia, neutro, paura, rabbia, sorpresa and tristezza.
EMOTIONS = {
    "dis": "disgust",
    "gio": "joy",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}
# The letters abbreviate breve, lunga, nonsense and domanda.
TRANSCRIPTS = {
    "b1": "Gli operai si alzano presto.",
    "b2": "I vigili sono muniti di pistola.",
    "b3": "La cascata fa molto rumore.",
    "l1": "L'autunno prossimo Tony partirà per la Spagna: nella prima metà di ottobre.",
    "l2": "Ora prendo la felpa di là ed esco per fare una passeggiata.",
    "l3": "Un attimo dopo s'è incamminato... ed è inciampato.",
    "l4": "Vorrei il numero telefonico del Signor Piatti.",
    "n1": "La casa forte vuole col pane.",
    "n2": "La forza trova il passo e l'aglio rosso.",
    "n3": "Il gatto sta scorrendo nella pera.",
    "n4": "Insalata pastasciutta coscia d'agnello limoncello.",
    "n5": "Uno quarantatré dieci mille cinquantasette venti.",
    "d1": "Sabato sera cosa farà?",
    "d2": "Porti con te quella cosa?",
}
GENDERS = {"f": "female", "m": "male"}


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    emotion, speaker, sentence = match.groups()
    return Utterance(
        utterance_id=PurePosixPath(path).stem,
        path=path,
        speaker_id=speaker,
        transcript=TRANSCRIPTS[sentence],
        labels={"emotion": EMOTIONS[emotion], "sentence": sentence, "gender": GENDERS[speaker[0]]},
    )


EMOVO = NamedCorpus(
    name="emovo",
    title="EMOVO",
    description="6 Italian actors speak 14 sentences in 7 emotions (Costantini et al. 2014).",
    license="free for research",
    source="http://voice.fub.it/activities/corpora/emovo/index.html",
    classes=tuple(EMOTIONS.values()),
    published_counts=dict.fromkeys(EMOTIONS.values(), 84),
    example="dis-f1-b1.wav",
    pattern=named(r"([a-z]{3})-([fm][123])-([blnd]\d)"),
    utterance=_utterance,
)
