"""``featcache transcribe`` on the command line, and the output of ``info`` and ``models`` about transcripts."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest

import featcache
from featcache import transcription
from featcache.cli import app as cli
from featcache.transcripts.files import read_transcripts


@pytest.fixture
def invoke(monkeypatch, capsys):
    """Return a function that runs a command in this process and returns its exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setenv("COLUMNS", "250")
        monkeypatch.setattr("sys.argv", ["featcache", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        return exited.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def transcribe(invoke, corpus, tiny_whisper):
    return lambda *options: invoke("transcribe", "--model", tiny_whisper(), "--data", corpus, *options)


def test_a_corpus_is_transcribed_and_the_word_errors_are_told(transcribe, tmp_path):
    code, out, err = transcribe()
    table = tmp_path / "data/cache/tones/transcripts/tiny-whisper.csv"
    lines = out.splitlines()
    assert code == 0
    assert re.fullmatch(r"8 of 8 utterances transcribed, 11 s of audio in \d+ s \(\d+\.\d x real time\)", lines[0])
    assert re.fullmatch(
        r"WER \d+\.\d %: \d+ words substituted, \d+ deleted, \d+ inserted, of 24 in 6 utterances; 2 without human "
        r"transcript left out \(jiwer; normalised by BasicTextNormalizer\)",
        lines[1],
    )
    assert lines[2:] == [str(table)]
    assert table.is_file()
    assert err.splitlines()[0].startswith("loading ")
    code, out, _ = transcribe()
    assert code == 0
    assert out.splitlines() == ["nothing to do: all 8 utterances are cached", *lines[1:]]


def test_a_dry_run_says_nothing_on_stdout(transcribe, tmp_path):
    code, out, err = transcribe("--dry-run", "--limit", "3")
    assert (code, out) == (0, "")
    assert "tiny-whisper: 3 of 3 utterances to transcribe" in err
    assert not (tmp_path / "data").exists()
    assert transcribe("--dry-run", "--strict")[0] == 0


def test_utterances_that_fail_end_it_with_3(transcribe, corpus, tmp_path):
    (corpus / "b.wav").write_bytes(b"no audio")
    code, out, _ = transcribe()
    assert code == 3
    failures = tmp_path / "data/cache/tones/transcripts/tiny-whisper/failures.csv"
    assert f"1 failed, listed in {failures}; first: 'b': b.wav: not an audio file but text" in out
    assert failures.is_file()
    assert "nothing to do" not in transcribe()[1]


def test_a_mistake_is_told_in_one_line(transcribe):
    assert transcribe()[0] == 0
    code, out, err = transcribe("--language", "de")
    assert (code, out) == (1, "")
    assert re.search(r"^error: .* language is None there and de now; give the new transcripts anoth.*\n\Z", err, re.M)


def test_ctrl_c_ends_it_with_130(transcribe, monkeypatch):
    @contextmanager
    def interrupting(*_, **__):
        def advance(amount):
            raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr("featcache.transcription.run.progress", interrupting)
    code, out, _ = transcribe()
    assert code == 130
    assert re.match("[1-8] of 8 utterances transcribed", out)
    assert out.splitlines()[-1] == "stopped before the end; run the same command again to continue"


def test_every_option_reaches_the_transcription(invoke, monkeypatch):
    given = {}

    def transcribe(**options):
        given.update(options)
        raise featcache.FeatcacheError("enough")

    monkeypatch.setattr(transcription, "transcribe", transcribe)
    words = "--model m --corpus c --data d --name n --language de --limit 5 --device cuda --workers 2 --strict"
    words += " --overwrite --dry-run --weights random --revision r"
    assert invoke("transcribe", *words.split())[0] == 1
    assert given == {
        "model": "m",
        "corpus": "c",
        "data": Path("d"),
        "name": "n",
        "language": "de",
        "limit": 5,
        "device": "cuda",
        "workers": 2,
        "strict": True,
        "overwrite": True,
        "dry_run": True,
        "weights": "random",
        "revision": "r",
    }


def test_info_tells_of_transcripts_finished_or_not(transcribe, invoke, tmp_path):
    assert transcribe("--language", "de")[0] == 0
    cache = tmp_path / "data/cache/tones"
    assert len(read_transcripts(cache, "tiny-whisper")) == 8
    (cache / "transcripts/begun").mkdir()
    (cache / "transcripts/begun/journal.jsonl").touch()
    code, out, _ = invoke("info")
    assert code == 0
    begun, finished = (section.splitlines() for section in out.strip().split("\n\n")[1:])
    pairs = [dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines) for lines in (begun, finished)]
    assert pairs[0] == {
        "transcripts": str(cache / "transcripts/begun.csv"),
        "finished": "no: 0 utterances finished; run the same 'featcache transcribe' again",
    }
    assert int(pairs[1].pop("parameters")) > 0
    assert re.fullmatch(r"\d+\.\d % of 24 words \(BasicTextNormalizer\)", pairs[1].pop("WER"))
    assert pairs[1] == {
        "transcripts": str(cache / "transcripts/tiny-whisper.csv"),
        "finished": "yes",
        "utterances": "8",
        "failed": "0",
        "model_id": "tiny-whisper",
        "revision": "-",
        "language": "de",
    }


def test_models_says_which_can_transcribe(invoke):
    _, out, _ = invoke("models")
    columns = {row[0]: row for row in (re.split(r"\s{2,}", line.strip()) for line in out.splitlines())}
    place = columns["Model"].index("ASR")
    able = {name for name, row in columns.items() if row[place:][:1] == ["yes"]}
    assert {"whisper-tiny", "whisper-tiny.en", "whisper-base", "whisper-base.en"} <= able
    assert all(name.startswith("whisper-") for name in able)
