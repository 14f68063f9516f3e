"""A forward pass over rows of unlike length without padding: each row brings as many new tokens as it has.

The new tokens of all rows are packed into one sequence (1, N), so that embedding, projections and MLP are computed for
real tokens only. Attention is computed

- for the last new token of every row together, in one call over all rows' keys (all of a plain decoding step), and
- for the tokens before it (a prompt, or a run of tokens that the grammar forces) row by row, over that row alone.

Heads that share keys and values (grouped-query attention) are laid beside each other as further queries, so that these
are read once and not repeated: repeating them is most of what a decoding step of a small model costs on a CPU.

Shapes: R rows, T tokens of the longest row, N new tokens of all rows, H heads, K key-value heads, G = H / K, D head
size, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.digesting.row_cache import RowCache

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_ATTENTION = "packed_rows"
_LAYER_TYPES = {"full_attention", "sliding_attention"}
# Of a model's attention, what `_attend` does not compute.
_REFUSED_OPTIONS = ("attn_logit_softcapping", "attention_chunk_size")


def make_packable(model: "PreTrainedModel") -> None:
    """Let `forward_packed` compute the model's attention; the model's own calls give what they gave before.

    Raises:
        DigestingError: its attention cannot be replaced, or is of a kind that is not computed here.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    config = model.config.get_text_config(decoder=True)
    found = sorted(set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES)
    found += [name for name in _REFUSED_OPTIONS if getattr(config, name, None) is not None]
    if found or not model.is_backend_compatible():
        raise DigestingError(
            f"{type(model).__name__} ({', '.join(found) or 'attention code of its own'}): digests need a decoder with "
            "full or sliding-window attention that takes its attention function from transformers, as Llama, Mistral, "
            "Qwen 2 and 3, Gemma 3 and Phi do. Choose another model.base_model."
        )
    AttentionInterface.register(_ATTENTION, _attend)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
    model.set_attn_implementation(_ATTENTION)


def forward_packed(
    model: "PreTrainedModel", cache: RowCache, tokens: Sequence[Sequence[int]], starts: Sequence[int]
) -> "torch.Tensor":
    """Logits (R, V) behind the last token of each row, whose keys and values are in `cache` afterwards.

    Args:
        model: One that `make_packable` was called with.
        cache: Its rows are those of `tokens`, from the first one on.
        tokens: New tokens of each row, at least one.
        starts: Tokens that each row holds already.
    """
    import torch

    device = model.device
    step = _Step(tuple(starts), tuple(map(len, tokens)), device, model.dtype)
    rows_N = torch.tensor([row for row, new in enumerate(tokens) for _ in new], device=device)
    positions_N = torch.tensor(
        [start + offset for new, start in zip(tokens, starts, strict=True) for offset in range(len(new))], device=device
    )
    cache.expect(rows_N, positions_N, num_rows=len(tokens), num_tokens=step.num_tokens)
    output = model(
        input_ids=torch.tensor([[token for new in tokens for token in new]], device=device),
        # Four dimensions: models take a mask as made for them then, and make none of their own.
        attention_mask=torch.zeros((1, 1, 1, 1), dtype=model.dtype, device=device),
        position_ids=positions_N.unsqueeze(0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=step.last_N,
        packed_step=step,
    )
    logits_RV: torch.Tensor = output.logits[0]
    return logits_RV


@dataclass(frozen=True)
class _Step:
    """How the new tokens of one step lie, and the masks that all layers share."""

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    device: "torch.device"
    dtype: "torch.dtype"
    _masks: "dict[tuple[int | None, ...], torch.Tensor]" = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """T."""
        return max(map(sum, zip(self.starts, self.counts, strict=True)))

    @property
    def last_N(self) -> "torch.Tensor":
        """Place of each row's last token among the N, (R,) int64."""
        import torch

        return torch.tensor(self.counts, device=self.device).cumsum(0) - 1

    def last_mask(self, window: int | None) -> "torch.Tensor":
        """What the rows' last tokens see, (R, 1, 1, T): 0, or -inf for what they do not."""
        import torch

        last = [start + count - 1 for start, count in zip(self.starts, self.counts, strict=True)]
        return self._mask((window,), torch.tensor(last, device=self.device), self.num_tokens, window).view(
            len(last), 1, 1, -1
        )

    def run_mask(self, row: int, groups: int, window: int | None) -> "torch.Tensor":
        """What the tokens before a row's last one see, once per head of a group: (G * Q, T of the row)."""
        import torch

        start, end = self.starts[row], self.starts[row] + self.counts[row] - 1
        positions = torch.arange(start, end, device=self.device).repeat(groups)
        return self._mask((window, row, groups), positions, end, window)

    def _mask(
        self, key: tuple[int | None, ...], positions_Q: "torch.Tensor", num_keys: int, window: int | None
    ) -> "torch.Tensor":
        import torch

        if key not in self._masks:
            keys = torch.arange(num_keys, device=self.device)
            hidden = keys > positions_Q.unsqueeze(-1)
            if window is not None:
                hidden |= keys <= positions_Q.unsqueeze(-1) - window
            mask = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
            self._masks[key] = mask.masked_fill_(hidden, float("-inf"))
        return self._masks[key]


def _attend(
    module: "torch.nn.Module",
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    packed_step: _Step | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> "tuple[torch.Tensor, None]":
    """Attention output (1, N, H, D) for `query` (1, H, N, D), `key` and `value` (R, K, T, D) as `RowCache` gives them.

    Without a step it is transformers' own attention.
    """
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packed_step is None:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, sliding_window=sliding_window, **options
        )
        return output
    num_new, num_kv_heads = query.shape[2], key.shape[1]
    groups = query.shape[1] // num_kv_heads
    query_NKGD = query[0].transpose(0, 1).reshape(num_new, num_kv_heads, groups, -1)
    last_N = packed_step.last_N
    attended = query.new_empty(query_NKGD.shape[:3] + value.shape[-1:])
    attended[last_N] = scaled_dot_product_attention(
        query_NKGD[last_N], key, value, attn_mask=packed_step.last_mask(sliding_window), scale=scaling
    )
    first = 0
    for row, count in enumerate(packed_step.counts):
        if count > 1:
            run = slice(first, first + count - 1)
            end = packed_step.starts[row] + count - 1
            # (Q, K, G, D) -> (1, K, G * Q, D) and back
            queries = query_NKGD[run].permute(1, 2, 0, 3).flatten(1, 2).unsqueeze(0)
            mask = packed_step.run_mask(row, groups, sliding_window)
            result = scaled_dot_product_attention(
                queries, key[row : row + 1, :, :end], value[row : row + 1, :, :end], attn_mask=mask, scale=scaling
            )
            attended[run] = result[0].view(num_kv_heads, groups, count - 1, -1).permute(2, 0, 1, 3)
        first += count
    return attended.flatten(1, 2).unsqueeze(0), None
