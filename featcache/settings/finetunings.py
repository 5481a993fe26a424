"""The options of ``featcache finetune``."""

from dataclasses import dataclass

from featcache.settings.field import setting
from featcache.settings.fits import FitSettings, Norm
from featcache.settings.types import Folders, Layers

# Upper limit, so that a wrong number is refused before training and not by a lack of memory.
LARGEST_RANK = 4096


@dataclass(frozen=True, kw_only=True)
class BlockSettings:
    """Blocks that are trained, and their training steps."""

    from_layer: Layers | None = setting(
        None,
        "Stored layer from which training starts, one for each store: 0 trains all blocks, 8 trains the blocks from "
        "the ninth on, -1 trains the last block, -2 the last two; required, except with --config.",
    )
    blocks_learning_rate: float = setting(
        1e-5,
        "Learning rate of the blocks; --learning-rate is that of the head. 0 keeps the blocks as they are, without "
        "dropout.",
        minimum=0,
    )
    blocks_dropout: float | None = setting(
        None, "Dropout rate in the blocks [default: the rates of the model's configuration].", minimum=0, maximum=0.99
    )
    layer_dropout: float | None = setting(
        None,
        "Probability that a block is left out in a training step (LayerDrop), if the head uses the last layer only "
        "[default: that of the model's configuration].",
        minimum=0,
        maximum=0.99,
    )
    time_mask: float = setting(
        0.0,
        "Share of frames of layer 0 that are masked in training, as transformers masks them (mask_time_prob); 0 for no "
        "masks.",
        minimum=0,
        maximum=0.99,
    )
    batch_seconds: float | None = setting(
        None,
        "Make batches of utterances of similar length, of this many seconds (above 0) with padding, in place of "
        "--batch-size [default: batches of equal numbers].",
        above=0,
    )
    group_by_length: bool = setting(
        False, "Make batches of --batch-size utterances of similar length, which need less padding."
    )
    max_steps: int | None = setting(
        None,
        "Maximum number of training steps, if --max-epochs has more [default: no limit of the steps].",
        minimum=1,
    )
    accumulate: int = setting(
        1, "Number of batches whose gradients are added for one training step.", minimum=1, maximum=10_000
    )
    clip_norm: float | None = setting(
        None,
        "Maximum norm of all gradients together, above 0, in place of --clip-value [default: no limit of the norm].",
        above=0,
    )
    lora: int | None = setting(
        None,
        "Rank of low-rank adapters (LoRA) that are trained in place of the blocks (extra lora); they need a higher "
        "--blocks-learning-rate, such as 1e-3 [default: train the blocks].",
        minimum=1,
        maximum=LARGEST_RANK,
    )
    lora_alpha: float | None = setting(
        None,
        "Factor of the adapters (above 0), which is divided by their rank [default: the rank].",
        above=0,
    )
    lora_dropout: float = setting(0.0, "Dropout rate of the inputs of the adapters.", minimum=0, maximum=0.99)
    lora_modules: str = setting(
        "attention",
        "Layers of the blocks that have adapters: attention for the projections of the attention, all for all linear "
        "layers, or their names, such as q_proj,v_proj.",
    )
    gradient_checkpointing: bool = setting(
        False,
        "Compute the outputs of each block again in the backward pass, which needs less memory and more time.",
        identity=False,
    )


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(BlockSettings, FitSettings):
    """The options of ``featcache finetune``; they include those of ``featcache fit``."""

    norm: Norm = setting("none", "Normalisation of features; the blocks need stored layers as they are: only none.")
    layers: str = setting(
        "last",
        "Layers of the fine-tuned model that the head uses: last, all (from --from-layer on), or a list such as 10-12.",
    )
    max_frames: int | None = setting(
        None,
        "Number of frames to use from the beginning of each utterance; 0 uses all frames [default: 0].",
        minimum=0,
    )
    model: Folders = setting(
        (),
        "Folder or name of the model, as FOLDER or STORE=FOLDER. Can be repeated [default: as recorded with the "
        "store].",
        identity=False,
    )

    @property
    def blocks(self) -> BlockSettings:
        """Options of the blocks and their training steps."""
        return BlockSettings(**{name: getattr(self, name) for name in BlockSettings.__dataclass_fields__})


# Options of a fit that change normalised features or need several stores of one model.
NOT_IN_FINETUNING = (
    *("scalar_norm", "norm_by", "train_views", "test_view"),
    *("mask_time", "mask_dims", "feature_noise", "crop", "also"),
    *("train", "test", "label_map"),
)
