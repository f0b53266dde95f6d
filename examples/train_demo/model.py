"""The architecture of the demo pipeline: SDXL's parts at a size that fits in a wheel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers import __version__ as TRANSFORMERS

LATENT_SIZE = 16
LATENT_CHANNELS = 4
TEXT_WIDTH = 64
TEXT_LENGTH = 16
TIME_ID_WIDTH = 32

# What transformers 4 reads of a CLIP tokenizer.
VOCAB, MERGES = "vocab.json", "merges.txt"


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
        force_upcast=False,
    )


def make_denoiser() -> UNet2DConditionModel:
    """SDXL's UNet in small: text and size conditioning, transformer blocks 128 wide."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=4,  # diffusers reads this as the number of heads of this class
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=6 * TIME_ID_WIDTH + TEXT_WIDTH,
        norm_num_groups=16,
    )


def make_scheduler() -> EulerDiscreteScheduler:
    # v-prediction: with so few steps and a noise schedule that does not end in pure noise, it is
    # better conditioned at the first step than predicting the noise.
    return EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def make_text_encoders(
    tokenizer: CLIPTokenizer,
) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config), CLIPTextModelWithProjection(config)


def train_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's format whose merges spell every word of the captions whole."""
    bos, eos = "<|startoftext|>", "<|endoftext|>"
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=eos))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=1,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        # Given first, these get their numbers in this order.  The trainer would number them in the
        # order of a hash table, which differs between runs, and break ties between merges by it.
        special_tokens=[letter + "</w>" for letter in alphabet],
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges = [
        tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in trained["merges"]
    ]
    vocab: dict[str, int] = {}
    for token in (
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *(a + b for a, b in merges),
        bos,
        eos,
    ):
        vocab.setdefault(token, len(vocab))
    folder.mkdir(parents=True, exist_ok=True)
    _write_vocabulary(vocab, merges, folder)
    # transformers 5 takes the vocabulary itself, 4 the files.
    files = {"vocab_file": str(folder / VOCAB), "merges_file": str(folder / MERGES)}
    tokenizer = CLIPTokenizer(
        **({"vocab": vocab, "merges": merges} if int(TRANSFORMERS.split(".")[0]) >= 5 else files),
        bos_token=bos,
        eos_token=eos,
        unk_token=eos,
        pad_token=eos,
        model_max_length=TEXT_LENGTH,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_readable_for_transformers_4(model: Path) -> None:
    """What transformers 4 reads and 5 writes in another way: vocabularies, names of weights."""
    for name in ("tokenizer", "tokenizer_2"):
        saved = model / name / "tokenizer.json"
        if saved.exists():
            vocabulary = json.loads(saved.read_text("utf-8"))["model"]
            _write_vocabulary(vocabulary["vocab"], vocabulary["merges"], saved.parent)
    weights = model / "text_encoder" / "model.safetensors"
    # Both read these names; 4 takes weights of other names for absent and draws them at random.
    named = {
        f"text_model.{name.removeprefix('text_model.')}": weight
        for name, weight in load_file(weights).items()
    }
    save_file(named, weights, metadata={"format": "pt"})


def _write_vocabulary(vocab: dict[str, int], merges: Sequence[Sequence[str]], folder: Path) -> None:
    text = json.dumps(vocab, ensure_ascii=False) + "\n"
    (folder / VOCAB).write_text(text, encoding="utf-8")
    lines = ("#version: 0.2", *(" ".join(pair) for pair in merges))
    (folder / MERGES).write_text("\n".join(lines) + "\n", encoding="utf-8")
