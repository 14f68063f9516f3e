"""A Hugging Face snapshot from a GGUF file, with what the conversion loses put right.

transformers dequantizes the weights to float32 and rebuilds the tokenizer from the file's vocabulary. For the
`smollm` tokenizer that rebuild is not the original's:

- `Digits(individual_digits=True)` is missing before the byte-level split, so numbers tokenize as the model never
  saw them in pretraining (53 of 201 documents came out differently). It is put back.
- 21 of the 256 byte tokens are absent from the vocabulary (0x04, 0x06, 0x13, 0x14, 0x16, 0x1d, 0xf1, 0xf2 and the
  bytes that no UTF-8 text holds); a character with such a byte vanished silently. They are appended to the BPE
  vocabulary, so the byte-level decoder gives them back, and each gets an embedding row: the mean of the rows of the
  byte tokens that are there. Such a row is as likely an output as the average byte, and no other row moves.

Gemma's SentencePiece tokenizer, whose merges the file does not list, comes back whole but for one thing: on 94 texts
(the sample documents and texts made to break it) it was compared with SentencePiece's algorithm on the file's own
scores, and only runs of more than 31 spaces, Gemma's longest token of spaces, are divided otherwise (33 spaces into
16 + 17 instead of 31 + 2). The pretrained model's file holds no chat template, so the snapshot has none.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.models.embeddings import extend_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Value of `tokenizer.ggml.pre` in files whose tokenizer is SmolLM's.
SMOLLM_PRETOKENIZER = "smollm"


class GgufError(UserError):
    """A file is no GGUF model that can be read."""


@dataclass(frozen=True)
class GgufFacts:
    """What a GGUF file says of itself."""

    architecture: str
    pretokenizer: str | None
    license: str | None


def read_gguf_facts(file: Path) -> GgufFacts:
    """Architecture, pre-tokenizer and licence from the header of `file`; reads no weights.

    Raises:
        GgufError: it is no GGUF file.
    """
    from gguf import GGUFReader  # noqa: PLC0415 - imports numpy, and maps the file

    try:
        fields = GGUFReader(file).fields
    except (ValueError, IndexError) as error:
        raise GgufError(
            f"{file} cannot be read as GGUF ({error}). Download it again, or name another model in model.base_model."
        ) from None

    def text(key: str) -> str | None:
        return str(fields[key].contents()) if key in fields else None

    return GgufFacts(text("general.architecture") or "unknown", text("tokenizer.ggml.pre"), text("general.license"))


def convert_gguf(file: Path, out: Path, facts: GgufFacts | None = None) -> GgufFacts:
    """Write the model (float32 safetensors) and tokenizer of a GGUF file to `out` as a Hugging Face snapshot.

    `facts` are those of the file, where they are known: its header takes seconds with a large vocabulary.

    Raises:
        GgufError: the file is damaged, or its architecture is none that transformers reads from GGUF.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    facts = facts or read_gguf_facts(file)
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except (ValueError, NotImplementedError) as error:
        raise GgufError(
            f"{file}: transformers cannot read this GGUF model of architecture {facts.architecture!r} ({error}). "
            "Name the original instead, as hf:ORG/NAME or as a local directory with safetensors."
        ) from None
    _forget_quantization(model)
    model.float()
    tokenizer.save_pretrained(out)
    if facts.pretokenizer == SMOLLM_PRETOKENIZER:
        extend_embeddings(model, restore_smollm_tokenizer(out / "tokenizer.json"))
    _tidy_tokenizer_config(out / "tokenizer_config.json", model.config.max_position_embeddings)
    model.save_pretrained(out)
    return facts


def restore_smollm_tokenizer(tokenizer_file: Path) -> list[dict[str, Any]]:
    """Put digit splitting and the absent byte tokens back into a converted `tokenizer.json`.

    Returns the appended tokens as `extend_embeddings` takes them, in byte order; `base_ids` are all byte tokens that
    were there before.
    """
    from tokenizers import Tokenizer, pre_tokenizers

    backend = Tokenizer.from_file(str(tokenizer_file))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tree = json.loads(backend.to_str())
    vocabulary: dict[str, int] = tree["model"]["vocab"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    present = sorted(vocabulary[character] for character in alphabet if character in vocabulary)
    first = max([*vocabulary.values(), *(token["id"] for token in tree["added_tokens"])]) + 1
    absent = [character for character in alphabet if character not in vocabulary]
    appended = [
        {"id": first + index, "token": character, "base_ids": present} for index, character in enumerate(absent)
    ]
    vocabulary.update({token["token"]: token["id"] for token in appended})
    tokenizer_file.write_text(json.dumps(tree, ensure_ascii=False, indent=2), encoding="utf-8")
    return appended


def _tidy_tokenizer_config(file: Path, max_length: int) -> None:
    """Name the class that every transformers version knows, and drop what says how this machine loaded it."""
    config = json.loads(file.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only", "name_or_path"):
        config.pop(key, None)
    # The class that takes tokenizer.json as it is, by the name that transformers 4 knows too. Classes named after a
    # model build parts of the tokenizer anew when they load it.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["clean_up_tokenization_spaces"] = False  # would change spaces before punctuation in decoded text
    config["model_max_length"] = max_length
    file.write_text(json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _forget_quantization(model: "PreTrainedModel") -> None:
    """The weights are dense float32 now; save_pretrained refuses them while the model says otherwise."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    vars(model.config).pop("_model_name_or_path", None)  # the file's own title, which would pose as a path
    rope = getattr(model.config, "rope_parameters", None)
    # transformers 4 and older servers read only the keys set here, and would silently take a default without them.
    if isinstance(rope, dict) and "rope_theta" in rope:
        model.config.rope_theta = rope["rope_theta"]
    elif isinstance(rope, dict) and {"full_attention", "sliding_attention"} <= rope.keys():
        model.config.rope_theta = rope["full_attention"]["rope_theta"]
        model.config.rope_local_base_freq = rope["sliding_attention"]["rope_theta"]
