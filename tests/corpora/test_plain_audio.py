"""Audio without labels, from its extraction to the refusal of a fit."""

import numpy as np
import pytest
import soundfile

import featcache
from featcache.cli.app import app
from featcache.corpora import read_corpus
from featcache.corpora.recorded import layout_of
from featcache.errors import CorpusError, ManifestError
from featcache.extraction.summary import next_step, summarise_report

NAMES = ("ann/1.wav", "ann/2.wav", "bob/1.wav")
TOLD = "{} no label, which 'featcache fit' needs and 'featcache predict' does not"


@pytest.fixture
def calls(tmp_path):
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "calls" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.1, 0.1, 4000), 16000)
    return tmp_path / "calls"


def test_a_folder_without_a_table_is_extracted_if_the_user_says_so(calls, tmp_path, capsys):
    with pytest.raises(CorpusError, match="column 'path', or read the audio without labels with --layout audio"):
        featcache.extract(model="spectrogram", data=calls)
    report = featcache.extract(model="spectrogram", data=calls, layout="audio")
    assert summarise_report(report).splitlines()[1] == TOLD.format("3 of 3 utterances have")
    assert next_step(report.cache, "spectrogram") is None
    assert layout_of(report.cache) == "audio"
    capsys.readouterr()
    app(["verify", str(report.cache / "spectrogram"), "--data", str(calls)], standalone_mode=False)
    assert "Tolerance" in capsys.readouterr().out  # utterances were recomputed from the same folder
    with pytest.raises(ManifestError, match="no utterance of calls has a label, which a fit needs; add a column such"):
        featcache.fit(head="linear", features="spectrogram")
    # A table that is written later has the same ids, therefore the features are kept.
    (calls / "manifest.csv").write_text("path,emotion\n" + "".join(f"{name},joy\n" for name in NAMES))
    again = featcache.extract(model="spectrogram", data=calls)
    assert (again.num_extracted, again.num_unlabelled) == (0, 0)


@pytest.mark.parametrize(
    ("columns", "row", "told"),
    [
        ("path", "{name}", "3 of 3 utterances have"),
        ("path,split,fold,speaker_id", "{name},train,1,ann", "3 of 3 utterances have"),
        ("path,emotion", "{name},", "3 of 3 utterances have"),
        ("path,emotion", "{name},{label}", "1 of 3 utterances have"),
    ],
)
def test_tables_without_labels_are_extracted(calls, columns, row, told):
    rows = [row.format(name=name, label="" if name == NAMES[1] else "joy") for name in NAMES]
    (calls / "manifest.csv").write_text("\n".join([columns, *rows]) + "\n")
    report = featcache.extract(model="spectrogram", data=calls)
    assert report.num_extracted == 3
    assert TOLD.format(told) in summarise_report(report)
    if told.startswith("3"):
        for options in ({}, {"target": "emotion"}):
            with pytest.raises(ManifestError, match="no utterance of calls has a label"):
                featcache.fit(head="linear", features="spectrogram", **options)


def test_a_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no audio files, expected \.wav, .*; check the folder"):
        read_corpus(tmp_path, "audio")
