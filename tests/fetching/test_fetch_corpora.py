"""Corpora are fetched from a server on this machine, in archives as their authors make them, and found by name."""

import hashlib
import io
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import featcache
from featcache.cli import app as cli
from featcache.corpora import CORPORA, read_corpus
from featcache.corpora.downloads import RemoteFile
from featcache.errors import CorpusError, DiskError, FeatcacheError, ModelError
from featcache.extractors.models import known_models, known_text_models
from featcache.fetching import http_download
from featcache.workspace import Workspace
from tests.fetching.file_server import Served, serving_files

# Corpus → contents of its files, in their order: names in an archive, or the content of another file.
LAYOUTS = {
    "emodb": [["wav/03a01Fa.wav", "wav/16b10Wb.wav", "erkennung.txt", "labelfiles/03a01Fa.lab"]],
    "ravdess": [["Actor_01/03-01-01-01-01-01-01.wav"], ["Actor_01/03-02-01-01-01-01-01.wav"]],
    "tess": [["OAF_back_angry.wav", "YAF_young_ps.wav", "MANIFEST.TXT"]],
    "ased": [["ASED_V1-3feb6d2/05Angry/a5-03-01-02-50.wav", "ASED_V1-3feb6d2/.gitattributes"]],
    "cafe": [["Colère/Fort/01-C-2-1.wav", "Neutre/12-N-1-6.wav", "Readme.txt"]],
    "emns": [
        ["cleaned_webm/recorded_audio_RF6OuQ4.webm"],
        b"id|utterance|emotion|date_created|status|gender|age|level|audio_recording|user_id\n"
        b"1|Hello|Happy|x|x|female|20|3|wavs/recorded_audio_RF6OuQ4.webm|3\n",
    ],
    # These archives have no folders. One speaker lacks two styles.
    "emov-db": [
        [f"{style}_1-28_0011.wav"]
        for missing in ((), (), ("anger", "disgust"), ())
        for style in ("amused", "anger", "disgust", "neutral", "sleepiness")
        if style not in missing
    ],
    "emozionalmente": [
        {
            "emozionalmente_dataset/audio/1612872848291.wav": None,
            "emozionalmente_dataset/metadata/samples.csv": "file_name,emotion_expressed,actor,sentence\n"
            "1612872848291.wav,joy,7,Ciao\n",
        }
    ],
    "enterface": [["enterface database/subject 1/anger/sentence 1/s1_an_1.avi"]],
    "nemo": [["nEMO-66de999/samples/MP0_sadness_79.wav", "nEMO-66de999/LICENSE"]],
    "subesco": [["SUBESCO/F_01_OISHI_S_1_ANGRY_1.wav", "SUBESCO/M_08_NIPUN_S_3_SAD_5.wav"]],
}


def archive(name, files):
    """Return the content of an archive, whose kind is that of its name; files without content contain their names."""
    found = {one: (one if text is None else text).encode() for one, text in files.items()}
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as written:
            for one, content in found.items():
                written.writestr(one, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:xz" if name.endswith(".xz") else "w:gz") as written:
            for one, content in found.items():
                info = tarfile.TarInfo(one)
                info.size = len(content)
                written.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return the only server that this test sees, and an empty workspace."""
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(http_download, "PAUSES", (0.0,))
    monkeypatch.setattr(http_download, "_PIECE", 100)
    with serving_files() as found:
        yield found


@pytest.fixture
def serve(server, monkeypatch):
    """Return a function that serves a corpus in place of its authors, and returns its files on the server."""

    def make(name="emodb", layout=None, *, checksum=None):
        corpus = CORPORA[name]
        moved, served = [], []
        for number, (remote, files) in enumerate(zip(corpus.download, layout or LAYOUTS[name], strict=True)):
            named = files if isinstance(files, dict | bytes) else dict.fromkeys(files)
            content = named if isinstance(named, bytes) else archive(remote.file_name, named)
            path = f"/{number}/{remote.file_name}"
            found = checksum or (f"md5:{hashlib.md5(content).hexdigest()}" if remote.checksum else "")
            size = len(content) if remote.size else None
            changes = {"address": server.address + path, "checksum": found, "size": size}
            moved.append(remote.model_copy(update=changes))
            served.append(Served(content))
            server.files[path] = served[-1]
        monkeypatch.setitem(CORPORA._builtin, name, replace(corpus, download=tuple(moved)))
        return served

    return make


def left(tmp_path):
    """Return the names in the folder of corpora."""
    return sorted(path.name for path in (tmp_path / "data" / "corpora").iterdir())


def test_the_layouts_are_those_of_all_corpora_that_can_be_fetched():
    assert set(LAYOUTS) == {name for name, corpus in CORPORA.items() if corpus.download}
    for name in LAYOUTS:
        assert all(one.is_archive or name == "emns" for one in CORPORA[name].download)
        assert all(one.address.startswith("https://") or not one.checksum for one in CORPORA[name].download)


def test_no_corpus_has_the_name_of_a_model():
    assert not set(CORPORA) & {*known_models(), *known_text_models()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_corpus_is_found_by_its_name_after_it_was_fetched(serve, tmp_path, name, told):
    serve(name)
    folder = featcache.fetch(name).folders[name]
    assert folder == tmp_path / "data" / "corpora" / name
    assert Workspace.at().find_corpus(None, None) == (name, folder)
    assert left(tmp_path) == [f".{name}.lock", name]
    files = read_corpus(folder)
    assert files.corpus.name == name
    wanted = [one for files in LAYOUTS[name] if not isinstance(files, bytes) for one in files]
    assert len(files.manifest) == sum(one.endswith((".wav", ".avi", ".webm")) for one in wanted)
    assert all(utterance.labels["emotion"] for utterance in files.manifest)
    assert f"licence {files.corpus.license}; see {files.corpus.source}" in told()
    assert "from http://127.0.0.1:" in told()


def test_a_second_call_asks_nobody(serve, server, tmp_path, told):
    serve()
    folder = featcache.fetch("emodb").folders["emodb"]
    server.requests.clear()
    assert featcache.fetch("emodb").folders == {"emodb": folder}
    assert server.requests == []
    assert f"emodb: it is in {folder} already" in told()


def test_a_folder_of_the_user_is_never_touched(serve, server, tmp_path, told):
    serve()
    folder = tmp_path / "data" / "corpora" / "emodb"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(
        CorpusError, match=r"emodb exists and contains no file of EmoDB; choose another folder with --o"
    ):
        featcache.fetch("emodb")
    (folder / "03a01Fa.wav").write_text("mine")
    assert featcache.fetch("emodb").folders["emodb"] == folder
    assert sorted(path.name for path in folder.iterdir()) == ["03a01Fa.wav", "notes.txt"]
    assert server.requests == []
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="file exists and contains no file of EmoDB"):
        featcache.fetch("emodb", out=tmp_path / "file")


def test_the_folder_can_be_chosen(serve, tmp_path):
    serve()
    serve("tess")
    assert featcache.fetch("emodb", out=tmp_path / "one").folders == {"emodb": tmp_path / "one"}
    both = featcache.fetch(["emodb", "tess"], out=tmp_path / "both").folders
    assert both == {name: tmp_path / "both" / name for name in ("emodb", "tess")}
    assert not (tmp_path / "data").exists()


def test_size_licence_and_address_are_told_before_the_download(serve, server, told):
    served = serve()[0]
    served.status = (404,)
    with pytest.raises(CorpusError, match="the server answered 404"):
        featcache.fetch("emodb")
    address = f"{server.address}/0/download.zip"
    assert told().splitlines()[:2] == [
        f"emodb: {len(served.content)} bytes from {address}",
        "emodb: licence free for research; cite Burkhardt et al. 2005; see http://emodb.bilderbar.info",
    ]
    server.requests.clear()
    served.head = False
    featcache.fetch("emodb")
    assert f"emodb: 1 file of unknown size from {address}" in told()


def test_ctrl_c_keeps_what_is_downloaded_and_tells_how_to_continue(serve, server, tmp_path, monkeypatch, capsys):
    _, second = serve("ravdess")
    second.cuts = (100,)

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featcache.fetching.http_download.time.sleep", interrupt)
        patch.setattr(sys, "argv", ["featcache", "fetch", "ravdess"])
        with pytest.raises(SystemExit) as exited:
            cli.main()
    assert exited.value.code == 130
    assert "ravdess: run the same command again to continue" in capsys.readouterr().err
    assert left(tmp_path) == [".ravdess.download", ".ravdess.lock"]
    assert Workspace.at().corpora.is_dir()
    with pytest.raises(CorpusError, match="get it with 'featcache fetch ravdess'"):
        featcache.extract(model="egemaps", corpus="ravdess")
    server.requests.clear()
    assert len(read_corpus(featcache.fetch("ravdess").folders["ravdess"]).manifest) == 2
    assert [request for request in server.requests if request[0] == "GET"] == [
        ("GET", "/1/Audio_Song_Actors_01-24.zip", "bytes=100-")
    ]


def test_another_checksum_leaves_nothing(serve, tmp_path):
    serve("subesco", checksum=f"md5:{'0' * 32}")
    with pytest.raises(CorpusError, match=r"the MD5 of the file is \w{32}, expected 0{32}; it was removed and not unp"):
        featcache.fetch("subesco")
    assert left(tmp_path) == [".subesco.download", ".subesco.lock"]
    assert not [path for path in (tmp_path / "data/corpora/.subesco.download").iterdir() if path.suffix != ".json"]


@pytest.mark.parametrize("name", ["../../03a01Fa.wav", "/tmp/03a01Fa.wav", "wav\\03a01Fa.wav"])
def test_a_hostile_archive_leaves_nothing_and_is_downloaded_again(serve, server, tmp_path, name):
    serve(layout=[["wav/03a01Fb.wav", name]])
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"^download\.zip: the name .*; nothing of it is kept$"):
            featcache.fetch("emodb")
    assert left(tmp_path) == [".emodb.download", ".emodb.lock"]
    assert not list((tmp_path / "data").rglob("*.wav"))
    assert len(server.gets()) == 2
    serve()
    assert len(read_corpus(featcache.fetch("emodb").folders["emodb"]).manifest) == 2


def test_an_archive_of_something_else_is_not_taken_for_the_corpus(serve, tmp_path):
    serve(layout=[["cats.wav", "readme.txt"]])
    with pytest.raises(CorpusError, match=r"contains no audio file of EmoDB, like '03a01Fa\.wav'; it has changed"):
        featcache.fetch("emodb")
    assert left(tmp_path) == [".emodb.lock"]


def test_fewer_utterances_than_published_are_told(serve, caplog):
    serve()
    featcache.fetch("emodb")
    assert "emodb: 2 audio files were found, but 535 utterances are published" in caplog.text


def test_too_little_disk_space_is_told_before_the_download(serve, server, monkeypatch):
    serve()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(DiskError, match=r"emodb needs at least .* but 100 bytes are free; free disk space, or choose"):
        featcache.fetch("emodb")
    assert server.gets() == []


def test_what_a_killed_fetch_left_does_not_look_like_a_corpus(serve, tmp_path):
    serve()
    killed = tmp_path / "data" / "corpora" / f".emodb.{'0' * 32}.tmp"
    (killed / "wav").mkdir(parents=True)
    (killed / "wav" / "03a01Fa.wav").touch()
    with pytest.raises(CorpusError, match="no corpus under"):
        Workspace.at().find_corpus(None, None)
    featcache.fetch("emodb")
    assert left(tmp_path) == [".emodb.lock", "emodb"]


def test_two_fetches_of_one_corpus_take_turns(serve, server):
    serve()
    with ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(lambda _: featcache.fetch("emodb"), range(2)))
    assert reports[0] == reports[1]
    assert len(server.gets()) == 1


def test_without_a_network_one_line_says_so(serve, server, monkeypatch, tmp_path):
    serve()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        CorpusError, match=r"emodb: not downloaded \(HF_HUB_OFFLINE is set\); get it elsewhere, and copy"
    ):
        featcache.fetch("emodb")
    assert server.requests == []
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (
            "savee",
            {},
            r"savee cannot be fetched: .*registration required\); get it from http://kahlan.eps.surrey.ac.uk/sav",
        ),
        ("iemocap", {}, r"get it from https?://"),
        (
            "cremad",
            {},
            r"get it from .*'git lfs install', then 'git clone https://github.com/CheyneyComputerScience/CREMA",
        ),
        ("folder", {}, "cannot be fetched"),
        ("CREMA-D", {}, r"no model or corpus 'CREMA-D'; did you mean 'cremad'\?"),
        ("emodb", {"convert": True}, "--convert is for models, but emodb is a corpus"),
        ("emodb", {"revision": "v1"}, "--revision is for models, but emodb is a corpus"),
        ("../emodb", {}, "does not exist"),
    ],
    ids=str,
)
def test_what_cannot_be_fetched_is_told_in_one_line(server, names, options, message):
    with pytest.raises(FeatcacheError, match=message) as caught:
        featcache.fetch(names, **options)
    assert "\n" not in str(caught.value)
    assert server.requests == []


def test_one_failure_does_not_stop_the_others(serve, tmp_path):
    serve()
    report = featcache.fetch(["savee", "emodb", "wavlm_huge"])
    assert list(report.folders) == ["emodb"]
    assert list(report.failures) == ["savee", "wavlm_huge"]
    with pytest.raises(ModelError, match="no model 'wavlm_huge'"):
        featcache.fetch("wavlm_huge")


DESCRIPTION = """\
name: lab
title: Lab corpus
description: Two speakers.
license: CC0
source: https://example.org/lab
download:
  - {{address: '{address}/lab.tar.gz', checksum: 'sha256:{sha256}'}}
example: spk1_H_03.wav
file: '(?P<speaker>spk\\d+)_(?P<emotion>[A-Z])_\\d\\d'
speaker: '{{speaker}}'
labels: {{emotion: '{{emotion}}'}}
"""


def test_a_description_of_the_user_can_name_its_archive(server, tmp_path):
    content = archive("lab.tar.gz", {"a/spk1_H_03.wav": None})
    server.files["/lab.tar.gz"] = Served(content)
    place = tmp_path / "data" / "descriptions" / "lab.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(DESCRIPTION.format(address=server.address, sha256=hashlib.sha256(content).hexdigest()))
    assert featcache.fetch("lab").folders == {"lab": tmp_path / "data" / "corpora" / "lab"}
    corpus = CORPORA.find("lab")
    assert corpus.download == (
        RemoteFile(address=f"{server.address}/lab.tar.gz", checksum=corpus.download[0].checksum),
    )
    assert "download" not in corpus.record()  # A cache of somebody else never names an address.
    place.write_text(place.read_text().replace("download:", "download:\n  - {address: 'https://x/LAB.tar.gz'}"))
    with pytest.raises(CorpusError, match=r"two files have the name 'lab\.tar\.gz'"):
        featcache.fetch("lab")
