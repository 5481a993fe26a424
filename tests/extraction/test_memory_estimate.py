"""Memory is estimated before an extraction; if it is not enough, the message names the option that helps."""

import numpy as np
import pytest
import soundfile

from featcache.cli.app import main
from featcache.errors import ModelError
from featcache.extraction import extract, memory
from featcache.extraction.plan import ExtractionPlan, PlannedUtterance, StoreJob
from featcache.extractors import create_extractor
from featcache.extractors.footprint import kept_bytes, relative_bytes, waveform_bytes, whisper_bytes
from featcache.extractors.models import known_models
from featcache.manifest import Utterance
from featcache.transcription.memory import check_memory as check_transcription

RATE = 16000
# Growth of the peak resident memory after the first utterance, in MB, for one worker on a CPU with AVX2:
# (model, seconds, growth). The models are untrained; libraries loaded at the first utterance are included.
MEASURED = [("wav2vec2-base", 10, 172), ("distilhubert", 20, 338), ("wavlm-base", 20, 338)]


class Writer:
    """Attributes of a store writer that a plan uses."""

    pool = False
    storage_dtype = "float16"


@pytest.fixture
def planned(tiny_model):
    """Return a function from lengths in seconds to a plan of such utterances and its store."""

    def make(*seconds, **options):
        target = StoreJob("ssl", create_extractor(tiny_model("wav2vec2"), **options), Writer())
        items = [
            PlannedUtterance(
                utterance=Utterance(utterance_id=f"u{number}", path=f"u{number}.wav"), length=length, bytes=1000
            )
            for number, length in enumerate(seconds)
        ]
        plan = ExtractionPlan(items=items, bytes=1000 * len(items), spooled=0, length=sum(seconds))
        return plan, [target]

    return make


@pytest.fixture
def available(monkeypatch):
    """Return a function that sets the memory of the machine; this process appears to use none."""

    def have(size):
        monkeypatch.setattr(memory, "available_memory", lambda: size)
        monkeypatch.setattr(memory, "used_memory", lambda: 0.0)

    return have


def config_of(name):
    import transformers

    entry = known_models()[name]
    return transformers.AutoConfig.for_model(entry["family"], **entry["config"])


@pytest.mark.parametrize(("name", "seconds", "growth"), MEASURED)
def test_the_estimate_is_near_what_was_measured(name, seconds, growth):
    config, samples = config_of(name), seconds * RATE
    first, frames = (samples - 10) // 5 + 1, samples // 320
    layers = config.num_hidden_layers + 1
    estimated = memory.LIBRARIES + waveform_bytes(config, 1, samples, first, frames, layers)
    assert growth <= estimated / 1e6 <= 1.6 * growth  # The libraries take the same memory for short utterances.


def test_the_estimate_grows_with_length_batch_and_workers(planned, available):
    available(1e12)

    def peak(*seconds, workers=1, batch_length=0.0, **options):
        plan, targets = planned(*seconds, **options)
        return memory.peak_memory(plan, targets, workers=workers, batch_length=batch_length)

    hour = peak(3600.0)
    assert hour > peak(60.0) + 50 * (peak(60.0) - peak(1.0))
    assert peak(3600.0, 3600.0, workers=2) > 1.8 * hour
    assert peak(3600.0, 3600.0, workers=1) < 1.1 * hour
    assert peak(10.0, batch_length=120.0) > peak(10.0)
    assert peak(3600.0, max_seconds=10.0) < hour / 10
    assert peak(3600.0, chunk_seconds=30.0) < hour / 10


# The same for w2v-BERT 2.0 with two blocks: (seconds, batch, growth).
MEASURED_RELATIVE = [(20, 1, 481), (40, 1, 1725), (20, 2, 676)]


@pytest.mark.parametrize(("seconds", "batch", "growth"), MEASURED_RELATIVE)
def test_the_estimate_of_relative_positions_is_near_what_was_measured(seconds, batch, growth):
    config, frames = config_of("w2v-bert-2.0"), seconds * 50
    estimated = relative_bytes(config, batch, frames) + kept_bytes(3, batch * frames, config.hidden_size)
    assert growth <= estimated / 1e6 <= 1.6 * growth


def test_a_position_bias_and_padding_take_memory_of_the_square_of_the_length():
    wavlm, plain = config_of("wavlm-base"), config_of("wav2vec2-base")
    long = {name: waveform_bytes(config, 1, RATE * 600, 1, 30000, 13) for name, config in (("w", wavlm), ("p", plain))}
    assert long["w"] > long["p"] + 4 * 12 * 30000**2
    assert waveform_bytes(plain, 2, RATE * 600, 1, 30000, 13) > 2 * long["p"] + 4 * 2 * 30000**2
    assert whisper_bytes(config_of("whisper-tiny"), 1, RATE, 5) == whisper_bytes(config_of("whisper-tiny"), 1, RATE, 5)


def test_what_fits_is_told_and_nothing_else(planned, available, caplog):
    caplog.set_level("INFO")
    available(10e9)
    plan, targets = planned(5.0, 2.0)
    memory.check_memory(plan, targets, workers=1, batch_length=0.0)
    assert "MB (10.0 GB available)" in caplog.text
    available(1.0)
    memory.check_memory(plan, targets, workers=1, batch_length=0.0, elsewhere=True)


@pytest.mark.parametrize(
    ("seconds", "workers", "batch_length", "size", "message"),
    [
        (
            (3600.0,),
            1,
            0.0,
            1e9,
            "compute it in windows with --chunk-seconds 30, or use only its beginning with --max-s",
        ),
        ((600.0,) * 8, 8, 0.0, 1.2e9, "reduce --workers"),
        ((10.0,) * 99, 1, 9000.0, 5e8, "reduce --batch-seconds, which is 9000"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_helps(
    planned, available, seconds, workers, batch_length, size, message
):
    plan, targets = planned(*seconds)
    available(size)
    with pytest.raises(ModelError, match=message) as caught:
        memory.check_memory(plan, targets, workers=workers, batch_length=batch_length)
    assert "\n" not in str(caught.value)
    assert "'u0'" in str(caught.value)


def test_a_transcription_is_estimated_too(monkeypatch):
    config = config_of("whisper-tiny")
    check_transcription(config, [], workers=2)
    check_transcription(config, [3.0, 1.0], workers=2)
    monkeypatch.setattr("featcache.transcription.memory.available_memory", lambda: 1e9)
    monkeypatch.setattr("featcache.transcription.memory.used_memory", lambda: 5e8)
    with pytest.raises(ModelError, match=r"^the transcription needs about .* \(longest utterance: 7200 s, 2 workers\)"):
        check_transcription(config, [7200.0, 1.0], workers=2)


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    soundfile.write(folder / "u0.wav", np.zeros(RATE), RATE)
    (folder / "manifest.csv").write_text("path\nu0.wav\n")
    return folder


def test_the_command_refuses_before_it_writes(corpus, tiny_model, tmp_path, available, monkeypatch, capsys):
    available(1e6)
    model = tiny_model("wav2vec2")
    monkeypatch.setattr("sys.argv", ["featcache", "extract", "--model", model, "--data", str(corpus)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert "of memory, but only 1.0 MB are available" in capsys.readouterr().err
    assert not list((tmp_path / "data").rglob("*.h5"))


def test_a_dry_run_estimates_as_well(corpus, tiny_model, tmp_path, caplog):
    caplog.set_level("INFO")
    extract(model=tiny_model("wav2vec2"), data=corpus, home=tmp_path / "data", dry_run=True)
    assert "peak memory about " in caplog.text


@pytest.mark.parametrize(("family", "hinted"), [("whisper", True), ("wav2vec2", False)])
def test_whisper_is_announced_to_process_30_s_per_utterance(corpus, tiny_model, tmp_path, caplog, family, hinted):
    caplog.set_level("INFO")
    extract(model=tiny_model(family), name="it", data=corpus, home=tmp_path, egemaps=False, dry_run=True)
    assert ("it: Whisper processes 30 s per utterance, however short" in caplog.text) == hinted
