"""What the networks with rotary positions call their tensors, and where their norms stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from embedstream.service.engine.rotary import RotaryKind


class Names(NamedTuple):
    """Of the tensors of a layer: a norm that is not there is None.

    `prefix` is what a head's owner puts before all names. Queries, keys and values are one matrix or three; so are the
    two halves of the gated product, of which the first is activated unless `activated_last`. A norm `after` a block
    is of the block's result before it is added to what came in; with `sums_normed`, of the sum.
    """

    prefix: str
    words: str
    layer: str
    attention: tuple[str, ...]
    attended: str
    gated: tuple[str, ...]
    narrow: str
    types: str | None = None
    words_norm: str | None = None
    before_attention: str | None = None
    after_attention: str | None = None
    before_gated: str | None = None
    after_gated: str | None = None
    last_norm: str | None = None
    query_norm: str | None = None
    key_norm: str | None = None
    activated_last: bool = False
    sums_normed: bool = False


_QWEN3 = Names(
    prefix="model.",
    words="embed_tokens",
    layer="layers",
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attended="self_attn.o_proj",
    gated=("mlp.gate_proj", "mlp.up_proj"),
    narrow="mlp.down_proj",
    before_attention="input_layernorm",
    before_gated="post_attention_layernorm",
    last_norm="norm",
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
)
# As transformers calls the parts of NomicBERT and GTE; most files have the names of their makers' own code.
_NOMIC = Names(
    prefix="nomic_bert.",
    words="embeddings.word_embeddings",
    layer="layers",
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attended="self_attn.o_proj",
    gated=("mlp.gate_proj", "mlp.up_proj"),
    narrow="mlp.down_proj",
    types="embeddings.token_type_embeddings",
    words_norm="embeddings.LayerNorm",
    after_attention="post_attention_layernorm",
    after_gated="post_mlp_layernorm",
    sums_normed=True,
)
NAMES: dict[RotaryKind, tuple[Names, ...]] = {
    "modernbert": (
        Names(
            prefix="model.",
            words="embeddings.tok_embeddings",
            layer="layers",
            attention=("attn.Wqkv",),
            attended="attn.Wo",
            gated=("mlp.Wi",),
            narrow="mlp.Wo",
            words_norm="embeddings.norm",
            before_attention="attn_norm",
            before_gated="mlp_norm",
            last_norm="final_norm",
        ),
    ),
    "qwen3": (_QWEN3,),
    "gemma3_text": (
        _QWEN3._replace(
            after_attention="post_attention_layernorm",
            before_gated="pre_feedforward_layernorm",
            after_gated="post_feedforward_layernorm",
        ),
    ),
    "nomic_bert": (
        _NOMIC,
        _NOMIC._replace(
            prefix="bert.",
            layer="encoder.layers",
            attention=("attn.Wqkv",),
            attended="attn.out_proj",
            gated=("mlp.fc12", "mlp.fc11"),
            narrow="mlp.fc2",
            words_norm="emb_ln",
            after_attention="norm1",
            after_gated="norm2",
        ),
    ),
    "gte": (
        _NOMIC._replace(prefix="gte."),
        _NOMIC._replace(
            prefix="new.",
            layer="encoder.layer",
            attention=("attention.qkv_proj",),
            attended="attention.o_proj",
            gated=("mlp.up_gate_proj",),
            after_attention="attn_ln",
            after_gated="mlp_ln",
            activated_last=True,
        ),
    ),
}
