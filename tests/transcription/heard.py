"""The name of the transcripts in the tests."""

NAME = "tiny-whisper"
