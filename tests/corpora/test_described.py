"""Corpora that YAML describes: fields, tables, faults, hostile files, and where descriptions are found."""

import json
import logging
from dataclasses import replace

import pytest
import soundfile
import yaml

import featcache
from featcache import registry
from featcache.corpora import CORPORA, read_corpus
from featcache.corpora.described import describe
from featcache.corpora.recorded import corpus_of, is_corpus
from featcache.errors import CorpusError
from featcache.extraction.locate import keep_manifest
from featcache.extraction.verify import recompute
from featcache.protocols.dialogues import dialogue_labels
from featcache.registry import name_plugins
from tests.installed import install, installed_in

MINE = {
    "name": "mine",
    "title": "My corpus",
    "description": "Two speakers.",
    "license": "mine",
    "source": "here",
    "example": "spk1_H_03.wav",
    "file": r"(?P<speaker>spk\d)_(?P<code>[A-Z])_(?P<number>\d+)",
    "speaker": "{speaker}",
    "labels": {"feeling": {"from": "{code}", "map": {"H": "happiness", "S": "sadness"}}, "number": "no. {number}"},
    "target": "feeling",
}
NAMES = ["spk1_H_01.wav", "below/spk2_S_02.wav"]
TABLE = {"file": "labels.csv", "columns": {"arousal": "A", "said": "T", "file": "File"}, "key": "{file}"}


def with_table(**changes):
    labels = {**MINE["labels"], "arousal": "{arousal}"}
    return MINE | {"tables": [TABLE | changes], "labels": labels, "text": "{said}", "dimensions": {"arousal": [1, 5]}}


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch):
    monkeypatch.setattr(registry, "_named", {})


@pytest.fixture
def describing(tmp_path):
    """Return a function that writes a description and returns its path."""

    def write_yaml(content, path="mine.yaml"):
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(
            content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False), encoding="utf-8"
        )
        return place

    return write_yaml


@pytest.fixture
def audio(write, tmp_path):
    return write(NAMES, tmp_path / "audio")


def read(describing, audio, content):
    path = describing(content)
    name_plugins(str(path))
    return read_corpus(audio, str(path))


def test_groups_of_the_name_become_labels(describing, audio):
    files = read(describing, audio, MINE)
    second, first = files.manifest  # sorted by path
    assert (first.utterance_id, first.speaker_id, first.transcript) == ("spk1_H_01", "spk1", "")
    assert first.labels == {"feeling": "happiness", "number": "no. 01"}
    assert (second.path, second.labels["feeling"]) == ("below/spk2_S_02.wav", "sadness")
    assert (files.corpus.classes, files.corpus.target) == (("happiness", "sadness"), "feeling")


def test_unknown_codes_are_listed(describing, audio, write):
    write(["spk1_X_01.wav"], audio)
    with pytest.raises(CorpusError, match=r"1 file name has codes that My corpus does not have: 'spk1_X_01.wav'"):
        read(describing, audio, MINE)
    kept = MINE["labels"] | {"feeling": MINE["labels"]["feeling"] | {"otherwise": ""}}
    assert len(read(describing, audio, MINE | {"labels": kept}).manifest.labels("feeling")) == 2


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("labels.csv", "File,A,T\nspk1_H_01.wav,2.5,Hello.\nwav/spk2_S_02.wav,3,Bye.\nspk9_S_02.wav,3,\n", None),
        ("Labels/labels.csv", "T;A;File\nHello.;2.5;spk1_H_01\nBye.;3;spk2_S_02\n.;3;spk9_S_02\n", None),
        (
            "labels.json",
            '{"spk1_H_01.wav": {"A": 2.5, "T": "Hello."}, "spk2_S_02.wav": {"A": 3, "T": "Bye."}, '
            '"spk9_S_02": {"A": 3, "T": ""}}',
            {"arousal": "A", "said": "T", "file": "key"},
        ),
        (
            "labels.jsonl",
            '{"File": "spk1_H_01", "A": 2.5, "T": "Hello."}\n{"File": "spk2_S_02", "A": 3, "T": "Bye."}\n'
            '{"File": "spk9_S_02", "A": 3, "T": null}\n',
            None,
        ),
        (
            "labels.txt",
            "spk1_H_01 2.5 Hello.\nspk2_S_02 3 Bye.\nspk9_S_02 3 .\n",
            {"file": "1", "arousal": "2", "said": "3"},
        ),
        (
            "labels.txt",
            'spk1_H_01\t2.5\t"Hello."\r\nspk2_S_02\t"3"\tBye.\nspk9_S_02\t"3"\t"\n',
            {"file": "1", "arousal": "2", "said": "3"},
        ),
    ],
)
def test_tables_of_every_kind(describing, audio, write, name, text, columns):
    write({name: text}, audio)
    content = with_table(file=["other.csv", name], **({"columns": columns} if columns else {}))
    files = read(describing, audio, content)
    found = {u.utterance_id: (u.transcript, u.labels["arousal"]) for u in files.manifest}
    assert found == {"spk1_H_01": ("Hello.", "2.5"), "spk2_S_02": ("Bye.", "3")}
    assert files.missing == ("spk9_S_02",)


def test_files_without_a_row_are_ignored_unless_the_table_is_optional(describing, audio, write):
    write({"labels.csv": "File,A,T\nspk1_H_01,2,Hello.\n"}, audio)
    files = read(describing, audio, with_table())
    assert (files.manifest.utterance_ids, files.ignored) == (("spk1_H_01",), ("below/spk2_S_02.wav",))
    files = read(describing, audio, with_table(required=False))
    assert files.manifest["spk2_S_02"].labels == {"feeling": "sadness", "number": "no. 02", "arousal": ""}
    (audio / "labels.csv").unlink()
    assert len(read(describing, audio, with_table(required=False)).manifest) == 2
    with pytest.raises(CorpusError, match=r"'labels.csv' with the labels of My corpus is missing; add it"):
        read(describing, audio, with_table())


def test_rows_that_are_parts_of_a_file(describing, audio, write):
    write({"parts.txt": "spk1_H_01_a;0;1.5\nspk1_H_01_b;1.5;2\n"}, audio)
    table = {
        "file": "parts.txt",
        "columns": {"part": "1", "from": "2", "to": "3"},
        "key": {"from": "{part}", "map": {"spk1_H_01_a": "spk1_H_01", "spk1_H_01_b": "spk1_H_01"}},
        "segments": True,
    }
    files = read(describing, audio, MINE | {"tables": [table], "id": "{part}", "start": "{from}", "end": "{to}"})
    assert [(u.utterance_id, u.path, u.start, u.end) for u in files.manifest] == [
        ("spk1_H_01_a", "spk1_H_01.wav", 0, 1.5),
        ("spk1_H_01_b", "spk1_H_01.wav", 1.5, 2),
    ]
    assert files.ignored == ("below/spk2_S_02.wav",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nmae": "x"}, "no field 'nmae'; did you mean 'name'?"),
        ({"name": "../x"}, "name: expected lower-case letters, digits, '-', '_' and '.', found '../x'"),
        ({"title": ""}, "title takes text, got ''"),
        ({"labels": {}}, "labels: dictionary should have at least 1 item"),
        ({"labels": {"path": "x"}}, "'path' is no name of a label"),
        ({"labels": {"feeling": "{voice}"}}, "labels.feeling: no field 'voice'; available: code, name, number, path"),
        ({"labels": {"feeling": {"from": "{code}", "mpa": {}}}}, "no field 'mpa'; did you mean 'map'"),
        ({"target": "emotion"}, "target: no label 'emotion'"),
        ({"dimensions": {"arousal": [1, 5]}}, "dimensions: no label 'arousal'"),
        ({"dimensions": {"number": [5, 1]}}, "dimensions: number from 5 to 1, expected the lowest value first"),
        ({"counts": {"anger": 3}}, "counts: no class 'anger'"),
        ({"counts": {"sadness": "many"}}, "counts.sadness takes one integer, got 'many'"),
        ({"checked": "guessed"}, "checked takes authors, public readers or "),
        ({"file": "(spk"}, "file: missing )"),
        ({"file": "a{99999999}"}, "its repetition counts multiply to more than"),
        ({"file": "((((a{999}){999}){999}){999})"}, "its repetition counts multiply to more than"),
        ({"file": "a" * 2000}, "file: more than 1000 characters"),
        ({"file": "(?:" * 300 + "a" + ")*" * 300}, "file: "),
        ({"file": "(?P<name>a)"}, "the group 'name' is the file name itself"),
        ({"start": "1"}, "start and end need a table with 'segments: true'"),
        ({"tables": [TABLE | {"file": "../labels.csv"}]}, "expected a file inside the corpus folder, such as"),
        ({"tables": [TABLE | {"file": "/etc/passwd"}]}, "expected a file inside the corpus folder"),
        ({"tables": [TABLE | {"file": "a\\..\\labels.csv"}]}, "expected a file inside the corpus folder"),
        ({"tables": [TABLE | {"file": "C:/x.csv"}]}, "expected a file inside the corpus folder"),
        ({"tables": [TABLE | {"file": "x" * 300}]}, "expected a file inside the corpus folder"),
        ({"speaker": "{voice}"}, "line 1: speaker: no field 'voice'"),
        ({"tables": [TABLE | {"file": "**/x.csv"}]}, "expected a file inside the corpus folder"),
        ({"tables": [TABLE | {"key": "{code}"}]}, "key: no field 'code'; available: arousal, file, said"),
        ({"tables": [TABLE | {"columns": {"code": "A"}, "key": "{code}"}]}, "the field 'code' is defined twice"),
        ({"tables": [TABLE | {"columns": {"file": "1", "a": "A"}}]}, "columns are names or numbers, not both"),
    ],
)
def test_faults_are_one_line_with_its_place(describing, changes, message):
    path = describing({name: value for name, value in (MINE | changes).items() if value is not None})
    with pytest.raises(CorpusError) as error:
        describe(path)
    found = str(error.value)
    assert message in found
    assert found.startswith(f"{path}, line ")
    assert "\n" not in found


@pytest.mark.parametrize(
    "text",
    [
        *("", "name: [", "a: &a [*a]", "[" * 5000, "name: a\nname: b", "\0", "just text", r'name: "\ud800"'),
        "x: !!python/object/apply:os.system ['true']",
    ],
)
def test_files_that_are_no_description(describing, text):
    with pytest.raises(CorpusError) as error:
        describe(describing(text))
    assert "\n" not in str(error.value)


def test_an_expression_that_never_ends_is_interrupted(describing, audio, write, monkeypatch):
    monkeypatch.setattr("featcache.corpora.described.MOST_SECONDS", 0.05)
    write([f"{'ab' * 60}.wav"], audio)
    with pytest.raises(CorpusError, match=r"more than 0.05 s for names like 'abab.*simplify its regular expression"):
        read(describing, audio, MINE | {"file": r"(?P<speaker>(?:[a-z]|ab)+)(?P<code>.)(?P<number>\d)"})


def test_the_time_limit_is_for_all_slow_names_together(describing, monkeypatch):
    clock, limits = [0.0], []
    monkeypatch.setattr("featcache.corpora.described.time.monotonic", lambda: clock[0])

    class Slow:  # It needs 0.5 s for each name.
        def fullmatch(self, stem, timeout):
            limits.append(timeout)
            clock[0] += min(timeout, 0.5)
            if timeout < 0.5:
                raise TimeoutError

    corpus = replace(describe(describing(MINE)), pattern=Slow())
    for _ in range(4):
        assert corpus.match("a.wav") is None
    with pytest.raises(CorpusError, match=r"took more than 2 s for names like 'a\.wav'"):
        corpus.match("a.wav")
    assert limits[1::2] == [2.0, 1.5, 1.0, 0.5, 0.001]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("File,A\nspk1_H_01,2\n", r"expected the columns A, T, File, but 'T' are missing \(found 'File', 'A'\)"),
        ("File,A,T\nspk1_H_01,2,x\nspk1_H_01,3,x\n", "row 3 contradicts an earlier row of 'spk1_H_01'"),
        ("File,A,T\nspk1_H_01,9,x\n", "'spk1_H_01' has arousal '9', expected a number from 1 to 5"),
        ("File,A,T\nspk1_H_01,\ufffd,x\n", "'spk1_H_01.wav' has arousal '.', which is not UTF-8"),
        ("File,A,T\nspk7_H_01,2,x\n", "the label files of My corpus contain none of the 2 utterances found"),
    ],
)
def test_faulty_tables(describing, audio, write, text, message):
    write({"labels.csv": text}, audio)
    with pytest.raises(CorpusError, match=message) as error:
        read(describing, audio, with_table())
    assert "\n" not in str(error.value)


def test_descriptions_of_the_workspace_are_known_and_recognised(describing, audio, tmp_path):
    with pytest.raises(CorpusError, match="expected file names of a known corpus"):
        read_corpus(audio)
    describing(MINE, "data/descriptions/lab.yaml")
    assert "lab" in CORPORA
    assert "lab" in list(CORPORA)
    assert read_corpus(audio).reference == "lab"
    describing(MINE | {"title": "Not EmoDB"}, "data/descriptions/emodb.yaml")
    assert CORPORA["emodb"].title == "EmoDB"  # built-in corpora take precedence


def test_a_description_that_the_user_did_not_name_is_not_read(describing, audio):
    path = describing(MINE)
    with pytest.raises(CorpusError, match=r"no corpus '.*mine.yaml'.*name a description with --layout"):
        read_corpus(audio, str(path))
    assert str(path) not in CORPORA


def test_a_package_offers_a_description(describing, audio, tmp_path):
    path = describing(MINE)
    with installed_in(tmp_path / "site") as site:
        site.mkdir()
        code = f"from featcache.corpora.described import describe\nMINE = describe({str(path)!r})\n"
        install(site, "mylab", {"mylab.corpora": code}, {"featcache.corpora": {"mine": "mylab.corpora:MINE"}})
        assert read_corpus(audio).reference == "mine"


def test_a_cache_keeps_the_description_and_opens_elsewhere(describing, audio, tmp_path, caplog):
    path = describing(MINE)
    files = read(describing, audio, MINE)
    cache = tmp_path / "cache"
    cache.mkdir()
    keep_manifest(cache, files)
    path.unlink()
    registry._named.clear()
    caplog.set_level(logging.WARNING)
    assert corpus_of(cache) == files.corpus
    assert corpus_of(cache).classes == ("happiness", "sadness")
    assert not caplog.records
    describing(MINE | {"title": "Corrected"}, "data/descriptions/lab.yaml")
    assert is_corpus(corpus_of(cache), "lab")


def test_conversations_of_a_recorded_description_are_kept_apart(describing, audio, tmp_path):
    content = MINE | {"labels": MINE["labels"] | {"call": "{speaker}"}, "dialogue": "call"}
    cache = tmp_path / "cache"
    cache.mkdir()
    keep_manifest(cache, read(describing, audio, content))
    CORPORA._loaded.clear()
    assert "call" not in dialogue_labels()
    corpus_of(cache)
    assert "call" in dialogue_labels()
    CORPORA._loaded.clear()


@pytest.mark.parametrize("record", [{"name": "x"}, MINE | {"file": "(a{9999}){9999}"}, MINE | {"name": "a\nb"}])
def test_a_hostile_record_is_one_warning(tmp_path, caplog, record):
    (tmp_path / "corpus.json").write_text(json.dumps({"corpus": "x", "description": record}))
    assert corpus_of(tmp_path) is None
    assert "the corpus of this cache is unknown here" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("place", ["mine.yaml", "data/descriptions/lab.yaml"])
def test_a_described_corpus_from_extraction_to_verification(describing, tmp_path, rng, place):
    audio = tmp_path / "audio"
    audio.mkdir()
    for name in ("spk1_H_01", "spk2_S_02"):
        soundfile.write(audio / f"{name}.wav", rng.uniform(-0.1, 0.1, 4000), 16000)
    path = describing(MINE, place)
    featcache.extract(model="spectrogram", data=audio, layout=str(path) if place == "mine.yaml" else None)
    path.unlink()
    registry._named.clear()
    cache = featcache.open(tmp_path / "data" / "cache" / "audio")
    assert cache.manifest.labels("feeling") == {"spk1_H_01": "happiness", "spk2_S_02": "sadness"}
    assert corpus_of(cache.path).target == "feeling"
    assert all(deviation.within for deviation in recompute(cache["spectrogram"], audio, 2))
