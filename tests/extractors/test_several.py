"""Several devices give the same features as one and are all used; a failure affects only its own batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from featcache.audio import Signal
from featcache.errors import AudioError
from featcache.extractors import create_extractor
from featcache.extractors.several import AT_ONCE, SeveralDevices

# Time limit in seconds for threads to meet; only reached if a test fails.
PATIENCE = 300


class Meeting:
    """An extractor whose batches wait at a barrier until the expected number is running on all devices together."""

    description = "as the model's"
    tokenise = None

    def __init__(self, barrier):
        self.barrier = barrier
        self.most = self.now = self.done = 0
        self.lock = threading.Lock()

    def num_frames(self, num_samples, sampling_rate):
        return num_samples + sampling_rate

    def extract(self, signals):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.barrier.wait(PATIENCE)
        with self.lock:
            self.now -= 1
            self.done += 1
        return signals


@pytest.mark.parametrize("num_devices", [1, 2, 3])
def test_all_devices_have_as_much_to_do(num_devices):
    at_once = AT_ONCE * num_devices
    barrier = threading.Barrier(at_once)
    devices = [Meeting(barrier) for _ in range(num_devices)]
    several = SeveralDevices(devices)
    assert several.description == "as the model's"
    assert several.num_frames(1, 2) == 3
    batches = [[number] for number in range(5 * at_once)]
    with ThreadPoolExecutor(2 * at_once) as pool:
        assert list(pool.map(several.extract, batches)) == batches
    assert [device.most for device in devices] == [AT_ONCE] * num_devices
    assert sum(device.done for device in devices) == len(batches)


def test_a_batch_that_fails_makes_room_for_the_next():
    class Failing:
        description = None
        tokenise = None

        def extract(self, signals):
            raise AudioError(f"{signals} failed")

    several = SeveralDevices([Failing(), Failing()])
    for number in range(2 * AT_ONCE + 1):
        with pytest.raises(AudioError, match=rf"^{number} failed$"):
            several.extract(number)


def test_features_are_those_of_one_device(tiny_model, speech_like):
    signals = [Signal(samples=speech_like(4000 + 700 * n, seed=n), sampling_rate=16000) for n in range(8)]
    model = tiny_model("wav2vec2")
    one, several = create_extractor(model), create_extractor(model, device="cpu,cpu")
    assert isinstance(several, SeveralDevices)
    assert several.description == one.description
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda signal: several.extract([signal])[0], signals))
    for features, signal in zip(found, signals, strict=True):
        np.testing.assert_array_equal(features, one.extract([signal])[0])
