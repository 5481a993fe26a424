"""The options of ``featcache publish``."""

from dataclasses import dataclass

from featcache.settings.field import setting
from featcache.settings.fits import PluginSettings


@dataclass(frozen=True, kw_only=True)
class PublishSettings(PluginSettings):
    """The options of ``featcache publish``."""

    seed: int | None = setting(
        None, "Publish the heads of this seed only [default: all seeds].", minimum=0, identity=False
    )
    fold: int | None = setting(
        None, "Publish the heads of this fold only, counted from 1 [default: all folds].", minimum=1, identity=False
    )
    onnx: bool = setting(
        False, "Also write each head as an ONNX graph, from features to scores (extra onnx).", identity=False
    )
    license: str | None = setting(
        None,
        "Licence of the published heads, as the Hugging Face hub names it, such as cc-by-nc-4.0 [default: not stated].",
        identity=False,
    )
    push: str | None = setting(
        None,
        "Id on the Hugging Face hub, OWNER/NAME, to which FOLDER is uploaded; log in with 'hf auth login' first.",
        identity=False,
    )
    private: bool = setting(False, "With --push, make the repository private.", identity=False)
    overwrite: bool = setting(
        False, "Write FOLDER again, also if its files, such as README.md, were edited.", identity=False
    )
