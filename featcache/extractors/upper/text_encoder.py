"""Text encoder of transformers → its part above a stored layer, for any architecture with a list of blocks."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from featcache.errors import ModelError
from featcache.extractors.stored_start import StoredBatch, UpperEncoder


class EncoderFromTokens(UpperEncoder):
    """Text encoder that runs on meaningless tokens; the first block receives the stored layer instead of them.

    Args:
        encoder: Encoder, without the blocks below the stored layer.
        blocks: Its other blocks.
        trained: Parameters that are trained.
        batch: Batch with the stored layer.
        token: Number of the meaningless token.
    """

    def __init__(
        self, encoder: Any, blocks: Any, trained: list[nn.Parameter], batch: StoredBatch, *, token: int
    ) -> None:
        super().__init__(encoder, blocks, trained, batch)
        self._token = token
        self.accepts_mask = "attention_mask" in inspect.signature(encoder.forward).parameters

    def run(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Run the encoder on as many tokens as there are frames."""
        shape = states.shape[:2]
        tokens = torch.full(shape, self._token, dtype=torch.long, device=states.device)
        masked = {} if mask is None or not self.accepts_mask else {"attention_mask": mask.long()}
        output: Tensor = self.encoder(input_ids=tokens, **masked).last_hidden_state
        return output


def cut_text(
    module: Any, model: str, num_blocks: int, hidden_size: int, layer: int, batch: StoredBatch
) -> EncoderFromTokens:
    """Return the part of a text encoder above a stored layer; the encoder cannot be used otherwise after this.

    Args:
        module: Encoder of transformers.
        model: Name of the model, for messages.
        num_blocks: Number of its transformer blocks.
        hidden_size: Number of values per token.
        layer: Number of the stored layer.
        batch: Batch with the stored layer.

    Raises:
        ModelError: the blocks are not in a list, or share their weights.
    """
    blocks = _blocks(module, num_blocks)
    if blocks is None:
        raise ModelError(
            f"{model} cannot be fine-tuned from a store: its {num_blocks} blocks share their weights; use a model such "
            "as bert-base-uncased"
        )
    below = [parameter for block in blocks[:layer] for parameter in block.parameters()]
    _keep_relative_bias(blocks, layer)
    for part in module.modules():
        # DeBERTa's convolution reads the input and the output of the first block.
        if getattr(part, "conv", None) is not None and getattr(part, "layer", None) is blocks:
            if layer > 0:
                part.conv = None
            else:
                part.register_forward_pre_hook(batch.replace_input, with_kwargs=True)
    del blocks[:layer]
    module.config.use_cache = False
    token = _shrink_vocabulary(module)
    blocks[0].register_forward_pre_hook(batch.replace_input, with_kwargs=True)
    upper = EncoderFromTokens(module, blocks, [], batch, token=token)
    frozen = {id(parameter) for parameter in below}
    upper.trained = [one for one in _reached(upper, layer, hidden_size) if id(one) not in frozen]
    return upper


def _blocks(module: Any, num_blocks: int) -> Any:
    """Return the outermost list of ``num_blocks`` modules that do not share parameters, or None."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList) and len(part) == num_blocks:
            parameters = [id(parameter) for block in part for parameter in set(block.parameters())]
            return part if len(parameters) == len(set(parameters)) else None
    return None


def _keep_relative_bias(blocks: Any, layer: int) -> None:
    """Give the first remaining block of T5 the embeddings of relative positions, which are in the first block."""
    for first, remaining in zip(blocks[0].modules(), blocks[layer].modules(), strict=False):
        if getattr(first, "has_relative_attention_bias", False) and not remaining.has_relative_attention_bias:
            remaining.relative_attention_bias = first.relative_attention_bias
            remaining.has_relative_attention_bias = True
            return


def _shrink_vocabulary(module: Any) -> int:
    """Replace the embeddings of tokens, which no result depends on, by a small table; return a token of it."""
    words = module.get_input_embeddings()
    padding = getattr(words, "padding_idx", None)
    if type(words).__init__ is nn.Embedding.__init__ and (padding is None or padding < 2):
        module.set_input_embeddings(nn.Embedding(2, words.embedding_dim, padding_idx=padding))
    return 1 if padding == 0 else 0


def _reached(upper: EncoderFromTokens, layer: int, hidden_size: int) -> list[nn.Parameter]:
    """Return the parameters that are trained, found by the gradients of a forward pass.

    From layer 0, these are all parameters with a gradient. From higher layers, they are those of the blocks, and those
    that are used after the last block.
    """
    parameters = list(upper.parameters())
    states = torch.ones(1, 3, hidden_size)
    for parameter in parameters:
        parameter.requires_grad_(True)
    handle = upper.blocks[-1].register_forward_hook(_detach) if layer > 0 else None
    with torch.enable_grad():
        upper(states, None).sum().backward()
    found = {id(parameter) for parameter in parameters if parameter.grad is not None}
    if handle is not None:
        handle.remove()
        found |= {id(parameter) for block in upper.blocks for parameter in block.parameters()}
    for parameter in parameters:
        parameter.grad = None
    return [parameter for parameter in parameters if id(parameter) in found]


def _detach(_module: nn.Module, _args: Any, output: Any) -> Any:
    """Replace the hidden states by others that do not depend on the block; a forward hook."""
    states = (output if isinstance(output, Tensor) else output[0]).detach().requires_grad_()
    return states if isinstance(output, Tensor) else (states, *output[1:])
