"""Calls of commands in tests."""

import numpy as np
import soundfile
import typer

from featcache.cli.app import app

COMMANDS = typer.main.get_command(app).commands


def write_corpus(folder, *, broken=()):
    """Three short recordings and their manifest; broken ones contain no samples."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        samples = np.zeros(0) if name in broken else rng.uniform(-0.1, 0.1, 3200)
        soundfile.write(folder / f"{name}.wav", samples, 16000)
    (folder / "manifest.csv").write_text("path,speaker_id,emotion\na.wav,x,joy\nb.wav,y,anger\nc.wav,z,joy\n")
    return folder


def options_of(name):
    return {option for parameter in COMMANDS[name].params for option in parameter.opts + parameter.secondary_opts}
