"""Tables of utterances in foreign formats: Hugging Face, audformat, EmoBox."""

import json
import logging
import os
import subprocess
import sys

import audformat
import pandas as pd
import pytest

from featcache.corpora import read_corpus
from featcache.errors import CorpusError, ManifestError
from featcache.extraction.locate import find_files, keep_manifest
from featcache.files.spreadsheets import MOST_BYTES
from featcache.manifest import Manifest
from featcache.protocols import default_protocol, make_folds
from featcache.workspace import Workspace


def lines(*rows):
    return "".join(f"{json.dumps(row)}\n" for row in rows)


# Hugging Face


def test_half_of_a_character_in_json_can_be_written_to_a_manifest(write):
    row = r'{"file_name": "a.wav", "emotion": "x\ud800", "transcript": "\udfff \ud83d\ude00"}'
    manifest = read_corpus(write({"metadata.jsonl": row})).manifest
    assert manifest[0].labels == {"emotion": "x\ufffd"}
    assert manifest[0].transcript == "\ufffd \U0001f600"
    assert "x\ufffd".encode() in manifest.content()


def test_huggingface_csv_and_jsonl_say_the_same(write, tmp_path):
    write({"a/metadata.csv": "file_name,speaker,emotion,transcription\nx/1.wav,ann,anger,Hi.\n"})
    row = {"file_name": "x/1.wav", "speaker": "ann", "emotion": "anger", "transcription": "Hi."}
    write({"b/metadata.jsonl": lines(row)})
    of_csv, of_jsonl = read_corpus(tmp_path / "a"), read_corpus(tmp_path / "b")
    assert of_csv.corpus.name == of_jsonl.corpus.name == "folder"
    assert (of_csv.root, of_jsonl.root) == (tmp_path / "a", tmp_path / "b")
    assert list(of_csv.manifest) == list(of_jsonl.manifest)
    (utterance,) = of_csv.manifest
    assert (utterance.utterance_id, utterance.path, utterance.speaker_id) == ("x/1", "x/1.wav", "ann")
    assert (utterance.transcript, utterance.labels) == ("Hi.", {"emotion": "anger"})
    assert list(read_corpus(tmp_path / "b" / "metadata.jsonl").manifest) == list(of_csv.manifest)


@pytest.mark.parametrize("everywhere", [True, False])
def test_huggingface_parts_become_the_split(write, everywhere):
    head = "file_name,emotion\n"
    if everywhere:
        tables = {f"{part}/metadata.csv": f"{head}{i}.wav,anger\n" for i, part in enumerate(("train", "test"))}
    else:
        tables = {"metadata.csv": f"{head}train/0.wav,anger\ntest/1.wav,anger\n"}
    manifest = read_corpus(write(tables)).manifest
    assert {u.path: u.labels["split"] for u in manifest} == {"train/0.wav": "train", "test/1.wav": "test"}
    assert default_protocol(manifest) == "split"


def test_huggingface_values_of_every_type_are_text(write):
    row = {"file_name": "1.wav", "age": 31, "loud": True, "arousal": 0.5, "note": None}
    (utterance,) = read_corpus(write({"metadata.jsonl": lines(row)})).manifest
    assert utterance.labels == {"age": "31", "loud": "true", "arousal": "0.5", "note": ""}


def test_a_metadata_table_without_file_names_is_not_one(write):
    folder = write({"metadata.csv": "ActorID,Age\n1001,51\n", "F21N05.wav": "RIFF"})
    assert read_corpus(folder).corpus.name == "shemo"


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("metadata.csv", "file_name\n/etc/1.wav\n", "paths must stay inside the corpus folder .outside: '/etc/1.wav'"),
        ("train/metadata.csv", "file_name\n../../1.wav\n", "paths must stay inside the corpus folder"),
        ("train/metadata.csv", "file_name\n/etc/1.wav\n", "paths must stay inside the corpus folder"),
        ("metadata.csv", "file_name,x\n1.wav\n", r"metadata.csv, row 2 has another number of fields"),
        ("metadata.csv", 'file_name\n"a"b\n', "metadata.csv: not a CSV table"),
        ("metadata.csv", "file_name,file_name\n1.wav,2.wav\n", "column 'file_name' occurs 2 times"),
        ("metadata.jsonl", '{"file_name": "1.wav"}\n{"file', "metadata.jsonl: line 2 is not JSON"),
        ("metadata.jsonl", '{"file_name": ' + "[" * 100_000, "metadata.jsonl: line 1 is not JSON"),
        ("metadata.jsonl", '["file_name"]\n', "line 1 is no JSON object; expected one object per"),
        ("metadata.jsonl", '{"file_name": "1.wav"}\n{"file_name": ""}\n', "utterances without a path|id is empty"),
        ("metadata.jsonl", '{"file_name": "1.wav", "start": "soon"}\n', "line 1: start is 'soon', expected seconds"),
    ],
)
def test_hostile_and_faulty_huggingface_tables(write, table, text, message):
    with pytest.raises(ManifestError, match=message) as error:
        read_corpus(write({table: text}))
    assert "\n" not in str(error.value)


def test_a_table_that_is_too_large_is_not_read(write):
    folder = write({"metadata.jsonl": '{"file_name": "1.wav"}\n'})
    os.truncate(folder / "metadata.jsonl", MOST_BYTES + 1)  # a sparse file uses no disk space
    with pytest.raises(ManifestError, match=f"{MOST_BYTES + 1} bytes, but a table of utterances has at most"):
        read_corpus(folder)


# EmoBox


def emobox_row(number, emo="neu", **more):
    return {
        "key": f"toy-{number}",
        "dataset": "toy",
        "wav": f"downloads/toy/{number}.wav",
        "type": "raw",
        "sample_rate": 16000,
        "num_frame": 30045.0,
        "task": "category",
        "length": 1.8778125,
        "emo": emo,
        "channel": 1,
        **more,
    }


def emobox(num_folds, parts=("train", "test")):
    """Return the files of an EmoBox folder with six utterances; each of up to three folds tests two of them."""
    files = {f"downloads/toy/{i}.wav": "RIFF" for i in range(6)}
    files["data/toy/toy.jsonl"] = lines(*(emobox_row(i, "neu" if i % 2 else "exc") for i in range(6)))
    files["data/toy/label_map.json"] = json.dumps({"neu": "Neutral", "exc": "Happy"})
    for fold in range(1, num_folds + 1):
        tested = set(range(6)) & set(range(fold - 1, 6, max(num_folds, 3)))
        of_parts = {
            "test": tested,
            "valid": {1},
            "train": set(range(6)) - tested - ({1} if "valid" in parts else set()),
        }
        for part in parts:
            rows = lines(*(emobox_row(i, "neu" if i % 2 else "exc") for i in sorted(of_parts[part])))
            files[f"data/toy/fold_{fold}/toy_{part}_fold_{fold}.jsonl"] = rows
    return files


def test_emobox_folds_become_the_label_fold(write, tmp_path):
    write(emobox(3))
    files = read_corpus(tmp_path / "data" / "toy")
    assert files.root == tmp_path
    utterance = files.manifest["toy-0"]
    assert utterance.path == "downloads/toy/0.wav"
    assert utterance.labels == {"dataset": "toy", "emotion": "Happy", "emo": "exc", "fold": "1"}
    assert files.manifest.labels("fold") == {f"toy-{i}": str(i % 3 + 1) for i in range(6)}
    folds = make_folds(default_protocol(files.manifest), files.manifest, "emotion")
    assert [fold.test for fold in folds] == [("toy-0", "toy-3"), ("toy-1", "toy-4"), ("toy-2", "toy-5")]


@pytest.mark.parametrize("below", ["", "fold_1"])
@pytest.mark.parametrize("parts", [("train", "test"), ("train", "valid", "test")])
def test_one_emobox_fold_becomes_the_split(write, tmp_path, below, parts):
    write(emobox(1, parts))
    files = read_corpus(tmp_path / "data" / "toy" / below)
    assert files.root == tmp_path
    expected = {0: "test", 3: "test", 1: "valid" if "valid" in parts else "train"}
    assert files.manifest.labels("split") == {f"toy-{i}": expected.get(i, "train") for i in range(6)}
    assert files.manifest.labels("emotion")["toy-1"] == "Neutral"


def test_an_emobox_file_by_itself(write, tmp_path):
    rows = [emobox_row(0, speaker="ann", start_time=0.5, end_time=1.5), emobox_row(1, "odd", spk="bob")]
    files = emobox(3) | {"data/toy/toy.jsonl": lines(rows[0]), "data/toy/mine.jsonl": lines(*rows[:1])}
    del files["data/toy/label_map.json"]
    write(files)
    (utterance,) = read_corpus(tmp_path / "data" / "toy" / "mine.jsonl").manifest
    assert (utterance.speaker_id, utterance.start, utterance.end) == ("ann", 0.5, 1.5)
    assert utterance.labels == {"dataset": "toy", "emotion": "neu"}


def test_emotions_that_the_label_map_leaves_out_have_no_label(write, tmp_path):
    write(emobox(1) | {"data/toy/label_map.json": '{"exc": "Happy"}'})
    manifest = read_corpus(tmp_path / "data" / "toy").manifest
    assert manifest.labels("emotion") == {f"toy-{i}": "Happy" for i in (0, 2, 4)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data/toy/toy.jsonl": lines(emobox_row(9))}, CorpusError, "'downloads/toy/9.wav' exists neither there nor"),
        ({"data/toy/toy.jsonl": lines(emobox_row(0, wav="x" * 5000))}, CorpusError, "xx exists neither there nor"),
        ({"data/toy/toy.jsonl": lines(emobox_row(0, wav="/etc/x"))}, ManifestError, "must stay inside the corpus"),
        ({"data/toy/toy.jsonl": lines(emobox_row("a/../../../0"))}, ManifestError, "must stay inside the corpus"),
        (
            {"data/toy/toy.jsonl": lines(*[emobox_row(0)] * 2)},
            ManifestError,
            "several utterances have the same id: 'toy-0'",
        ),
        ({"data/toy/label_map.json": "[1]"}, ManifestError, "label_map.json: expected a JSON object of names"),
        ({"data/toy/label_map.json": '{"neu": 3}'}, ManifestError, "label_map.json: expected a JSON object of names"),
        (
            {"data/toy/fold_1/toy_test_fold_1.jsonl": lines(emobox_row(4))},
            ManifestError,
            "'toy-4' is in another part, too; give the folder",
        ),
    ],
)
def test_hostile_and_faulty_emobox_files(write, tmp_path, changes, error, message):
    write(emobox(1) | changes)
    with pytest.raises(error, match=message) as raised:
        read_corpus(tmp_path / "data" / "toy")
    assert "\n" not in str(raised.value)


# Speakers of EmoBox's corpora, and --speaker-from for every table


def emobox_of(dataset, names, folds):
    rows = [emobox_row(i, dataset=dataset, wav=f"downloads/{name}") for i, name in enumerate(names)]
    files = {f"downloads/{name}": "RIFF" for name in names} | {f"data/{dataset}/{dataset}.jsonl": lines(*rows)}
    for fold, tested in folds.items():
        files[f"data/{dataset}/fold_{fold}/{dataset}_test_fold_{fold}.jsonl"] = lines(*(rows[i] for i in tested))
    return files


EMODB_NAMES = ["03a01Fa.wav", "03a02Wb.wav", "08a01Fa.wav", "08b02Nc.wav", "odd.wav"]


def test_emobox_audio_may_be_missing_in_part(write, tmp_path):
    write(emobox(1))
    (tmp_path / "downloads" / "toy" / "0.wav").unlink()
    assert read_corpus(tmp_path / "data" / "toy").root == tmp_path


def test_emobox_speakers_are_those_of_the_known_corpus(write, tmp_path, caplog):
    write(emobox_of("emodb", EMODB_NAMES, {1: [0, 2], 2: [1, 3], 3: [4]}))
    caplog.set_level(logging.INFO)
    manifest = read_corpus(tmp_path / "data" / "emodb").manifest
    assert [u.speaker_id for u in manifest] == ["03", "03", "08", "08", ""]
    assert "2 speakers are taken from the file names of EmoDB" in caplog.text
    assert "the published folds of this table mix speakers: 2 of 2 speakers are in several" in caplog.text


def test_emobox_folds_of_whole_speakers_are_no_warning(write, tmp_path, caplog):
    write(emobox_of("emodb", EMODB_NAMES[:4], {1: [0, 1], 2: [2, 3]}))
    assert read_corpus(tmp_path / "data" / "emodb").manifest.speaker_ids == ("03", "08")
    assert "mix speakers" not in caplog.text


def test_an_unknown_dataset_of_emobox_has_no_speakers(write, tmp_path):
    write(emobox_of("nowhere", EMODB_NAMES[:1], {}))
    assert read_corpus(tmp_path / "data" / "nowhere").manifest.speaker_ids == ()


@pytest.mark.parametrize(
    ("files", "expression"),
    [
        ({"manifest.csv": "path,speaker_id\nann/1.wav,x\nbob/2.wav,y\n"}, "^[a-z]+"),
        ({"metadata.csv": "file_name\nann/1.wav\nbob/2.wav\n"}, "^([^/]+)/"),
        ({"data/toy/toy.jsonl": lines(emobox_row("a", key="ann-1"), emobox_row("b", key="bob-2"))}, "^(ann|bob)-"),
    ],
)
def test_speakers_from_an_expression_on_path_or_id(write, tmp_path, files, expression):
    write({"downloads/toy/a.wav": "", "downloads/toy/b.wav": ""} | files)
    folder = tmp_path / "data" / "toy" if "data/toy/toy.jsonl" in files else tmp_path
    found = read_corpus(folder, speaker_from=expression)
    assert [u.speaker_id for u in found.manifest] == ["ann", "bob"]
    assert found.speaker_from == expression
    with pytest.raises(ManifestError, match="finds no speaker in 2 of 2 paths"):
        read_corpus(folder, speaker_from="nobody")


def test_the_expression_of_an_extraction_is_used_by_later_ones(write, tmp_path):
    audio = write({"manifest.csv": "path\nann/1.wav\nbob/2.wav\n"}, tmp_path / "mine")
    for expression in ("^[a-z]+", None):
        name, files = find_files(Workspace.at(), None, audio, speaker_from=expression)
        cache = Workspace.at().cache(name)
        cache.mkdir(parents=True, exist_ok=True)
        keep_manifest(cache, files)
        assert Manifest.read(cache / "manifest.csv").speaker_ids == ("ann", "bob")


# audformat databases, written by the package audformat


def database(*, segmented=False, splits=True):
    db = audformat.Database("toy")
    db.splits["train"], db.splits["test"] = audformat.Split("train"), audformat.Split("test")
    db.schemes["emotion"] = audformat.Scheme(labels=["anger", "fear"])
    db.schemes["arousal"] = audformat.Scheme("float")
    db.schemes["duration"] = audformat.Scheme("time")
    db.schemes["speaker"] = audformat.Scheme(labels={"a": {"gender": "female", "age": 31}, "b": {"gender": "male"}})
    files = audformat.filewise_index(["wav/1.wav", "wav/2.wav"])
    add(db, "files", files, {"speaker": ["a", "b"], "duration": pd.to_timedelta([1.5, 2.0], unit="s")})
    for part, file, emotion in (("train", "wav/1.wav", "anger"), ("test", "wav/2.wav", "fear")):
        add(db, f"emotion.{part}", audformat.filewise_index([file]), {"emotion": [emotion]}, part if splits else None)
    if segmented:
        index = audformat.segmented_index(["wav/1.wav"] * 2, ["0s", "0.5s"], ["0.5s", pd.NaT])
        add(db, "segments", index, {"arousal": [0.25, None]})
    return db


def add(db, name, index, columns, split=None):
    table = db[name] = audformat.Table(index, split_id=split)
    for column, values in columns.items():
        table[column] = audformat.Column(scheme_id=column)
        table[column].set(values)


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_audformat_files_with_what_their_tables_and_header_say(tmp_path, storage):
    database().save(tmp_path, storage_format=storage)
    files = read_corpus(tmp_path)
    assert (files.corpus.name, files.root) == ("folder", tmp_path)
    first, second = files.manifest
    assert (first.utterance_id, first.path, first.speaker_id) == ("wav/1", "wav/1.wav", "a")
    assert first.labels == {"gender": "female", "age": "31", "emotion": "anger", "split": "train"}
    assert second.labels == {"gender": "male", "emotion": "fear", "split": "test"}
    assert list(read_corpus(tmp_path / "db.yaml").manifest) == [first, second]


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_audformat_segments_inherit_from_their_files(tmp_path, storage):
    database(segmented=True).save(tmp_path, storage_format=storage)
    first, second = read_corpus(tmp_path).manifest
    # The second segment starts at the end of the first one, and lasts to the end of the file.
    assert [(u.path, u.start, u.end) for u in (first, second)] == [("wav/1.wav", 0.0, 0.5), ("wav/1.wav", 0.5, None)]
    assert first.utterance_id != second.utterance_id
    assert [u.labels.get("arousal", "") for u in (first, second)] == ["0.25", ""]
    assert all((u.speaker_id, u.labels["emotion"]) == ("a", "anger") for u in (first, second))


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_a_whole_file_among_audformat_segments_is_an_utterance(tmp_path, storage):
    db = database()
    index = audformat.segmented_index(["wav/1.wav", "wav/2.wav"], ["0.5s", "0s"], ["1s", pd.NaT])
    add(db, "segments", index, {"arousal": [0.25, 0.75]})
    db.save(tmp_path, storage_format=storage)
    found = {(u.path, u.start, u.end): (u.speaker_id, u.labels["arousal"]) for u in read_corpus(tmp_path).manifest}
    assert found == {("wav/1.wav", 0.5, 1.0): ("a", "0.25"), ("wav/2.wav", None, None): ("b", "0.75")}


def test_audformat_tables_that_disagree(tmp_path):
    db = database(splits=False)
    add(db, "other", audformat.filewise_index(["wav/1.wav"]), {"emotion": ["fear"]})
    db.save(tmp_path, storage_format="csv")
    assert read_corpus(tmp_path).manifest["wav/1"].labels["emotion"] == "anger"
    assert read_corpus(tmp_path).manifest["wav/1"].labels["other.emotion"] == "fear"
    db = database()
    add(db, "other", audformat.filewise_index(["wav/1.wav"]), {"emotion": ["anger"]}, "test")
    db.save(tmp_path, storage_format="csv")
    with pytest.raises(ManifestError, match=r"'wav/1.wav' is in two splits, train and test"):
        read_corpus(tmp_path)


def test_a_pickle_is_never_loaded(tmp_path):
    database().save(tmp_path, storage_format="pkl")
    with pytest.raises(ManifestError, match=r"neither db\..*\.csv nor .parquet exists, and a pickle is never loaded"):
        read_corpus(tmp_path)
    database().save(tmp_path / "both", storage_format="csv")
    for table in (tmp_path / "both").glob("*.csv"):  # newer than the table, so the package audformat would load it
        table.with_suffix(".pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    assert len(read_corpus(tmp_path / "both").manifest) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"db.yaml": "tables: ["}, "db.yaml: not YAML"),
        ({"db.yaml": "!!python/object/apply:os.system ['true']"}, "db.yaml: not YAML"),
        ({"db.yaml": "[" * 5000}, "db.yaml: not YAML"),
        ({"db.yaml": "name: x"}, "db.yaml: no 'tables' in it; expected the header of an audformat database"),
        ({"db.yaml": "tables: {files: 1}"}, "db.yaml: no 'tables' in it"),
        ({"db.yaml": "tables: {../x: {columns: {}}}"}, "table '../x' would lie outside of the folder"),
        ({"db.yaml": "tables: {x: {}}", "db.x.csv": "path\n1.wav\n"}, "db.x.csv: cannot be read as a table with"),
        ({"db.yaml": "tables: {x: {}}", "db.x.csv": "file,start\n1.wav,soon\n"}, "db.x.csv: cannot be read as a table"),
        ({"db.yaml": "tables: {x: {}}", "db.x.parquet": "PAR1"}, "db.x.parquet: cannot be read as a table"),
        (
            {"db.yaml": "tables: {x: {}}", "db.x.csv": "file,file\na,b\n"},
            r"db.x.csv: column 'file' occurs 2 times; \w+",
        ),
        ({"db.yaml": "tables: {x: {}}", "db.x.csv": "file\n/etc/1.wav\n"}, "must stay inside the corpus folder"),
        ({"db.yaml": "tables: {x: {}}", "db.x.csv": "file\n../1.wav\n"}, "must stay inside the corpus folder"),
        ({"db.yaml": "tables: {}"}, "no utterances"),
        (
            {"db.yaml": "{schemes: [1], splits: 2, tables: {x: {columns: {a: 3}, split_id: t}}}"},
            r"neither db.x.csv nor",
        ),
    ],
)
def test_hostile_and_faulty_audformat_databases(write, files, message):
    with pytest.raises(ManifestError, match=message) as error:
        read_corpus(write(files))
    assert "\n" not in str(error.value)
    assert "ManifestError" not in str(error.value)


def test_tables_cost_nothing_until_they_are_read():
    code = "import sys, featcache.corpora; sys.exit(bool({'pandas', 'audformat', 'yaml', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_odd_audformat_header_is_no_crash(write):
    header = "{schemes: [1], splits: 2, tables: {x: {columns: {a: 3, b: null, c: {scheme_id: [1]}}, split_id: test}}}"
    (utterance,) = read_corpus(write({"db.yaml": header, "db.x.csv": "file,a,b,c\n1.wav,x,,z\n"})).manifest
    assert utterance.labels == {"a": "x", "c": "z", "split": "test"}
