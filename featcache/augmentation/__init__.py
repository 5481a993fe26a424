"""Signal → augmented signal: the same for the same utterance, view and settings, whatever else is computed."""
