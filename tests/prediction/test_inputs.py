"""AUDIO arguments → utterances: files, folders, tables and corpora, their ids, speakers and windows."""

import os

import numpy as np
import pytest
import soundfile

from featcache import audio
from featcache.corpora import read_corpus
from featcache.corpora.synthetic import make_corpus
from featcache.errors import AudioError, CorpusError, FeatcacheError, ManifestError
from featcache.prediction.inputs import collect
from featcache.workspace import Workspace

RATE = 1000


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def sound(here):
    """Return a function that writes files of noise, one second each by default."""

    def write(*names, seconds=1.0, rate=RATE):
        rng = np.random.default_rng(len(names))
        for name in names:
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            kind = {"format": "FLAC"} if name.endswith("flac") else {"format": "WAV"}
            soundfile.write(here / name, rng.uniform(-0.1, 0.1, round(seconds * rate)), rate, **kind)

    return write


def collected(*arguments, **options):
    return collect(arguments, workspace=Workspace.at("data"), **options)


def ids(request):
    return list(request.manifest.utterance_ids)


def paths(request):
    return [utterance.path for utterance in request.manifest]


def test_files_are_named_as_they_were_given(sound, here):
    sound("rec/a.wav", "rec/b.flac", "c.WAV")
    request = collected("rec/a.wav", "c.WAV", "rec/b.flac")
    assert ids(request) == ["rec/a", "c", "rec/b"]
    assert paths(request) == ["rec/a.wav", "c.WAV", "rec/b.flac"]
    assert (request.root, request.corpus, request.cache, request.failures) == (here, None, None, ())
    assert not request.speakers_known
    one = collected(str(here / "rec" / "a.wav"))
    assert (one.root, paths(one)) == (here / "rec", ["a.wav"])
    several = collected(str(here / "rec" / "a.wav"), "c.WAV")
    assert (several.root, paths(several)) == (here, ["rec/a.wav", "c.WAV"])


def test_a_file_that_is_given_twice_occurs_once(sound):
    sound("x/a.wav", "x/b.wav")
    assert ids(collected("x/a.wav", "./x/a.wav", "x", "x")) == ["x/a", "x/b"]


def test_the_same_name_in_two_folders_and_with_two_suffixes(sound):
    sound("x/a.wav", "y/a.wav", "y/a.flac", "y/a.wav.au")
    assert ids(collected("x/a.wav", "y/a.wav")) == ["x/a", "y/a"]
    request = collected("y")
    assert len(set(ids(request))) == len(request.manifest) == 3
    assert sorted(paths(request)) == ["a.flac", "a.wav", "a.wav.au"]


def test_folders_of_any_depth_without_hidden_files(sound, here, caplog):
    sound("rec/b.wav", "rec/deep/er/a.wav", "rec/.hidden.wav", "rec/.git/c.wav")
    (here / "rec" / "notes.txt").write_text("notes")
    (here / "rec" / "b.mp4").write_bytes(b"the film of b.wav")
    caplog.set_level("INFO", "featcache")
    request = collected("rec")
    assert (paths(request), ids(request)) == (["b.wav", "deep/er/a.wav"], ["b", "deep/er/a"])
    assert request.root == here / "rec"
    assert "rec: 2 files are no audio, and ignored" in caplog.text


def test_links_are_files_of_their_own(sound, here):
    sound("rec/a.wav")
    try:
        os.symlink(here / "rec" / "a.wav", here / "rec" / "link.wav")
        os.symlink(here / "rec", here / "rec" / "round", target_is_directory=True)
        os.symlink(here / "gone.wav", here / "rec" / "broken.wav")
    except OSError:
        pytest.skip("no symbolic links here")
    request = collected("rec")
    assert ids(request) == ["a", "link"]
    assert [(one.utterance_id, one.path) for one in request.failures] == [("broken", "broken.wav")]
    assert ids(collected("rec/round/../rec/a.wav")) == ["a"]  # behind the link


def test_files_that_cannot_be_read_do_not_stop_the_others(sound, here):
    sound("a.wav", "empty.wav", "b.wav")
    (here / "text.wav").write_text("no audio at all")
    (here / "empty.wav").write_bytes(b"")
    (here / "letter.doc").write_text("a letter")
    request = collected("a.wav", "text.wav", "gone.wav", "empty.wav", "letter.doc", "b.wav", window=1, hop=1)
    assert ids(request) == ["a@0-1", "b@0-1"]
    reasons = {one.utterance_id: one.reason for one in request.failures}
    assert list(reasons) == ["text", "gone", "empty", "letter"]
    assert "no such file" in reasons["gone"]
    assert all("\n" not in reason for reason in reasons.values())
    with pytest.raises(AudioError, match=r"none of 2 utterances can be read: gone.wav: no such file; text.wav: "):
        collected("gone.wav", "text.wav")


def test_a_name_that_is_not_text_is_a_failure(sound, here):
    sound("rec/a.wav")
    try:
        os.rename(here / "rec" / "a.wav", os.fsencode(here) + b"/rec/\xff.wav")
    except OSError:
        pytest.skip("this file system has text names only")
    with pytest.raises(AudioError, match=r"none of 1 file can be read: \\udcff.wav: its name is not UTF-8 text"):
        collected("rec")
    sound("rec/b.wav")
    request = collected("rec")
    assert (ids(request), [one.path for one in request.failures]) == (["b"], ["\\udcff.wav"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to predict"),
        (["nobody"], "no file, folder or corpus 'nobody'; available: tiny"),
        (["tny"], "no file, folder or corpus 'tny'; did you mean 'tiny'"),
        (["empty"], "no audio in 'empty'; expected files such as .wav"),
        (["bad.csv"], "expected a CSV table with a column 'path'"),
    ],
)
def test_what_cannot_be_found_is_told_in_one_line(here, arguments, message):
    (here / "empty").mkdir()
    (here / "data" / "corpora" / "tiny").mkdir(parents=True)
    (here / "bad.csv").write_text("name\nx\n")
    with pytest.raises(FeatcacheError, match=message) as error:
        collected(*arguments)
    assert "\n" not in str(error.value)


# Tables and corpora


def test_an_empty_argument_is_not_the_current_folder(sound, here):
    sound("a.wav")
    with pytest.raises(CorpusError, match="AUDIO is empty"):
        collect([""], workspace=here)


def test_a_manifest_keeps_its_ids_speakers_and_stretches(sound, here):
    sound("rec/long.wav", seconds=9)
    table = "utterance_id,path,start,end,speaker_id,transcript,emotion\none,long.wav,1,3.5,ann,Hi.,joy\n"
    (here / "rec" / "manifest.csv").write_text(f"{table}two,long.wav,4,,bob,,\n")
    for argument in ("rec", "rec/manifest.csv"):
        request = collected(argument)
        assert request.speakers_known
        assert request.manifest["one"].transcript == "Hi."
        assert request.manifest["one"].labels == {"emotion": "joy"}
    windows = collected("rec", window=2, hop=2).manifest
    assert windows.utterance_ids == ("one@1-3", "one@1.5-3.5", "two@4-6", "two@6-8", "two@7-9")
    assert [windows[0].speaker_id, windows[0].transcript] == ["ann", ""]


def test_several_tables_do_not_share_ids_and_speakers(sound, here):
    for name in ("x", "y"):
        sound(f"{name}/a.wav")
        (here / name / "manifest.csv").write_text("utterance_id,path,speaker_id\n1,a.wav,7\n")
    request = collected("x", "y", "x/manifest.csv")
    assert ids(request) == ["y/1", "x/1"] or ids(request) == ["x/1", "y/1"]
    assert request.manifest.speaker_ids == ("x/7", "y/7")
    assert sorted(paths(request)) == ["x/a.wav", "y/a.wav"]
    assert (request.corpus, request.cache) == (None, None)


def test_a_corpus_by_name_and_its_cache(here):
    folder = here / "data" / "corpora" / "tiny"
    make_corpus(folder, num_speakers=1, emotions=("anger",), repetitions=2)
    manifest = read_corpus(folder).manifest
    for argument in ("tiny", str(folder)):
        request = collected(argument)
        assert (list(request.manifest), request.corpus, request.cache) == (list(manifest), "tiny", None)
        assert request.speakers_known
    cache = here / "data" / "cache" / "tiny"
    manifest.write(cache / "manifest.csv")
    request = collected("tiny")
    assert request.cache == Workspace.at("data").cache("tiny")
    assert collected("tiny", window=1).cache is None
    assert len(collected("tiny", limit=1).manifest) == 1
    manifest[:1].write(cache / "manifest.csv")  # a cache of other utterances
    assert collected("tiny").cache is None


def test_a_cache_without_audio(here, sound):
    sound("x/a.wav")
    manifest = read_corpus(here / "x", "audio").manifest
    manifest.write(here / "data" / "cache" / "tiny" / "manifest.csv")
    request = collected("tiny")
    assert (list(request.manifest), request.corpus, request.failures) == (list(manifest), "tiny", ())
    with pytest.raises(CorpusError, match="--window needs the audio"):
        collected("tiny", window=1)


def test_a_known_layout_gives_speakers_and_its_absence_plain_audio(sound, caplog):
    sound("emo/03a01Fa.wav", "emo/08b02Wb.wav")
    request = collected("emo")
    assert (request.corpus, request.manifest.speaker_ids, request.speakers_known) == ("emo", ("03", "08"), True)
    assert not collected("emo", layout="audio").speakers_known
    sound("emo/talk.wav", "emo/walk.wav", "emo/run.wav")  # most files are of another kind
    assert len(collected("emo").manifest) == 5
    with pytest.raises(CorpusError, match="expected file names of RAVDESS"):
        collected("emo", layout="ravdess")
    sound("challenge/MSP-PODCAST_test3_0001.wav")  # without labels
    request = collected("challenge")
    assert ids(request) == ["MSP-PODCAST_test3_0001"]
    assert "challenge is read as plain audio, without speakers and transcripts: challenge: Labels/labels" in caplog.text


# Speakers


def test_speakers_from_paths(sound):
    sound("rec/ann/1.wav", "rec/ann/2.wav", "rec/bob/1.wav")
    request = collected("rec", speaker_from="^([^/]+)/")
    assert [utterance.speaker_id for utterance in request.manifest] == ["ann", "ann", "bob"]
    assert request.speakers_known
    whole = collected("rec", speaker_from="(?:ann|bob)")
    assert list(whole.manifest) == list(request.manifest)
    request = collected("rec", one_speaker=True)
    assert (request.manifest.speaker_ids, request.speakers_known) == (("speaker",), True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker_from": "(", "one_speaker": True}, "exclude each other"),
        ({"speaker_from": "("}, "'\\(' is not a regular expression: missing \\)"),
        ({"speaker_from": "(a)(n)"}, "has 2 groups, expected one"),
        ({"speaker_from": "(eve)"}, "finds no speaker in 2 of 2 paths: 'ann/1.wav', 'bob/1.wav'"),
        ({"speaker_from": "(ann)"}, "finds no speaker in 1 of 2 paths: 'bob/1.wav'"),
        ({"speaker_from": "(x*)"}, "finds no speaker in 2 of 2 paths"),
        ({"window": 0}, "--window 0: expected a number of seconds, 0.01 or more"),
        ({"window": float("nan")}, "--window nan: expected"),
        ({"window": 1, "hop": -1}, "--hop -1: expected"),
        ({"window": 1, "hop": 2}, "--hop 2 is longer than --window 1"),
        ({"hop": 1}, "--hop 1 needs the length of the windows"),
    ],
)
def test_options_that_cannot_be_used(sound, options, message):
    sound("rec/ann/1.wav", "rec/bob/1.wav")
    with pytest.raises(ManifestError, match=message) as error:
        collected("rec", **options)
    assert "\n" not in str(error.value)


def test_one_speaker_contradicts_a_table_with_two(sound, here):
    sound("rec/a.wav", "rec/b.wav")
    (here / "rec" / "manifest.csv").write_text("path,speaker_id\na.wav,ann\nb.wav,bob\n")
    with pytest.raises(ManifestError, match="2 known speakers: 'ann', 'bob'; omit --one-speaker"):
        collected("rec", one_speaker=True)


def test_an_expression_that_never_ends_is_stopped(sound, monkeypatch):
    monkeypatch.setattr("featcache.corpora.speaker_expression.MOST_SECONDS", 0.05)
    name = "a" * 100
    sound(f"rec/{name}.wav")
    with pytest.raises(ManifestError, match=r"took more than 0.05 s \(at 'a+.wav'\); avoid repetitions inside of"):
        collected("rec", speaker_from=r"^(?:((?:a|a|aa)+)+)+$")


# Windows


def plain_windows(num_samples, window, hop):
    """Return the first and the last sample of each window, by the definition."""
    found = [(first, first + window) for first in range(0, num_samples, hop) if first + window <= num_samples]
    if num_samples <= window:
        return [(0, num_samples)]
    return found if found[-1][1] == num_samples else [*found, (num_samples - window, num_samples)]


@pytest.mark.parametrize("num_samples", [1, 399, 400, 401, 499, 500, 501, 1000, 1001, 1299])
def test_windows_cover_a_recording_up_to_its_end(sound, here, num_samples):
    sound("a.wav", seconds=num_samples / RATE)
    request = collected("a.wav", window=0.4, hop=0.1)
    found = [audio.probe(request.root, one)[0] for one in request.manifest]
    spans = [(round(one.start * RATE), round(one.end * RATE)) for one in request.manifest]
    assert spans == plain_windows(num_samples, 400, 100)
    assert found == [last - first for first, last in spans]


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
@pytest.mark.parametrize("hop", [1 / 3, 0.0333, 0.1])
def test_windows_at_rates_that_hops_do_not_divide(sound, rate, hop):
    sound("a.wav", seconds=3.7, rate=rate)
    request = collected("a.wav", window=0.5, hop=hop)
    spans = [(round(one.start * rate), round(one.end * rate)) for one in request.manifest]
    length = round(0.5 * rate)
    assert all(last - first == length for first, last in spans)
    assert spans[-1][1] == round(3.7 * rate)
    starts = [first for first, _ in spans]
    # No start drifts from its multiple of the hop; the last one is earlier.
    assert starts[:-1] == [round(number * hop * rate) for number in range(len(starts) - 1)]
    assert len(starts) - 1 <= starts[-1] / (hop * rate) + 1
    assert len(set(ids(request))) == len(spans)


def test_too_many_windows_are_refused(sound, monkeypatch):
    monkeypatch.setattr("featcache.prediction.inputs.MOST_WINDOWS", 10)
    sound("a.wav", seconds=2)
    with pytest.raises(ManifestError, match=r"--window 1 --hop 0\.1 gives 11 windows, more than 10; choose"):
        collected("a.wav", window=1, hop=0.1)
