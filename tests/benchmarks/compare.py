"""Two stores of the same utterances → maximum error and signal-to-noise ratio of each layer."""

import numpy as np

from featcache.cache.reader import FeatureStore


def deviations(reference: FeatureStore, store: FeatureStore) -> np.ndarray:
    """Return the maximum absolute error divided by the largest absolute value per layer: (num_layers,) float64."""
    differences, values = np.zeros((2, len(reference.layer_names)))
    for utterance_id in reference:
        exact = reference[utterance_id]
        differences = np.maximum(differences, np.abs(store[utterance_id] - exact).max(axis=(1, 2)))
        values = np.maximum(values, np.abs(exact).max(axis=(1, 2)))
    return differences / values


def signal_to_noise(reference: FeatureStore, store: FeatureStore) -> np.ndarray:
    """Return the signal-to-noise ratio over all utterances: (num_layers,) float64, in dB.

    The mean over the frames of an utterance is subtracted from the signal, because a constant offset would only make
    the ratio look better.
    """
    signal, noise = np.zeros((2, len(reference.layer_names)))
    for utterance_id in reference:
        exact = reference[utterance_id]
        varying = exact - exact.mean(axis=1, keepdims=True)
        signal += np.square(varying).sum(axis=(1, 2), dtype=np.float64)
        noise += np.square(store[utterance_id] - exact).sum(axis=(1, 2), dtype=np.float64)
    return 10 * np.log10(signal / noise)
