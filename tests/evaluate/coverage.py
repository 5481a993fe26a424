"""How often 95 % intervals hold the true UAR when speakers differ: ``python -m tests.evaluate.coverage`` prints it.

Simulated data sets: each speaker says the same number of utterances of four emotions, of which some are harder. The log
odds of being right have a random effect of the speaker, normal with a standard deviation (the spread) of 0.5 or 1: at
70 % right, one speaker in three lies outside 58 to 79 %, or outside 46 to 86 %. What is wrong is taken for one of the
other emotions. The true UAR is that of infinitely many speakers, by Gauss-Hermite quadrature.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.special import expit

from featcache.evaluate.intervals import bootstrap
from featcache.evaluate.metrics import confusion_sums
from featcache.evaluate.predictions import Predictions

NUMBERS = (2, 4, 10, 20, 40)
SPREADS = (0.5, 1.0)
CLASSES = ("anger", "joy", "neutral", "sadness")
LOG_ODDS = np.array([1.3, 1.05, 0.75, 0.4])
PER_CLASS = 10


def true_uar(spread):
    """The UAR (%) of infinitely many speakers."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    return 100 * (weights / weights.sum() @ expit(LOG_ODDS + spread * points[:, np.newaxis])).mean()


def simulate(rng, num_speakers, spread):
    """Predictions of one seed."""
    target = np.tile(np.repeat(np.arange(len(CLASSES)), PER_CLASS), num_speakers)
    speaker = np.repeat(np.arange(num_speakers), len(CLASSES) * PER_CLASS)
    effect = rng.normal(0, spread, num_speakers)
    right = rng.random(len(target)) < expit(LOG_ODDS[target] + effect[speaker])
    wrong = (target + rng.integers(1, len(CLASSES), len(target))) % len(CLASSES)
    names = np.array(CLASSES)
    table = pd.DataFrame(
        {
            "seed": 0,
            "fold": 1,
            "utterance_id": [f"u{i:05}" for i in range(len(target))],
            "speaker_id": speaker.astype(str),
            "target": names[target],
            "prediction": names[np.where(right, target, wrong)],
        }
    )
    return Predictions(table=table, classes=CLASSES)


def coverage(num_speakers, spread, *, num_simulations, num_resamples=1000, random_state=0):
    """The share (%) of intervals that hold the true UAR: over speakers, and over utterances."""
    rng = np.random.default_rng(random_state)
    truth = true_uar(spread)
    held = np.zeros(2)
    for simulation in range(num_simulations):
        sums = confusion_sums(simulate(rng, num_speakers, spread))
        utterances = sums.of_utterances()
        for i, speaker_ids in enumerate([sums.speaker_ids, None]):
            drawn = {"num_resamples": num_resamples, "random_state": simulation}
            bounds = bootstrap(utterances, sums.over_seeds, speaker_ids=speaker_ids, **drawn).bounds[0]
            held[i] += bounds[0] <= truth <= bounds[1]
    return 100 * held / num_simulations


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    number = parser.parse_args().simulations
    print("| speakers | spread | over speakers (%) | over utterances (%) |\n|---|---|---|---|")
    for num_speakers in NUMBERS:
        for spread in SPREADS:
            speakers, utterances = coverage(num_speakers, spread, num_simulations=number)
            print(f"| {num_speakers} | {spread} | {speakers:.1f} | {utterances:.1f} |", flush=True)


if __name__ == "__main__":
    main()
