"""Cache × protocol × head → run folder: the training of heads."""
