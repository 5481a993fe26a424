"""Two stores of the same utterances → how far apart they are, layer by layer."""

import numpy as np

from featcache.cache.reader import FeatureStore


def deviations(reference: FeatureStore, store: FeatureStore) -> np.ndarray:
    """Largest difference over largest value of the reference: (num_layers,) float64."""
    differences, values = np.zeros((2, len(reference.layer_names)))
    for utterance_id in reference:
        exact = reference[utterance_id]
        differences = np.maximum(differences, np.abs(store[utterance_id] - exact).max(axis=(1, 2)))
        values = np.maximum(values, np.abs(exact).max(axis=(1, 2)))
    return differences / values


def signal_to_noise(reference: FeatureStore, store: FeatureStore) -> np.ndarray:
    """Signal to noise over all utterances: (num_layers,) float64, in dB.

    The signal is what varies within an utterance: its mean over the frames, which carries no more than an offset,
    would only make the ratio look better.
    """
    signal, noise = np.zeros((2, len(reference.layer_names)))
    for utterance_id in reference:
        exact = reference[utterance_id]
        varying = exact - exact.mean(axis=1, keepdims=True)
        signal += np.square(varying).sum(axis=(1, 2), dtype=np.float64)
        noise += np.square(store[utterance_id] - exact).sum(axis=(1, 2), dtype=np.float64)
    return 10 * np.log10(signal / noise)
