"""Small GGUF files for test_gguf.py: a random one-layer Llama with a byte-level vocabulary."""

from pathlib import Path

import gguf
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# As in SmolLM2's own file: 0x04, 0x06, 0x13, 0x14, 0x16, 0x1d, 0xf1, 0xf2 and the bytes that UTF-8 never uses.
ABSENT_BYTES = "ĆòÁüþõöÀÿùûĄĔñ÷ýēúĖøĝ"
CHAT_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
HIDDEN_SIZE = 8


def write_tiny_gguf(
    file: Path, *, pretokenizer: str, architecture: str = "llama", license_name: str = "apache-2.0"
) -> list[str]:
    """Write the file and return its tokens; of the bytes, `ABSENT_BYTES` are left out."""
    tokens = [*SPECIAL_TOKENS, *(c for c in sorted(ByteLevel.alphabet()) if c not in ABSENT_BYTES), "12", "th", "the"]
    generator = np.random.default_rng(3)
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_license(license_name)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN_SIZE)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(50000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pretokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL_TOKENS) + [1] * (len(tokens) - len(SPECIAL_TOKENS)))
    writer.add_token_merges(["1 2", "t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    shapes = {
        "token_embd.weight": (len(tokens), HIDDEN_SIZE),
        "output_norm.weight": (HIDDEN_SIZE,),
        "blk.0.attn_norm.weight": (HIDDEN_SIZE,),
        "blk.0.ffn_norm.weight": (HIDDEN_SIZE,),
        "blk.0.attn_q.weight": (HIDDEN_SIZE, HIDDEN_SIZE),
        "blk.0.attn_k.weight": (HIDDEN_SIZE // 2, HIDDEN_SIZE),
        "blk.0.attn_v.weight": (HIDDEN_SIZE // 2, HIDDEN_SIZE),
        "blk.0.attn_output.weight": (HIDDEN_SIZE, HIDDEN_SIZE),
        "blk.0.ffn_gate.weight": (16, HIDDEN_SIZE),
        "blk.0.ffn_up.weight": (16, HIDDEN_SIZE),
        "blk.0.ffn_down.weight": (HIDDEN_SIZE, 16),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, generator.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tokens
