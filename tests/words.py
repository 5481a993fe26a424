"""Synthetic speech in which only the words carry valence and only the voice carries arousal.

Dominance is the mean of both, so that neither is sufficient for it. Labels range from 1 to 7, as in MSP-Podcast.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

from featcache.manifest import Manifest, Utterance

SAMPLING_RATE = 16_000
SECONDS = 0.5
NUM_WORDS = 8
GOOD = ("wonderful", "happy", "love", "great", "excellent", "beautiful", "delight", "best")
BAD = ("terrible", "sad", "hate", "awful", "horrible", "ugly", "pain", "worst")
PARTITIONS = ("Train", "Development", "Test1", "Test2")
SPLITS = dict(zip(PARTITIONS, ("train", "validation", "test", "test"), strict=True))
# (valence is above the middle, arousal is above the middle) → class
CLASSES = {(True, True): "H", (False, True): "A", (False, False): "S", (True, False): "N"}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Speaking turn: speaker, partition, labels, words and sound."""

    name: str
    speaker: str
    partition: str
    valence: float
    arousal: float
    transcript: str
    samples: np.ndarray

    @property
    def dominance(self) -> float:
        return (self.valence + self.arousal) / 2

    @property
    def code(self) -> str:
        return CLASSES[self.valence > 4, self.arousal > 4]


def turns(speech_like, num_speakers: int, num_utterances: int) -> Iterator[Turn]:
    """Yield ``num_utterances`` turns of each speaker.

    The last three speakers belong to the validation part and the two test parts. A turn stays the same in a larger
    corpus.
    """
    for speaker in range(num_speakers):
        own_pitch = 100 + 10 * (speaker % 10)
        for number in range(num_utterances):
            rng = np.random.default_rng((speaker, number))
            valence, arousal = rng.uniform(1, 7, 2).round(6)
            num_good = round((valence - 1) / 6 * NUM_WORDS)
            words = [*rng.choice(GOOD, num_good), *rng.choice(BAD, NUM_WORDS - num_good)]
            # Pitch rises by an octave and level by 12 dB from the calmest to the most excited turn.
            pitch, gain = own_pitch * 2 ** ((arousal - 1) / 6), 10 ** ((arousal - 7) / 10)
            samples = speech_like(int(SAMPLING_RATE * SECONDS), pitch=pitch, seed=int(rng.integers(1 << 30)))
            yield Turn(
                name=f"MSP-PODCAST_{speaker + 1:04d}_{number + 1:04d}",
                speaker=str(speaker + 1),
                partition=PARTITIONS[max(0, speaker - num_speakers + 4)],
                valence=valence,
                arousal=arousal,
                transcript=" ".join(rng.permutation(words)),
                samples=gain * samples,
            )


def make_corpus(folder, speech_like, *, num_speakers: int = 6, num_utterances: int = 8) -> Manifest:
    """Write audio files, and a manifest.csv with ``arousal``, ``valence``, ``dominance``, ``split`` and transcripts."""
    utterances = []
    for turn in turns(speech_like, num_speakers, num_utterances):
        _write_sound(folder / f"{turn.name}.wav", turn)
        utterances.append(
            Utterance(
                utterance_id=turn.name,
                path=f"{turn.name}.wav",
                speaker_id=turn.speaker,
                transcript=turn.transcript,
                labels={
                    **{name: str(getattr(turn, name)) for name in ("arousal", "valence", "dominance")},
                    "split": SPLITS[turn.partition],
                },
            )
        )
    manifest = Manifest(utterances)
    manifest.write(folder / "manifest.csv")
    return manifest


def make_msp_podcast(folder, speech_like, *, num_speakers: int = 6, num_utterances: int = 8) -> None:
    """Write the same turns with the folders, names and columns of MSP-Podcast."""
    (folder / "Labels").mkdir(parents=True)
    (folder / "Transcripts").mkdir()
    with open(folder / "Labels" / "labels_consensus.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"])
        for turn in turns(speech_like, num_speakers, num_utterances):
            _write_sound(folder / "Audios" / f"{turn.name}.wav", turn)
            (folder / "Transcripts" / f"{turn.name}.txt").write_text(turn.transcript, encoding="utf-8")
            dimensions = (turn.arousal, turn.valence, turn.dominance)
            table.writerow([f"{turn.name}.wav", turn.code, *dimensions, turn.speaker, "Unknown", turn.partition])


def _write_sound(path, turn: Turn) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, turn.samples, SAMPLING_RATE)
