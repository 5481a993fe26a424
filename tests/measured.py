"""Corpus → same audio with measured labels for regression: loudness, pitch and rate.

    python -m tests.measured path/to/emodb measured

writes ``measured/manifest.csv``: the mean loudness of each utterance, the mean pitch of its voiced frames (semitones
above 27.5 Hz) and its loudness peaks per second, all functionals of eGeMAPS. Predicting them from eGeMAPS LLD shows
that regression works, not how well emotion can be recognised.
"""

import sys
from pathlib import Path

from joblib import Parallel, delayed

from featcache import audio
from featcache.corpora import read_corpus
from featcache.extractors.egemaps import EgemapsExtractor
from featcache.manifest import Manifest, Utterance
from featcache.settings.extractor_configs import EgemapsConfig

MEASURES = {
    "loudness": "loudness_sma3_amean",
    "pitch": "F0semitoneFrom27.5Hz_sma3nz_amean",
    "rate": "loudnessPeaksPerSec",
}


def write_measured(corpus: Path, folder: Path) -> Manifest:
    """Measure every utterance of a corpus and write a corpus with links to its audio."""
    files = read_corpus(corpus)
    folder.mkdir(parents=True)
    (folder / "audio").symlink_to(files.root.absolute())
    extractor = EgemapsExtractor(EgemapsConfig(level="functionals"))
    names = extractor.description.provenance["feature_names"]
    columns = {label: names.index(name) for label, name in MEASURES.items()}

    def measure(utterance: Utterance) -> Utterance:
        recording = audio.read(files.root, utterance)
        description = extractor.description
        signal = recording.signal(channel=description.channel, sampling_rate=description.sampling_rate)
        [values] = extractor.extract([signal])
        return Utterance(
            utterance_id=utterance.utterance_id,
            path=f"audio/{utterance.path}",
            speaker_id=utterance.speaker_id,
            labels={label: f"{values[0, 0, column]:.6g}" for label, column in columns.items()},
        )

    measured = Manifest(Parallel(n_jobs=-1, backend="threading")(map(delayed(measure), files.manifest)))
    measured.write(folder / "manifest.csv")
    return measured


if __name__ == "__main__":
    write_measured(Path(sys.argv[1]), Path(sys.argv[2]))
