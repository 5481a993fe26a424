"""A corpus, and a Whisper that hears it."""

NAME = "tiny-whisper"
