"""``featcache check``: files of other kinds that corpora distribute beside their audio are not superfluous."""

import pytest

from featcache.checks.file_checks import superfluous
from featcache.corpora import read_corpus


def superfluous_in(folder, names, layout=None):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return superfluous(read_corpus(folder, layout))


@pytest.mark.parametrize(
    ("layout", "names", "expected"),
    [
        ("mead", ["M003/audio/angry/level_1/001.m4a", "M003/video/front/angry/level_1/001.mp4"], []),
        (
            "ravdess",
            ["Actor_01/03-01-01-01-01-01-01.wav", "Video/01-01-01-01-01-01-01.mp4", "Video/02-01-01-01-01-01-01.mp4"],
            [],
        ),
        ("cremad", ["AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3", "V/1001_DFA_ANG_XX.flv"], []),
        ("savee", ["AudioData/DC/a01.wav", "VideoData/DC/a01.avi", "AudioVisualClip/DC/a01.avi"], []),
        (
            "savee",
            ["AudioData/DC/a01.wav", "AudioData/DC/copy/x01.wav", "noise.flac"],
            ["AudioData/DC/copy/x01.wav", "noise.flac"],
        ),
        ("tess", ["a/OAF_back_angry.wav", "b/OAF_back_angry.wav"], ["b/OAF_back_angry.wav"]),
    ],
)
def test_named_corpora(tmp_path, layout, names, expected):
    pytest.importorskip("av")
    assert superfluous_in(tmp_path, names, layout) == expected


def test_videos_count_where_utterances_are_videos(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "manifest.csv").write_text("path\na.mp4\nb.wav\n")
    names = ["a.mp4", "b.wav", "b.flac", "left.mp4", "forgotten.flac", "source.mkv"]
    assert superfluous_in(tmp_path, names) == ["forgotten.flac", "left.mp4"]
