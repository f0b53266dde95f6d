"""Text to audio: Stable Audio, AudioLDM and AudioLDM 2."""

from ..parts import VOCABULARY, model, scheduler, t5, tokenizer, unet_config, vae
from ..recipe import ZooRecipe

_OOBLECK = {
    "encoder_hidden_size": 6,
    "downsampling_ratios": [1, 2],
    "decoder_channels": 3,
    "audio_channels": 2,
    "channel_multiples": [2, 4],
    "sampling_rate": 16,
}


def _clap() -> object:
    from transformers import ClapConfig, ClapModel

    return ClapModel(_clap_config(ClapConfig)).eval()


def _clap_text() -> object:
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    return ClapTextModelWithProjection(ClapTextConfig(**_CLAP_TEXT)).eval()


_CLAP_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "projection_dim": 16,
    "bos_token_id": 1072,
    "eos_token_id": 1073,
    "pad_token_id": 1,
}


def _clap_config(config_class: type) -> object:
    audio = {
        "spec_size": 8,
        "window_size": 4,
        "num_mel_bins": 8,
        "intermediate_size": 37,
        "depths": [1, 1],
        "num_attention_heads": [1, 1],
        "num_hidden_layers": 1,
        "hidden_size": 192,
        "projection_dim": 16,
        "patch_size": 2,
        "patch_stride": 2,
        "patch_embed_input_channels": 4,
    }
    return config_class(text_config=_CLAP_TEXT, audio_config=audio, projection_dim=16)


def _clap_features() -> object:
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(feature_size=8, hop_length=7900, sampling_rate=16000)


def _bytes() -> object:
    """A tokenizer of RoBERTa's class, whose tokens are bytes: the pipeline asks for the class."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    return RobertaTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=16
    )


def _letters() -> object:
    """A tokenizer of T5's class, whose tokens are letters."""
    import string

    from transformers import T5TokenizerFast

    words = ["<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase]
    return T5TokenizerFast(
        vocab=[(word, -float(index)) for index, word in enumerate(words)], model_max_length=16
    )


_VOCODER = model(
    "SpeechT5HifiGan",
    "transformers",
    model_in_dim=8,
    sampling_rate=16000,
    upsample_initial_channel=16,
    upsample_rates=[2, 2],
    upsample_kernel_sizes=[4, 4],
    resblock_kernel_sizes=[3, 7],
    resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
    normalize_before=False,
)
_MEL_VAE = vae(4, (8, 16), in_channels=1, out_channels=1)
_DDIM = scheduler("DDIMScheduler", beta_schedule="scaled_linear", clip_sample=False)
_CLASS_UNET = model(
    "UNet2DConditionModel",
    **{
        **unet_config(),
        "cross_attention_dim": (8, 16),
        "class_embed_type": "simple_projection",
        "projection_class_embeddings_input_dim": 16,
        "class_embeddings_concat": True,
    },
)

PIPELINES = {
    "StableAudioPipeline": ZooRecipe(
        "text to audio",
        {
            "text_encoder": t5(16),
            "tokenizer": tokenizer(16),
            "projection_model": model(
                "StableAudioProjectionModel",
                text_encoder_dim=16,
                conditioning_dim=16,
                min_value=0,
                max_value=32,
            ),
            "transformer": model(
                "StableAudioDiTModel",
                sample_size=64,
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                num_key_value_attention_heads=2,
                cross_attention_dim=16,
                time_proj_dim=8,
                global_states_input_dim=32,
                cross_attention_input_dim=16,
            ),
            "vae": model("AutoencoderOobleck", **_OOBLECK, decoder_input_channels=4),
            # The pipeline's own scheduler draws a Brownian tree, for which torchsde is needed.
            "scheduler": scheduler(
                "EDMDPMSolverMultistepScheduler", prediction_type="v_prediction", sigma_data=1.0
            ),
        },
        {"audio_end_in_s": 4.0, "guidance_scale": 4.0},
    ),
    "AudioLDMPipeline": ZooRecipe(
        "text to audio",
        {
            "text_encoder": _clap_text,
            "tokenizer": tokenizer(16),
            "vae": _MEL_VAE,
            "unet": _CLASS_UNET,
            "scheduler": _DDIM,
            "vocoder": _VOCODER,
        },
        {"audio_length_in_s": 0.016, "guidance_scale": 4.0, "output_type": "pt"},
    ),
    "AudioLDM2Pipeline": ZooRecipe(
        "text to audio",
        {
            "text_encoder": _clap,
            "tokenizer": _bytes,
            "feature_extractor": _clap_features,
            "text_encoder_2": t5(32),
            "tokenizer_2": _letters,
            "language_model": model(
                "GPT2LMHeadModel",
                "transformers",
                n_embd=16,
                n_head=2,
                n_layer=1,
                vocab_size=VOCABULARY,
                n_positions=99,
                max_new_tokens=8,
            ),
            "projection_model": model(
                "AudioLDM2ProjectionModel",
                text_encoder_dim=16,
                text_encoder_1_dim=32,
                langauge_model_dim=16,
            ),
            "vae": _MEL_VAE,
            "unet": model(
                "AudioLDM2UNet2DConditionModel",
                **{
                    **{k: v for k, v in unet_config().items() if k != "attention_head_dim"},
                    "norm_num_groups": 8,
                    # Itself, the language model and the second text encoder.
                    "cross_attention_dim": ((None, 16, 32),) * 2,
                },
            ),
            "scheduler": _DDIM,
            "vocoder": _VOCODER,
        },
        {
            "audio_length_in_s": 0.016,
            "guidance_scale": 4.0,
            "max_new_tokens": 8,
            "output_type": "pt",
        },
    ),
}
