"""Names stay inside their folder and are visible, valid file names on every system; older names can still be read."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache.cli.layers import print_layers
from featcache.errors import FeatcacheError, StoreError
from featcache.extraction import extract
from featcache.extraction.locate import find_files
from featcache.extraction.merge import merge
from featcache.fitting.ensemble import ensemble
from featcache.fitting.fit import fit
from featcache.pipeline import read_pipeline, run_pipeline
from featcache.runs.reader import RunFolder, finished_runs
from featcache.runs.writer import write_json, write_rows, write_yaml
from featcache.transcription import transcribe
from featcache.transcripts.files import read_transcripts
from featcache.workspace import MOST_NAME_BYTES, Workspace, check_name

GOOD = [
    "wav2vec2-base",
    "whisper-tiny.en",
    "openai--whisper",
    "mit Leerzeichen",
    "größer",
    "日本語",
    "a+b",
    "CONSOLE",
    "a.b",
]
GOOD += ["x" * MOST_NAME_BYTES, "-", "~", "[a]", "{b}", "com10", "auxiliary.txt"]
BAD = ["", ".", "..", "../x", "a/b", "/abs", "a/", "./a", ".hidden", "..a", "a\\b", "..\\x", "C:\\x", "C:x"]
BAD += ["a\nb", "a\0b", "a\tb", "a\x1b[31mb", "a\u202eb", "\ud800", "x" * (MOST_NAME_BYTES + 1), "é" * 150, "x" * 300]
BAD += ["CON", "con", "NUL", "aux.txt", "Lpt1.csv", "com¹", "CONIN$", "nul .a", "a.", "a ", " a", "a:b", "a?b", "a*b"]
BAD += ["a<b", "a>b", 'a"b', "a|b"]
KINDS = ["store", "transcripts", "corpus", "run", "pipeline", "file"]
STORE = ["transcripts", "Transcripts", "manifest.csv", "corpus.json"]


def inside(folder, name):
    """Check whether a name is that of a visible entry of the folder itself."""
    path = os.path.normpath(os.path.join(folder, name))
    return os.path.dirname(path) == str(folder) and os.path.basename(path) == name and not name.startswith(".")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GOOD)
def test_names_of_files_are_names(kind, name, tmp_path):
    assert check_name(kind, name) == check_name(kind, name, tmp_path) == name
    (tmp_path / f".{name}.json.{'0' * 32}.tmp").touch()  # the longest name that is derived from it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BAD)
def test_other_names_are_refused_in_one_line(kind, name, tmp_path):
    for folder in (None, tmp_path):
        with pytest.raises(StoreError) as caught:
            check_name(kind, name, folder, advice="choose another")
        told = str(caught.value)
        assert told.startswith(f"{kind} name ")
        assert told.endswith("; choose another")
        assert told.isprintable()
        assert len(told) < 300


@given(st.text(max_size=12) | st.text("./\\ :aCONcon\n\0", max_size=6), st.sampled_from(KINDS))
def test_whatever_is_taken_lies_in_its_folder(name, kind):
    try:
        check_name(kind, name)
    except StoreError:
        return
    assert inside("/some/folder", name)
    assert name.isprintable()


@pytest.mark.parametrize("name", ["a:b", "CON", "a.", " a", "a\nb", "x" * 220])
def test_a_folder_of_an_older_version_is_taken_as_it_is_called(name, tmp_path):
    (tmp_path / name).mkdir()
    assert check_name("run", name, tmp_path) == name
    with pytest.raises(StoreError):
        check_name("run", name, tmp_path / "elsewhere")


@pytest.mark.parametrize("name", [*STORE, ".hidden", ".."])
def test_neither_its_own_folders_nor_hidden_ones_are_stores(name, tmp_path):
    if name != "..":
        (tmp_path / name).mkdir()
    with pytest.raises(StoreError):
        check_name("store", name, tmp_path)


# All places where a name becomes a path


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "speech"
    folder.mkdir()
    rows = ["path,speaker_id,emotion"]
    for number in range(2):
        soundfile.write(folder / f"u{number}.wav", np.linspace(-0.5, 0.5, 1600), 16000)
        rows.append(f"u{number}.wav,x,joy")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def untouched(tmp_path, corpus):
    """Check at the end that nothing below the test's folder has changed."""
    yield (before := sorted(map(str, tmp_path.rglob("*"))))
    assert sorted(map(str, tmp_path.rglob("*"))) == before


ODD = ["../x", "a/b", "/tmp/featcache-outside", ".hidden", "a\nb", "x" * 300, "CON", "aux.txt", "a.", "a:b", "..", ""]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.usefixtures("untouched")
def test_what_is_written_refuses_odd_names(corpus, tmp_path, name):
    spectrogram = {"model": "spectrogram", "data": corpus}
    for use in (
        lambda: extract(**spectrogram, corpus="toy", name=name),
        lambda: extract(**spectrogram, corpus=name),
        lambda: find_files(Workspace.at(), name, None) if name else check_name("corpus", name),
        lambda: transcribe(data=corpus, corpus="toy", name=name),
        lambda: read_transcripts(tmp_path, name),
        lambda: merge(tmp_path / name, [tmp_path / "part"]) if inside(tmp_path, name) else check_name("store", name),
    ):
        with pytest.raises(FeatcacheError) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert not Path("/tmp/featcache-outside").exists()


def test_a_store_is_not_called_as_the_folder_of_transcripts(corpus):
    for name in STORE:
        with pytest.raises(StoreError, match="featcache uses this name itself; choose another with --name"):
            extract(model="spectrogram", data=corpus, name=name)


def test_the_name_of_the_corpus_folder_is_a_name_too(corpus, tmp_path):
    hidden = corpus.rename(tmp_path / ".hidden")
    with pytest.raises(StoreError, match=r"corpus name '\.hidden': it begins with a dot; choose another with --corpus"):
        extract(model="spectrogram", data=hidden)
    report = extract(model="spectrogram", data=hidden, corpus="seen", dry_run=True)
    assert report.cache == Workspace.at().cache("seen")


@pytest.mark.parametrize("model", ["../../model", "./..", "nobody/a:b"])
def test_the_name_that_a_model_gives_is_one_too(corpus, model):
    with pytest.raises(FeatcacheError) as caught:
        extract(model=model, weights="random", data=corpus)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["model", "text"])
def test_an_empty_name_of_a_model_is_not_the_default(corpus, option):
    with pytest.raises(FeatcacheError, match="the name of the model is empty"):
        extract(**{option: ""}, data=corpus)


@pytest.mark.parametrize("name", ODD)
def test_runs_and_what_is_drawn_of_them_refuse_odd_names(make_cache, quick_reports, tmp_path, name):
    make_cache()
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(StoreError, match="run name"):
        fit(head="linear", seeds=[1], name=name)
    with pytest.raises(FeatcacheError):
        fit(head="linear", corpus=name)
    with pytest.raises(FeatcacheError):
        fit(head="linear", features=[name])
    assert finished_runs(Workspace.at(), "nowhere") == []
    if name in ("", "..") or "/" in name:
        with pytest.raises(StoreError, match="expected the name of a corpus"):
            finished_runs(Workspace.at(), name)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


@pytest.mark.parametrize("corpus", ["../../../evil", "/tmp/featcache-outside", "..", ""])
def test_the_corpus_that_a_run_names_leads_nowhere_else(tmp_path, corpus, monkeypatch):
    """A run folder may come from an untrusted source."""
    for name in "ab":
        folder = Workspace.at().runs("toy") / name
        folder.mkdir(parents=True)
        config = {
            "corpus": corpus,
            "target": "emotion",
            "protocol": "loso",
            "seeds": [1],
            "features": {},
            "norm": "none",
        }
        write_yaml(folder / "config.yaml", {**config, "layers": "all", "untrained": []})
        write_json(folder / "metrics.json", {"confusion": {"classes": ["x", "y"], "counts": []}})
        rows = [(1, 1, f"u{i}", "s", "xy"[i % 2], "x", 0.6, 0.4) for i in range(4)]
        columns = ["seed", "fold", "utterance_id", "speaker_id", "target", "prediction", "p_x", "p_y"]
        for table in ("predictions", "validation_predictions"):
            write_rows(folder / f"{table}.csv", columns, rows)
    before = sorted(map(str, tmp_path.parent.rglob("*")))
    with pytest.raises(StoreError, match="expected the name of a corpus"):
        ensemble(runs=["a", "b"])
    assert sorted(map(str, tmp_path.parent.rglob("*"))) == before


@pytest.mark.parametrize("section", ["stores", "transcripts", "figures", "gains", "comparisons", "ensembles"])
@pytest.mark.parametrize("name", ["../x", "CON", "a:b", ".hidden", "a."])
def test_names_in_a_pipeline_are_checked(tmp_path, section, name):
    path = tmp_path / "mine.yaml"
    stores = "stores: {egemaps: {model: egemaps}}" if section != "stores" else ""
    path.write_text(
        f"title: x\n{stores}\nruns: {{a: {{title: A, features: egemaps}}}}\n{section}: {{'{name}': {{}}}}\n"
    )
    with pytest.raises(FeatcacheError, match="name '"):
        read_pipeline(path)


def test_the_name_of_a_pipelines_file_is_that_of_its_folder(tmp_path):
    path = tmp_path / ".hidden.yaml"
    path.write_text("title: x\n")
    with pytest.raises(StoreError, match=r"pipeline name '\.hidden': it begins with a dot; rename the file"):
        run_pipeline(pipeline=path)


@pytest.mark.parametrize("out", [".", "..", "folder/.."])
def test_figures_need_the_name_of_a_file(make_cache, quick_reports, out):
    make_cache()
    run = fit(head="linear", seeds=[1], max_epochs=1, name="one")
    with pytest.raises(StoreError, match="expected the path of a file without suffix"):
        print_layers([str(run.path)], corpus=None, out=Path(out))


# Names that exist already


@pytest.mark.parametrize("name", ["a:b", "aux", " a", "a."])
def test_caches_stores_and_runs_of_odd_names_still_open(make_cache, quick_reports, name):
    cache = make_cache(corpus=name, stores={name: {}})
    assert list(featcache.open(cache)) == [name]
    assert len(featcache.open(cache)[name]) == 16
    run = fit(head="linear", seeds=[1], max_epochs=1, corpus=name, features=[name], name="one")
    odd = run.path.rename(run.path.with_name(name))
    assert RunFolder(odd).config["corpus"] == name
    again = fit(head="linear", seeds=[1], max_epochs=1, corpus=name, features=[name], name=name)
    assert again.path == odd


def test_long_names_of_stores_make_a_run_name_that_fits(make_cache, quick_reports):
    names = [letter * 150 for letter in "ab"]
    make_cache(stores={name: {} for name in names})
    run = fit(head="fusion", seeds=[1], max_epochs=1, features=names)
    assert len(run.path.name.encode()) == MOST_NAME_BYTES
    assert run.path.name == check_name("run", run.path.name)
