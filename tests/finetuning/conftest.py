"""One corpus of tiny recordings with the layers of a speech model and of a text model."""

from dataclasses import dataclass

import pytest

import featcache
from featcache.extraction import extract
from featcache.workspace import Workspace
from tests.conftest import draw_nothing
from tests.prediction.trained.conftest import write_corpus

SHORT = {"head": "ffn", "seeds": (1,), "max_epochs": 2, "patience": 2, "protocol": "loso", "target": "emotion"}


@dataclass(frozen=True, kw_only=True)
class TunedPlace:
    """Workspace with the corpus ``toy`` and its cache.

    Attributes:
        workspace: Folder of corpora, caches and runs.
        models: Name of a store → folder of its model.
    """

    workspace: Workspace
    models: dict

    def finetune(self, **options):
        """Fine-tune from the first stored layer that the options name, in the given home."""
        given = {"features": "ssl", "from_layer": 1, **SHORT, "corpus": "toy", "home": self.workspace.home, **options}
        names = [given["features"]] if isinstance(given["features"], str) else given["features"]
        return featcache.finetune(**{"model": [f"{name}={self.models[name]}" for name in names], **given})


@pytest.fixture(scope="session")
def place(tmp_path_factory, speech_like, tiny_model, tiny_text_model):
    home = tmp_path_factory.mktemp("finetuning") / "data"
    workspace = Workspace.at(home)
    write_corpus(workspace.corpus("toy"), speech_like)
    models = {"ssl": tiny_model("wav2vec2"), "text": tiny_text_model("bert"), "whisper": tiny_model("whisper")}
    models["unpadded"] = models["whisper"]
    common = {"corpus": "toy", "egemaps": False, "workers": 1, "home": home, "store": "float32"}
    extract(model=models["ssl"], name="ssl", **common)
    extract(model=models["whisper"], name="whisper", keep_padding=True, layers="2", **common)
    extract(model=models["whisper"], name="unpadded", layers="2", **common)
    extract(text=models["text"], name="text", **common)
    return TunedPlace(workspace=workspace, models=models)


@pytest.fixture(scope="module", autouse=True)
def _empty_figures():
    """Make runs write empty figures, because drawing takes longer than training."""
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        yield
