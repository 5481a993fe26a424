"""What is refused or told before anything is trained: other audio, copies, labels, features that are not finite."""

import json
import logging
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcache
from featcache.cache import layout
from featcache.cache.seal import seal
from featcache.cache.statistics import of_frames
from featcache.cache.writer import Record, StoreWriter
from featcache.cli import app as cli
from featcache.cli.layers import print_layer_scores
from featcache.corpora import CORPORA
from featcache.errors import FeatcacheError, FeatureError, ManifestError, ProtocolError, StoreError
from featcache.features import Description
from featcache.fitting import job, normalisation
from featcache.fitting.checks import shared_audio
from featcache.fitting.fit import fit
from featcache.fitting.relevance import layer_relevance
from featcache.fitting.request import FitRequest
from featcache.fitting.resolve import resolve
from featcache.manifest import Manifest, Utterance
from featcache.protocols import Fold, make_folds
from featcache.runs.file_names import METRICS
from featcache.runs.parse import read_table
from featcache.runs.writer import write_json, write_rows
from featcache.training import finite
from featcache.transcripts.text import Transcript

QUICK = {"seeds": (1,), "training": {"max_epochs": 1, "learning_rate": 0.01}}
SEEDS = {"seeds": (1,)}
BAD = "02-joy-1"


@pytest.fixture(autouse=True)
def _quick(quick_reports, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def resolved(monkeypatch):
    """Fit without training, for what only the settings tell."""
    monkeypatch.setattr(job.FitJob, "train", lambda *_: (_ for _ in ()))
    monkeypatch.setattr(job, "write_results", lambda run, setup: write_json(run.folder / METRICS, {}))
    return lambda **options: fit(**{**QUICK, **options})


def manifest_of(rows):
    """From (speaker, labels); the third utterance is ``u2``."""
    return Manifest(
        [
            Utterance(utterance_id=f"u{number}", path=f"{number}.wav", speaker_id=speaker, labels=dict(labels))
            for number, (speaker, labels) in enumerate(rows)
        ]
    )


def labelled(*labels, column="emotion", speakers="abcd"):
    """Every speaker has an utterance of each label."""
    return manifest_of((speaker, {column: label}) for speaker in speakers for label in labels)


def sha(text):
    return Transcript(text=text).sha256


def recordings(ids, **changes):
    """Utterance id → its audio; those named have another."""
    return {i: {"audio_sha256": sha(changes.get(i, i)), "duration": 1.0} for i in ids}


# Features that are not finite


def write_as_it_is(folder, features, storage_dtype="float32"):
    """A store with correct checksums, whatever its features are, which an extraction would refuse to write."""
    layers = next(iter(features.values())).shape[0]
    description = Description(
        dataset="hidden_states",
        layer_names=tuple(map(str, range(layers))),
        hidden_size=4,
        frame_shift=0.02,
        sampling_rate=16000,
        channel="mean",
        settings={"extractor": "ssl", "weights": "pretrained"},
        provenance={"num_blocks": layers - 1},
    )
    writer = StoreWriter(folder, description, storage_dtype)
    given = {"duration": 1.0, "audio_sha256": "", "start": None, "end": None}
    with np.errstate(all="ignore"):
        records = [
            Record(utterance_id=i, features=values.astype(storage_dtype), statistics=of_frames(values), **given)
            for i, values in features.items()
        ]
    writer.write_shard(records)
    writer.finish(list(features), failed=[])


def spoil(cache, value, *, layer=1, name="bad"):
    """Copy the store of a cache, with one value in one frame of one utterance changed."""
    features = {i: np.array(cache["ssl"][i]) for i in cache.manifest.utterance_ids}
    features[BAD][layer, 1, 2] = value
    write_as_it_is(cache.path / name, features)


TOLD = (
    r"bad: the features of 1 of 16 utterances are NaN, infinite or too large to be normalised \('02-joy-1'\); extract"
)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "options",
    [
        {"head": "dense"},
        {"head": "dense", "norm": "none"},
        {"head": "lstm", "norm": "global"},
        {"head": "linear", "layers": "1"},
        {"head": "svm", "layers": "1"},
        {"head": "ffn", "layers": "1"},
        {"head": "ffn"},
        {"head": "fusion", "features": ["ssl", "bad"]},
    ],
)
def test_features_that_are_not_finite_are_refused_before_training(make_cache, monkeypatch, value, options):
    cache = featcache.open(make_cache())
    spoil(cache, value)
    monkeypatch.setattr(job.FitJob, "carry_out", lambda *_, **__: pytest.fail("something was trained"))
    with pytest.raises(FeatureError, match=TOLD) as told:
        fit(**{"features": ["bad"], **QUICK, **options})
    assert "\n" not in str(told.value)


def test_layers_and_utterances_that_take_no_part_may_be_anything(make_cache):
    cache = featcache.open(make_cache())
    spoil(cache, np.nan)
    fit(features=["bad"], layers="0", **QUICK)
    print_layer_scores(["ssl"], corpus=None, protocol=None, target=None, task=None, select={}, out=None)
    manifest = [replace(u, labels={"emotion": ""}) if u.utterance_id == BAD else u for u in cache.manifest]
    Manifest(manifest).write(cache.path / "manifest.csv")
    fit(features=["bad"], norm="global", **QUICK)
    with pytest.raises(FeatureError, match=TOLD):  # without a label it still counts in its speaker's statistics
        fit(features=["bad"], norm="speaker", **QUICK)


@pytest.mark.parametrize("command", ["probe", "relevance"])
def test_probes_refuse_them_too(make_cache, monkeypatch, capsys, command):
    cache = featcache.open(make_cache())
    spoil(cache, np.nan)
    monkeypatch.setattr("sys.argv", ["x", command, "bad"])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 1
    assert re.search(f"^error: .*{TOLD}", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize(("norm", "value"), [("speaker", 1e25), ("global", 1e25), ("none", 1e38)])
def test_features_whose_statistics_overflow_are_refused(make_cache, norm, value):
    """A deviation that float32 cannot hold would silently turn a dimension into zeros."""
    cache = featcache.open(make_cache())
    features = {i: np.array(cache["ssl"][i]) for i in cache.manifest.utterance_ids}
    features[BAD][1, :, 2] = [value * (-1) ** i for i in range(features[BAD].shape[1])]
    if norm == "none":
        features[BAD][1, :, :] = 3e38
    write_as_it_is(cache.path / "bad", features)
    with pytest.raises(FeatureError, match=TOLD):
        fit(features=["bad"], norm=norm, **QUICK)


def test_frames_that_do_not_fit_their_statistics_are_refused_when_they_are_read(make_cache):
    """With right checksums of the frames, and statistics of other ones."""
    cache = featcache.open(make_cache())
    path = cache.path / "ssl" / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        stored = file["hidden_states"]
        values = stored[()]
        first = file["utterances"]["first_frame"][list(cache["ssl"]).index(BAD)]
        values[1, first, 0] = np.nan
        stored[...] = values
        stored.attrs["crc32"] = layout.crc32([values])
    seal(path, [])
    with pytest.raises(FeatureError, match=r"ssl: the features of 1 of 16 utterances are NaN, .* \('02-joy-1'\)"):
        fit(**QUICK)


def test_what_a_working_copy_cannot_hold_is_refused(make_cache):
    cache = featcache.open(make_cache())
    features = {i: np.array(cache["ssl"][i]) for i in cache.manifest.utterance_ids}
    features[BAD][1, :, 2] = 1e6
    write_as_it_is(cache.path / "bad", features)
    with pytest.raises(FeatureError, match=rf"{TOLD}.* as all at once as float16"):
        fit(features=["bad"], norm="none", memory="float16", **QUICK)
    fit(features=["bad"], norm="none", memory="float32", **QUICK)


def test_statistics_are_looked_at_in_chunks(make_cache, monkeypatch):
    monkeypatch.setattr(finite, "CHUNK", 3)
    cache = featcache.open(make_cache())
    spoil(cache, np.nan)
    with pytest.raises(FeatureError, match=TOLD):
        fit(features=["bad"], **QUICK)


# Audio

IDS = [
    f"{speaker}-{emotion}-{n}" for speaker in ("01", "02", "03", "04") for emotion in ("anger", "joy") for n in (1, 2)
]


@pytest.fixture
def two_stores(make_cache, write_store):
    """Make a cache with ``first``, a model's store, and ``other``, of eGeMAPS; their audio is as given."""

    def make(one, other):
        cache = featcache.open(make_cache())
        features = {i: np.array(cache["ssl"][i]) for i in IDS}
        write_store(cache.path / "first", features, recordings=one)
        descriptors = {i: values[:1] for i, values in features.items()}
        write_store(cache.path / "other", descriptors, kind="egemaps", recordings=other)
        return cache

    return make


TOGETHER = {"head": "fusion", "features": ["first", "other"]}
OTHER_AUDIO = (
    r"first and other are of different audio in {} of 16 utterances \({}.*\); run 'featcache extract' again for"
)


@pytest.mark.parametrize("head", ["fusion", "ffn"])
def test_stores_of_different_audio_are_refused(two_stores, resolved, head):
    two_stores(recordings(IDS), recordings(IDS, **{BAD: "changed"}))
    with pytest.raises(StoreError, match=OTHER_AUDIO.format(1, f"'{BAD}'")) as told:
        resolved(**TOGETHER | {"head": head})
    assert "\n" not in str(told.value)
    resolved(features=["first"])
    resolved(features=["other"])


@pytest.mark.parametrize("change", [{"start": 0.5}, {"end": 0.9}])
def test_other_times_in_the_same_file_are_other_audio(two_stores, resolved, change):
    other = recordings(IDS)
    other[BAD] |= change
    two_stores(recordings(IDS), other)
    with pytest.raises(StoreError, match=OTHER_AUDIO.format(1, f"'{BAD}'")):
        resolved(**TOGETHER)


def test_the_beginning_of_a_file_is_zero_seconds(two_stores, resolved, caplog):
    two_stores(recordings(IDS), {i: of | {"start": 0.0} for i, of in recordings(IDS).items()})
    resolved(**TOGETHER)
    assert not caplog.records


def test_utterances_that_take_no_part_may_be_of_other_audio(two_stores, resolved):
    cache = two_stores(recordings(IDS), recordings(IDS, **{BAD: "changed"}))
    Manifest([u for u in cache.manifest if u.utterance_id != BAD]).write(cache.path / "manifest.csv")
    resolved(**TOGETHER)


@pytest.mark.parametrize("unknown", [0, 1, "both"])
def test_stores_that_do_not_know_their_audio_are_told(two_stores, resolved, caplog, unknown):
    known, none = recordings(IDS), {i: {"audio_sha256": "", "duration": 1.0} for i in IDS}
    none[BAD]["duration"] = 2.0
    two_stores(*((none, none) if unknown == "both" else (known, none) if unknown else (none, known)))
    resolved(**TOGETHER)
    names = ["first", "other"] if unknown == "both" else [["first", "other"][unknown]]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(names)
    for name, line in zip(names, told, strict=True):
        assert line.startswith(
            f"{name} does not say of which audio 16 of 16 utterances are, as imported features do not"
        )
        assert line.endswith("is not known" if unknown == "both" else ", and 1 of them differ in length")
    caplog.clear()
    resolved(features=["first"])
    assert not caplog.records


def test_text_is_compared_with_its_transcripts_and_not_with_audio(make_cache, write_store, resolved, caplog):
    manifest = Manifest(
        [
            Utterance(
                utterance_id=i, path="x.wav", speaker_id=i[:2], labels={"emotion": i[3:-2]}, transcript=f"say {i}"
            )
            for i in IDS
        ]
    )
    cache = featcache.open(make_cache(manifest=manifest))
    features = {i: np.array(cache["ssl"][i]) for i in IDS}
    write_store(cache.path / "first", features, recordings=recordings(IDS))
    texts = {u.utterance_id: {"audio_sha256": sha(u.transcript)} for u in manifest}
    settings = {"extractor": "text", "weights": "pretrained", "transcripts": "manifest"}
    write_store(cache.path / "text", features, kind="text", recordings=texts, settings=settings)
    resolved(features=["first", "text"], head="fusion")
    assert not caplog.records
    Manifest([replace(u, transcript="something else") if u.utterance_id == BAD else u for u in manifest]).write(
        cache.path / "manifest.csv"
    )
    resolved(features=["first", "text"], head="fusion", norm="none")
    [told] = [record.getMessage() for record in caplog.records]
    assert told == (
        "text was made of other transcripts than the manifest has now in 1 of 16 utterances ('02-joy-1'); run the same "
        "'featcache extract' again"
    )


COPIES = r"folds test or validate on audio that they also learn from under another id: {} utterances \({}"


def test_copies_across_folds_are_told_with_their_ids(make_cache, write_store, resolved, caplog):
    cache = featcache.open(make_cache())
    features = {i: np.array(cache["ssl"][i]) for i in IDS}
    write_store(cache.path / "some", features, recordings=recordings(IDS, **{"04-joy-2": "01-joy-1"}))
    run = resolved(features=["some"])
    [told] = [record.getMessage() for record in caplog.records]
    # only where 02 is tested and 03 validates, both of them are learned from
    assert re.match("3 of 4 " + COPIES.format(2, "'01-joy-1' is '04-joy-2', '04-joy-2' is '01-joy-1'"), told)
    caplog.clear()
    print_layer_scores(["some"], corpus=None, protocol=None, target=None, task=None, select={}, out=run.path / "p")
    assert told in caplog.text
    caplog.clear()
    # of one speaker, whom no fold divides
    write_store(cache.path / "same", features, recordings=recordings(IDS, **{"01-joy-2": "01-joy-1"}))
    resolved(features=["same"])
    assert not caplog.records


@given(
    stretches=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 5), st.integers(0, 2)),
        min_size=1,
        max_size=16,
    )
)
def test_shared_audio_is_found_as_by_looking_at_every_pair(stretches):
    ids = [f"u{number}" for number in range(len(stretches))]
    times = {i: (file, start, start + length) for i, (file, start, length, _) in zip(ids, stretches, strict=True)}
    part_of = {i: part for i, (*_, part) in zip(ids, stretches, strict=True)}
    fold = Fold(name="f", **{p: tuple(i for i in ids if part_of[i] == n) for n, p in enumerate(PARTS)})
    expected = {
        one
        for one in ids
        for other in ids
        if part_of[other] < part_of[one]
        and times[one][0] == times[other][0]
        and max(times[one][1], times[other][1]) < min(times[one][2], times[other][2])
    }
    warnings = shared_audio([fold], [StoreOf(times)], ids)
    assert bool(warnings) == bool(expected)
    if expected:
        assert f"another id: {len(expected)} utterances" in warnings[0]


PARTS = ("train", "validation", "test")


class StoreOf:
    """As much of a store as says which audio it is of."""

    is_of_words = False

    def __init__(self, times):
        self._times = times

    def audio_sha256(self, utterance_ids):
        return [self._times[i][0] for i in utterance_ids]

    def recordings(self, utterance_ids):
        return [self._times[i] for i in utterance_ids]


def test_many_copies_of_one_file_are_found_in_time():
    ids = [f"u{number}" for number in range(20_000)]
    folds = [
        Fold(name=str(k), train=tuple(ids[:9999]), validation=(ids[9999],), test=tuple(ids[10_000:])) for k in range(5)
    ]
    [told] = shared_audio(folds, [StoreOf(dict.fromkeys(ids, ("a", 0.0, np.inf)))], ids)
    assert "5 of 5 folds" in told
    assert "10001 utterances" in told


# Labels


def test_labels_that_look_alike_are_told_before_training(make_cache, resolved, caplog):
    make_cache(manifest=labelled("W", " W", "f", "F", "1", "1.0", "other"))
    resolved()
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"emotion has values that look alike and count as different: {pair}; write them alike"
        for pair in (
            "'W' (utterance 'u0'), ' W' (utterance 'u1')",
            "'f' (utterance 'u2'), 'F' (utterance 'u3')",
            "'1' (utterance 'u4'), '1.0' (utterance 'u5')",
        )
    ]


def test_speakers_and_groups_that_look_alike_are_told(make_cache, resolved, caplog):
    rows = [(speaker, {"emotion": emotion, "half": speaker}) for speaker in ("f1", "F1 ", "b", "c") for emotion in "xy"]
    make_cache(manifest=manifest_of(rows))
    resolved(target="emotion", norm_by="half")
    told = [record.getMessage() for record in caplog.records]
    alike = "has values that look alike and count as different: 'f1' (utterance 'u0'), 'F1 ' (utterance 'u2')"
    assert told == [f"{column} {alike}; write them alike" for column in ("speaker_id", "half")]


def test_blanks_are_no_label(make_cache, resolved, caplog):
    make_cache(manifest=labelled("x", "y", "  "))
    resolved()
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(
        "emotion is blank, but not empty, in 4 utterances ('u2', 'u5', 'u8' and 1 more), and counts as"
    )


@pytest.mark.parametrize("label", ["nan", "NaN", "1_000", "1,5", "inf", "１２", "0x1", " ", "joy"])
def test_labels_that_are_no_numbers_are_refused_with_their_place(make_cache, resolved, label):
    """Python reads some of them, and whoever reads the predictions does not."""
    rows = [(speaker, {"arousal": str(value), "valence": "2"}) for speaker in "abcd" for value in (1, 2, 3)]
    manifest = manifest_of(rows)
    manifest[5].labels["arousal"] = label
    manifest[6].labels["valence"] = "3"
    cache = make_cache(manifest=manifest)
    told = rf"^label 'arousal' of utterance 'u5' \(row 7 of {cache}/manifest.csv\) is '{label}', expected a number"
    with pytest.raises(ManifestError, match=told):
        resolved(target="arousal,valence")


AWKWARD = ("nan", "None", "NA", "null", "a,b", "a/b", "a\nb", "a\rb", "\x1b[31m", "x" * 300, "rest", "0")


def test_any_label_is_written_and_read_as_it_is(tmp_path):
    columns = ["seed", "fold", "utterance_id", "speaker_id", "target", "prediction", *(f"p_{one}" for one in AWKWARD)]
    rows = [[1, 1, f"u{one}", one, one, one, *(0.5 for _ in AWKWARD)] for one in AWKWARD]
    write_rows(tmp_path / "predictions.csv", columns, rows)
    found = read_table(tmp_path / "predictions.csv")
    assert list(found.columns) == columns
    for column in ("speaker_id", "target", "prediction"):
        assert found[column].tolist() == list(AWKWARD)


def test_one_class_may_be_called_as_the_others_are(make_cache, resolved):
    make_cache(manifest=labelled("rest", "joy", "anger"))
    assert resolved(target="emotion=rest").config["classes"] == ["no rest", "rest"]
    assert resolved(target="emotion=joy").config["classes"] == ["rest", "joy"]


# Utterances without a label


@pytest.fixture
def partly_labelled(make_cache):
    """A cache in which the first utterance of every speaker has no label."""
    manifest = make_manifest("")
    return featcache.open(make_cache(manifest=manifest))


def make_manifest(first):
    return manifest_of((speaker, {"emotion": label}) for speaker in "abcd" for label in (first, "x", "y", "x", "y"))


def test_they_count_in_their_speakers_statistics_and_are_told(partly_labelled, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "featcache")
    cache, seen, unwatched = partly_labelled, [], normalisation.fit_normaliser
    monkeypatch.setattr(normalisation, "fit_normaliser", lambda *a, **k: seen.append(unwatched(*a, **k)) or seen[-1])
    run = fit(**QUICK)
    [normaliser] = seen
    for speaker in "abcd":
        frames = np.concatenate(
            [cache["ssl"][u.utterance_id] for u in cache.manifest if u.speaker_id == speaker], axis=1
        )
        # float32 statistics that were stored and merged
        np.testing.assert_allclose(normaliser.mean_[speaker], frames.mean(axis=1, dtype="f8"), atol=1e-5)
        np.testing.assert_allclose(normaliser.std_[speaker], frames.std(axis=1, dtype="f8"), rtol=1e-5)
    told = "4 of 20 utterances have no label 'emotion'; they neither train, validate nor test."
    assert told in caplog.text
    assert told.replace("'", "&#39;") in (run.path / "report.html").read_text(encoding="utf-8")
    assert set(run.predictions["utterance_id"]) == {u.utterance_id for u in cache.manifest if u.labels["emotion"]}
    print_layer_scores([], corpus=None, protocol=None, target=None, task=None, select={}, out=run.path / "probe")
    assert caplog.text.count(told) == 2


def test_what_they_are_is_part_of_the_run(partly_labelled, write_store, resolved):
    cache, runs = partly_labelled, {}
    runs["with"] = resolved()
    assert "unlabelled_sha256" in runs["with"].config
    for norm in ("global", "none"):
        assert "unlabelled_sha256" not in resolved(norm=norm).config
    rows = list(cache.manifest)
    Manifest([replace(u, speaker_id="a") if u.utterance_id == "u5" else u for u in rows]).write(
        cache.path / "manifest.csv"
    )
    runs["other speaker"] = resolved()
    Manifest([u for u in rows if u.utterance_id != "u5"]).write(cache.path / "manifest.csv")
    runs["one less"] = resolved()
    runs["none"] = resolved(select={"emotion": ["x", "y"]})
    assert "unlabelled_sha256" not in runs["none"].config
    assert len({run.path for run in runs.values()}) == 4


def test_where_all_have_a_label_nothing_changes(make_cache, resolved, caplog):
    caplog.set_level(logging.INFO, "featcache")
    make_cache(manifest=make_manifest("y"))
    assert "unlabelled_sha256" not in resolved().config
    assert "have no label" not in caplog.text


def test_utterances_without_a_label_nor_a_speaker_are_no_obstacle(make_cache, resolved):
    rows = [("", {"emotion": ""}), *((speaker, {"emotion": e}) for speaker in "abcd" for e in "xy")]
    make_cache(manifest=manifest_of(rows))
    assert "unlabelled_sha256" not in resolved().config


def test_a_protocol_of_a_part_takes_the_unlabelled_of_that_part_only(make_cache, caplog):
    caplog.set_level(logging.INFO, "featcache")
    rows = [
        (f"{actor:02d}", {"emotion_7": emotion, "vocal_channel": channel})
        for actor in range(19, 25)
        for emotion in ("happy", "sad", "")
        for channel in ("speech", "song")
    ]
    cache = featcache.open(make_cache(manifest=manifest_of(rows)))
    setup = resolve(cache, FitRequest(protocol="pepino2021-speech", **SEEDS))
    assert {u.labels["vocal_channel"] for u in setup.measured} == {"speech"}
    assert (len(setup.manifest), len(setup.measured)) == (12, 18)
    assert [note for note in setup.notes if "of 36" in note] == [
        "12 of 36 utterances have no label 'emotion_7'; they neither train, validate nor test.",
        "12 of 36 utterances are no part of protocol 'pepino2021-speech'.",
    ]


# Protocols


def corpus_is(cache, name):
    (cache / "corpus.json").write_text(json.dumps({"corpus": name}))


def test_a_protocol_of_another_corpus_says_so(make_cache, resolved, caplog):
    manifest = manifest_of(
        (f"{actor:02d}", {"emotion": e, "emotion_7": e}) for actor in range(1, 5) for e in ("happy", "sad")
    )
    cache = make_cache(manifest=manifest)
    for name in ("ravdess", "folder"):
        corpus_is(cache, name)
        for protocol, owner in (
            ("iemocap-superb", "IEMOCAP"),
            ("cremad-5fold", "CREMA-D"),
            ("msp-podcast-test1", "MSP-Podcast"),
        ):
            told = f"protocol '{protocol}' was published for {owner}"
            more = (
                ", but this is RAVDESS; choose among: pepino2021, .*, loso, group-kfold" if name == "ravdess" else "$"
            )
            with pytest.raises(ProtocolError, match=told + more) as found:
                resolved(protocol=protocol, target=None if name == "ravdess" else "emotion")
            assert "\n" not in str(found.value)
    corpus_is(cache, "ravdess")
    with pytest.raises(ProtocolError, match=r"^this protocol needs the RAVDESS actors 21 to 24"):
        resolved(protocol="pepino2021")
    corpus_is(cache, "emodb")
    resolved(protocol="issa-random-5fold")
    assert (
        "protocol 'issa-random-5fold' was published for RAVDESS, not for EmoDB; results do not compare" in caplog.text
    )


def test_what_is_missing_because_of_a_choice_names_the_choice(make_cache, write_store, resolved):
    manifest = manifest_of(
        (f"{actor:02d}", {"emotion_7": e, "sex": "mf"[actor % 2]}) for actor in range(1, 25) for e in ("happy", "sad")
    )
    cache = featcache.open(make_cache(manifest=manifest))
    with pytest.raises(ProtocolError, match=r"are missing; .* only 4 of 48 utterances take part: --limit 4$"):
        resolve(cache, FitRequest(protocol="pepino2021", limit=4, **SEEDS))
    with pytest.raises(ProtocolError, match=r"21, 23 are missing; .* only 24 of 48 .* part: --select sex=m$"):
        resolved(protocol="pepino2021", select={"sex": ["m"]})
    some = {i: np.array(cache["ssl"][i]) for i in cache.manifest.utterance_ids[:6]}
    write_store(cache.path / "some", some)
    told = r"only 6 of 48 utterances take part: 42 have no features, as after 'featcache extract --limit'$"
    with pytest.raises(ProtocolError, match=told):
        resolved(protocol="pepino2021", features=["some"])
    with pytest.raises(ManifestError, match=r"has one class only, 'sad'; .* only 24 of 48 .*: --select emotion_7=sad$"):
        resolved(features=["ssl"], target="emotion_7", select={"emotion_7": ["sad"]})


SESSIONS = [
    (f"{session}{talker}", {"emotion_4": e, "session": session}) for session in "12345" for talker in "FM" for e in "xy"
]


def test_probes_and_fits_have_the_same_default(make_cache, resolved, capsys, monkeypatch):
    cache = make_cache(manifest=manifest_of(SESSIONS))
    corpus_is(cache, "iemocap")
    run = resolved()
    assert run.config["protocol"] == "iemocap-loso-session"
    monkeypatch.setattr("sys.argv", ["x", "probe"])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 0
    assert "linear probes of utterance means, iemocap-loso-session, 5 folds" in capsys.readouterr().out
    [found] = layer_relevance(seeds=(1,), norm="global", training={"max_epochs": 1})
    assert {one.config["protocol"] for one in found.runs.values()} == {"iemocap-loso-session"}


def test_msp_podcast_can_be_probed_although_some_speakers_are_unknown(make_cache, capsys, monkeypatch):
    parts = {"train": "train", "development": "validation", "test1": "test", "test2": "test"}
    rows = [
        ("", {"emotion": e, "split": split, "partition": partition, "podcast": partition})
        for partition, split in parts.items()
        for e in ("anger", "joy")
    ]
    cache = make_cache(manifest=manifest_of(rows))
    for corpus, protocol in (("msp-podcast", "msp-podcast-test2"), ("folder", "split")):
        corpus_is(cache, corpus)
        monkeypatch.setattr("sys.argv", ["x", "probe", "--target", "emotion"])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        assert exited.value.code == 0
        assert f"linear probes of utterance means, {protocol}, 1 folds" in capsys.readouterr().out


def test_a_session_that_is_split_is_told_by_fits_and_probes(make_cache, resolved, caplog):
    corpus_is(make_cache(manifest=manifest_of(SESSIONS)), "iemocap")
    resolved(protocol="loso")
    assert "10 of 10 folds split a session" in caplog.text
    caplog.clear()
    print_layer_scores([], corpus=None, protocol="group-kfold", target=None, task=None, select={}, out=None)
    assert "folds split a session" in caplog.text


def test_every_error_of_these_checks_is_one_that_a_user_can_mend():
    assert all(issubclass(kind, FeatcacheError) for kind in (FeatureError, StoreError, ManifestError, ProtocolError))
    assert {corpus.dialogue for corpus in CORPORA.values()} == {"", "session", "dialogue", "podcast"}
    assert make_folds("loso", manifest_of(SESSIONS), "emotion_4")
