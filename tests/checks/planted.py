"""A corpus with an example of every kind of finding, and a corpus without any."""

import struct

import numpy as np
import soundfile

RATE = 16_000
# Control characters and HTML in names, which the page must not interpret.
SCRIPT = "<script>window.hacked = 1</script>"
HEADER = "utterance_id,path,start,end,speaker_id,emotion,split\n"

# Kind → utterance ids or files; None for a kind that is about the whole corpus.
PLANTED = {
    "missing-file": {"missing"},
    "pointer": {"pointer", "annex"},
    "empty-file": {"empty", "no-samples"},
    "unreadable-file": {"unreadable", "not-finite"},
    "cut-file": {"cut"},
    "segment": {"outside"},
    "superfluous-file": {f"{SCRIPT.replace('/', '_')}.wav"},
    "identical-audio": {"B-joy-1", "again"},
    "identical-audio-apart": {"A-anger-1", "copy"},
    "silence": {"silent"},
    "clipping": {"clipped"},
    "dc-offset": {"offset"},
    "duration": {"long", "tiny"},
    "sampling-rate": {"other-rate"},
    "channels": {"stereo"},
    "low-sampling-rate": None,
    "label-spelling": None,
    "rare-class": None,
    "class-of-one-speaker": None,
    "one-utterance-speaker": None,
    "no-label": None,
    "no-speaker": None,
}


def voice(rng, seconds=1.0, *, level=0.1, rate=RATE):
    return rng.normal(0, level / 3, round(seconds * rate)).clip(-0.9, 0.9)


def _write(folder, name, samples, rate=RATE, subtype="PCM_16"):
    soundfile.write(folder / name, samples, rate, subtype=subtype)


def clean_corpus(folder, rng, *, speakers="ABCD", classes=("anger", "joy"), number=10):
    """Write a corpus in which nothing needs attention; return the rows of its manifest."""
    folder.mkdir(parents=True)
    rows = []
    for speaker in speakers:
        for label in classes:
            for take in range(number):
                name = f"{speaker}-{label}-{take}"
                _write(folder, f"{name}.wav", voice(rng))
                rows.append([name, f"{name}.wav", "", "", speaker, label, "train" if speaker < "C" else "test"])
    write_manifest(folder, rows)
    return rows


def write_manifest(folder, rows):
    (folder / "manifest.csv").write_text(HEADER + "".join(",".join(row) + "\n" for row in rows))


def planted_corpus(folder, rng):
    """Write a corpus with every kind of finding that a table of utterances can have.

    Returns:
        Kind → utterance ids or files; None for a kind that is about the whole corpus.
    """
    rows = clean_corpus(folder, rng)

    def add(name, path=None, *, start="", end="", speaker="A", label="joy", split="train"):
        rows.append([name, path or f"{name}.wav", start, end, speaker, label, split])

    silence = np.zeros(RATE)
    silence[100] = 1e-4
    clipped = voice(rng)
    clipped[1000:1100] = 1.0
    for name, samples, rate in (
        ("silent", silence, RATE),
        ("clipped", clipped, RATE),
        ("offset", voice(rng) + 0.05, RATE),
        ("long", voice(rng, 60.0), RATE),
        ("tiny", voice(rng, 0.05), RATE),
        ("other-rate", voice(rng, rate=8000), 8000),
        ("stereo", np.stack([voice(rng), voice(rng)], axis=1), RATE),
    ):
        add(name)
        _write(folder, f"{name}.wav", samples, rate)
    _plant_files(folder, rng, add)
    _plant_labels(folder, rng, add)
    write_manifest(folder, rows)
    return PLANTED


def _plant_files(folder, rng, add):
    add("missing")
    add("pointer")
    (folder / "pointer.wav").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
    )
    add("annex")
    (folder / "annex.wav").symlink_to(".git/annex/objects/Xx/Yy/SHA256E-s123--abc.wav")
    add("empty")
    (folder / "empty.wav").write_bytes(b"")
    add("no-samples")
    _write(folder, "no-samples.wav", np.zeros(0))
    add("unreadable")
    (folder / "unreadable.wav").write_bytes(b"RIFF" + struct.pack("<I", 4) + b"WAVE" + bytes(40))
    add("not-finite")
    _write(folder, "not-finite.wav", np.where(np.arange(RATE) == 5, np.nan, 0.1).astype("float32"), subtype="FLOAT")
    _cut_ogg(folder / "cut.ogg", rng)
    add("cut", "cut.ogg")
    add("outside", "A-joy-0.wav", start="5", end="6")
    _write(folder, f"{SCRIPT.replace('/', '_')}.wav", voice(rng))


def _plant_labels(folder, rng, add):
    # The same samples in another container, of another speaker, with another label and in another part.
    samples, _ = soundfile.read(folder / "A-anger-1.wav", dtype="int16")
    _write(folder, "copy.flac", samples)
    add("copy", "copy.flac", speaker="D", split="test")
    # The same samples of the same speaker, with the same label in the same part.
    samples, _ = soundfile.read(folder / "B-joy-1.wav", dtype="int16")
    _write(folder, "again.wav", np.concatenate([voice(rng), samples / 2**15, voice(rng)]))
    add("again", "again.wav", start="1.0", end="2.0", speaker="B")
    add("spelled", "A-anger-2.wav", start="0.5", label="Anger ")
    add("rare", "A-anger-2.wav", start="0.6", label=SCRIPT)
    add("rare-2", "A-anger-2.wav", start="0.55", label=SCRIPT)
    add("alone", "A-anger-2.wav", start="0.7", speaker=SCRIPT)
    add("no-label", "A-anger-2.wav", start="0.35", label="")
    add("no-speaker", "A-anger-2.wav", start="0.65", speaker="")


def _cut_ogg(path, rng):
    """Write an Ogg file, and cut its last page."""
    soundfile.write(path, voice(rng, 3.0), RATE, format="OGG", subtype="VORBIS")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
