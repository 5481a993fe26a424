"""Extractors of users: their declarations and features are checked, and only code that the user named is run."""

import sys

import numpy as np
import pytest

from featcache.audio import Signal
from featcache.errors import AudioError, ModelError
from featcache.extractors import EXTRACTORS, create_extractor, store_name
from featcache.extractors.references import find_extractor, from_everywhere, is_descriptors, portable
from featcache.registry import name_plugins
from tests.extractors.outside import BROKEN, PROSODY, broken, write


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    """Forget all named references after each test."""
    monkeypatch.setattr("featcache.registry._named", {})


@pytest.fixture
def prosody(tmp_path):
    reference = write(tmp_path)
    name_plugins([reference])
    return reference


def test_a_class_with_a_configuration_a_frame_shift_and_extract_is_an_extractor(prosody, speech_like):
    own = create_extractor(prosody)
    found = own.description
    assert (found.dataset, found.layer_names, found.hidden_size, found.frame_shift) == ("frames", ("",), 2, 0.010)
    assert found.provenance == {"averages_frames": True}
    signal = Signal(samples=speech_like(4000), sampling_rate=16000)
    [features] = own.extract([signal])
    assert features.shape == (1, own.num_frames(4000, 16000), 2) == (1, 26, 2)
    assert (own.num_frames(0, 16000), own.hop(22050)) == (0, 221)
    with pytest.raises(AudioError, match=r"^0 samples at 16000 Hz are too short for ./prosody.py:Prosody$"):
        own.extract([Signal(samples=np.zeros(0, dtype=np.float32), sampling_rate=16000)])


def test_the_options_and_the_origin_are_its_identity(prosody):
    settings = create_extractor(prosody, f0_max="300", sampling_rate=8000).description.settings
    sha256 = settings["origin"].pop("sha256")
    assert settings == {
        "extractor": "./prosody.py:Prosody",
        "f0_max": 300.0,
        "sampling_rate": 8000,
        "channel": "mean",
        "max_seconds": None,
        "origin": {"reference": "./prosody.py:Prosody"},
    }
    assert len(sha256) == 64
    assert create_extractor(prosody, sampling_rate=0).description.sampling_rate is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f0_mx": 3}, r"no option 'f0_mx'; did you mean 'f0_max'\?$"),
        ({"f0_max": 0}, r"f0_max takes a number above 0, got 0$"),
        ({"f0_max": "high"}, r"f0_max takes one number, got 'high'$"),
        ({"weights": "random"}, r"^--weights does not apply to './prosody.py:Prosody'$"),
        ({"chunk_seconds": 5}, "which computes whole utterances only$"),
    ],
)
def test_options_that_cannot_be_are_told_in_one_line(prosody, options, message):
    with pytest.raises(ModelError, match=message) as error:
        create_extractor(prosody, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", BROKEN)
def test_promises_are_checked_before_anything_is_extracted(tmp_path, name):
    body, message = BROKEN[name]
    reference = write(tmp_path, broken(body)).replace(":Prosody", ":Broken")
    name_plugins([reference])
    with pytest.raises(ModelError, match=message) as error:
        create_extractor(reference)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("    Config = dict", "Config is <class 'dict'>, expected a frozen dataclass"),
        ("    kind = 'words'", "kind is 'words', expected 'descriptors' or 'model'"),
        ("    def __init__(self, config):\n        raise OSError('no\\nfile')", r"be created \(OSError: no file\)$"),
        ("    tokenise = print", "reads text, expected an extractor that reads audio"),
    ],
)
def test_declarations_that_cannot_be_used(tmp_path, addition, message):
    source = f"{PROSODY}\n\nclass Strange(Prosody):\n{addition}\n"
    reference = write(tmp_path, source).replace(":Prosody", ":Strange")
    name_plugins([reference])
    with pytest.raises(ModelError, match=message):
        create_extractor(reference)


def test_an_option_cannot_have_the_name_of_a_setting(tmp_path):
    name_plugins([reference := write(tmp_path, PROSODY.replace("f0_max", "pool"))])
    with pytest.raises(ModelError, match="the option name 'pool' is reserved; choose another name"):
        create_extractor(reference)


def test_errors_of_one_utterance_are_its_own(tmp_path, speech_like):
    body = "return [self.one(s) if len(s.samples) != 999 else 1 / 0 for s in signals]"
    reference = write(tmp_path, broken(body)).replace(":Prosody", ":Broken")
    name_plugins([reference])
    own = create_extractor(reference)
    good, bad = (Signal(samples=speech_like(length), sampling_rate=16000) for length in (1000, 999))
    assert own.extract([good])[0].shape == (1, 7, 2)
    with pytest.raises(AudioError, match=r"^extractor './prosody.py:Broken' failed \(ZeroDivisionError: division by"):
        own.extract([good, bad])


def test_a_model_from_outside_has_layers_and_devices(tmp_path, speech_like):
    source = f"""{PROSODY}

class Layers(Prosody):
    kind = "model"

    def __init__(self, config, *, device):
        super().__init__(config, device=device)

    def one(self, signal):
        return np.concatenate([super(Layers, self).one(signal)] * 3)
"""
    name_plugins([reference := write(tmp_path, source).replace(":Prosody", ":Layers")])
    own = create_extractor(reference, device="cpu,cpu")
    description = own.description
    assert (description.dataset, description.layer_names) == ("hidden_states", ("0", "1", "2"))
    assert description.provenance["num_blocks"] == 2
    assert own.extract([Signal(samples=speech_like(1000), sampling_rate=16000)])[0].shape == (3, 7, 2)
    assert not is_descriptors(reference)
    assert store_name(reference) == "layers"


def test_nothing_is_imported_that_the_user_did_not_name(tmp_path, monkeypatch):
    reference = write(tmp_path, f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n{PROSODY}")
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for strange in (reference, "./prosody.py:Prosody", "os:system", "planted:Class", "opensmile:own.conf"):
        with pytest.raises(ModelError, match="a file may not decide"):
            create_extractor(strange)
        with pytest.raises(ModelError, match="a file may not decide"):
            find_extractor(strange)
    assert not (tmp_path / "ran").exists()
    assert "planted" not in sys.modules
    name_plugins(["os:system"])
    with pytest.raises(ModelError, match=r"expected a subclass of featcache\.extractors\.base\.Extractor"):
        create_extractor("os:system")


def test_references_have_names_that_mean_the_same_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable("/far/away/prosody.py:Prosody") == "./prosody.py:Prosody"
    assert portable("mylab.prosody:Prosody") == "mylab.prosody:Prosody"
    assert from_everywhere("./prosody.py:Prosody") == f"{tmp_path}/prosody.py:Prosody"
    assert from_everywhere("opensmile:own.conf") == f"opensmile:{tmp_path}/own.conf"
    assert from_everywhere("opensmile:emobase") == "opensmile:emobase"
    assert from_everywhere("egemaps") == "egemaps"
    names = ("./a/prosody.py:Prosody", "mylab.prosody:Prosody", "opensmile:x/Own.conf", "egemaps")
    assert [store_name(name) for name in names] == ["prosody", "prosody", "opensmile-own", "egemaps"]


def test_text_cannot_be_read_by_an_extractor_of_audio():
    for name in EXTRACTORS:
        with pytest.raises(ModelError, match=f"^{name} reads audio, expected a text model"):
            create_extractor(name, text=True)
