"""Links from a page to audio: relative, percent-encoded, inside the corpus folder, with the times of segments."""

import os
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from featcache.manifest import Manifest, Utterance
from featcache.report.audio_links import audio_links

NAMES = [
    "a b.wav",
    "x#1?.wav",
    "100%.wav",
    'quote".wav',
    "it's.wav",
    "javascript:alert(1).wav",
    "声/غضب.wav",
    "a&b<c>.wav",
]


def utterances(paths, **times):
    return Manifest([Utterance(utterance_id=path, path=path, **times) for path in paths])


@pytest.mark.parametrize("folder", ["corpus", "a:b", "c d#", "声"])
def test_a_browser_finds_the_file_of_each_link(tmp_path, folder):
    root, page = tmp_path / "corpora" / folder, tmp_path / "runs" / "x" / "pages"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    found = audio_links(utterances(NAMES), root, page)
    assert found.missing == ()
    for name in NAMES:
        address = found.base + found.links[name]
        assert not urlsplit(address).scheme
        assert address.isascii()
        assert not set(address) & set("\"'<>&\\ ")
        at = urlsplit(urljoin(page.resolve().as_uri() + "/run.html", address))
        assert Path(unquote(at.path)) == (root / name).resolve()
        assert at.scheme == "file"


def test_a_segment_has_its_times(tmp_path):
    (tmp_path / "a.wav").touch()
    found = [
        audio_links(utterances(["a.wav"], **times), tmp_path, tmp_path / "pages").links["a.wav"]
        for times in ({}, {"start": 1.5}, {"end": 2.0}, {"start": 0.1 + 0.2, "end": 12345.678901})
    ]
    assert found == ["a.wav", "a.wav#t=1.5", "a.wav#t=0,2", "a.wav#t=0.3,12345.6789"]


def test_files_that_are_missing_or_outside_have_no_link(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    (tmp_path / "secret.wav").touch()
    (root / "there.wav").touch()
    (root / "folder.wav").mkdir()
    os.symlink(tmp_path / "secret.wav", root / "link.wav")
    os.symlink(root / "there.wav", root / "inside.wav")
    names = ["there.wav", "gone.wav", "folder.wav", "link.wav", "inside.wav", "x" * 300]
    found = audio_links(utterances(names), root, tmp_path / "pages")
    assert set(found.links) == {"there.wav", "inside.wav"}
    assert set(found.missing) == set(names) - set(found.links)


def test_formats_that_browsers_do_not_play_are_told(tmp_path):
    for name in ("a.wav", "b.SPH", "c.flac"):
        (tmp_path / name).touch()
    assert audio_links(utterances(["a.wav", "b.SPH", "c.flac"]), tmp_path, tmp_path).unplayable == (".sph",)


def test_embedded_audio_has_no_link_and_is_not_missing(tmp_path):
    (tmp_path / "a.parquet").touch()
    found = audio_links(utterances(["a.parquet/0", "a.parquet/1"]), tmp_path, tmp_path)
    assert (found.links, found.missing, found.unplayable) == ({}, (), ())
