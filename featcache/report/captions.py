"""Name of a figure in a run folder × number of seeds → its caption; with one seed, nothing is averaged over seeds."""

CONFUSION, LABEL_FIGURE, PREDICTED = "confusion_matrix", "label_scores", "predicted_values"
CURVES, WEIGHTS, RELIABILITY = "training_curves", "layer_weights", "reliability"

# Figure → caption, and what is added for several seeds.
CAPTIONS = {
    CONFUSION: ("Recall in percent; small print: number of utterances{}.", ", averaged over seeds"),
    LABEL_FIGURE: ("Scores of each label{}; error bars are 95 % CI.", ", mean over seeds"),
    RELIABILITY: (
        "Reliability: accuracy of the predictions with a similar confidence{}; on the dashed line, accuracy and "
        "confidence are equal. Below: share of the predictions.",
        ", over all seeds",
    ),
    PREDICTED: ("Predictions of the test utterances{}; the line marks perfect predictions.", ", averaged over seeds"),
    CURVES: ("Losses and validation score of all folds{}; dots mark the epochs whose weights were kept.", " and seeds"),
    WEIGHTS: ("Learned layer weights{}.", "; bars are the standard deviation over seeds"),
}


def caption_of(figure: str, num_seeds: int) -> str:
    """Return the caption of a figure.

    Args:
        figure: Name of the figure, without suffix.
        num_seeds: Number of seeds of the run, or the largest one of several runs.
    """
    caption, of_several = CAPTIONS[figure]
    return caption.format(of_several if num_seeds > 1 else "")
