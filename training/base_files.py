"""Examines the files of a base model, without loading it: can the model be trained, merged, exported and served here?

Plan examines the files on the Hub or in the bucket before anything is paid. The job examines its own copy before its first
step. Both run this code, so both print the same lines. It needs the standard library alone, because Plan's function has no
torch and no transformers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.architectures import CAUSAL_LANGUAGE_MODELS
from training.errors import TrainingError
from training.model_files import INDEX, WEIGHTS, ModelFiles
from training.unfit_models import (
    ALL_LINEAR,
    MERGED,
    OTHER,
    SHOWN,
    TEMPLATE,
    UPLOAD,
    UPLOAD_OR,
    WHOLE,
    beyond_embeddings,
    no_chat_template,
    no_end,
    no_layer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.model_files import ModelFolder, Tensor

_MULTIMODAL = re.compile(r"(audio|image|speech|talker|text|thinker|vision|vq)(_\w+)?_config|vision_tower")
_SENTENCE_MODEL = ("modules.json", "config_sentence_transformers.json")
_QUANTIZATION_KEYS = ("quantization_config", "compression_config", "quantization")
_QUANTIZED_FILES = ("hf_quant_config.json", "quant_config.json", "quantize_config.json")
"""The files of NVIDIA's ModelOpt, AutoAWQ and AutoGPTQ."""

_VOCABULARIES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model"),
)
_EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|tok_embeddings|wte|word_embeddings|embed_in|embeddings?)\.weight$")
_ANY_HEAD = re.compile(r"head|embed_out|output|decoder|lm_loss")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
_NO_DEFAULT_EOS = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes without special tokens of their own."""


@dataclass(frozen=True)
class BaseFiles:
    """The facts about a base model that is fit, from its files."""

    parameters: int
    """All parameters of the model. A head that shares the embeddings' weight counts once."""
    vocabulary: int
    """Parameters of embeddings and head, which stay in 16 bits with QLoRA."""
    adapted: int
    """Parameters of the adapter per unit of its rank: inputs plus outputs of every layer that gets an adapter."""
    cache_bytes: int
    """Bytes of the keys and values of one token in 16 bits, if every layer keeps all of them; else 0."""
    warnings: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    """The content of config.json."""


def look(folder: ModelFolder, name: str, layers: Sequence[str], longest: tuple[str, int]) -> BaseFiles:
    """Examine the base model's small files and the headers of its weights.

    Args:
        folder: the model's files.
        name: training.base_model, for the messages.
        layers: lora.target_modules. `all-linear` alone stands for every linear layer but the head.
        longest: the setting with the longest sequence that the model must take, and its tokens.

    Raises:
        TrainingError: the model cannot be trained, merged, exported or served. The message has the reason and the remedy.
    """
    examination = _Look(folder, name)
    try:
        return examination.check(layers, longest)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        read = ", ".join(examination.files.documents)
        raise examination.files.refuse(
            f"has a value that transformers does not write in one of {read} ({type(error).__name__})", WHOLE
        ) from error


class _Look:
    def __init__(self, folder: ModelFolder, name: str) -> None:
        self.files = ModelFiles(folder, name)
        self.name = name
        self.warnings: list[str] = []

    def check(self, layers: Sequence[str], longest: tuple[str, int]) -> BaseFiles:
        self._is_a_model()
        config = self.files.json("config.json")
        self._is_unquantized(config)
        self._is_a_causal_lm(config)
        tokenizer = self.files.json("tokenizer_config.json") if "tokenizer_config.json" in self.files.sizes else {}
        self._talks(tokenizer)
        self._ends()
        self._takes(config, *longest)
        weights = self.files.weights()
        # If the files have a head, it is a weight of its own, whatever config.json says (transformers 5.3.0, `tie_weights`).
        tied = not any(_HEAD.search(name) for name in weights)
        weights = self._whole(config, weights)
        rows = self._rows(config, weights)
        self._fits(tokenizer, rows)
        adapted = self._layers(weights, layers, tied)
        vocabulary = [tensor for name, tensor in weights.items() if _EMBEDDINGS.search(name) or _HEAD.search(name)]
        return BaseFiles(
            parameters=sum(tensor.numbers for tensor in weights.values()),
            vocabulary=sum(tensor.numbers for tensor in vocabulary),
            adapted=sum(sum(tensor.shape) for tensor in adapted),
            cache_bytes=_cache_bytes(config),
            warnings=self.warnings,
            config=config,
        )

    def _is_a_model(self) -> None:
        """Refuse a folder without the files of a whole model: an adapter, GGUF files, or another library's model."""
        sizes = self.files.sizes
        gguf = any(file.endswith(".gguf") for file in sizes)
        if "adapter_config.json" in sizes:
            base = self.files.json("adapter_config.json").get("base_model_name_or_path")
            of = f" of {base}" if isinstance(base, str) and base else ""
            raise self.files.refuse(
                f"is an adapter{of} and not a whole model", f"name the model that it belongs to, {MERGED}"
            )
        if "model_index.json" in sizes:
            raise self.files.refuse("is a pipeline of diffusers, which makes images", OTHER)
        if any(file in sizes for file in _SENTENCE_MODEL):
            raise self.files.refuse("is an embedding model (sentence-transformers), which answers nothing", OTHER)
        found = WEIGHTS in sizes or INDEX in sizes
        if gguf and not found:
            raise self.files.refuse(
                "has GGUF files only", "name the repository with safetensors that they were made from"
            )
        if "config.json" not in sizes:
            own = ", but its maker's own form (params.json, consolidated.*)" if "params.json" in sizes else ""
            raise self.files.refuse(
                f"has no config.json{own}", f"name a repository in the form of transformers, or {UPLOAD}"
            )
        if not found:
            others = sorted(
                file for file in sizes if file.endswith((".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack"))
            )
            has = f" (it has {', '.join(others[:3])})" if others else ""
            raise self.files.refuse(
                f"has no {WEIGHTS} and no {INDEX}{has}",
                "choose a model that has, or load it with transformers, save it with save_pretrained and upload that to "
                "uploads/models/FOLDER/",
            )

    def _is_unquantized(self, config: dict[str, Any]) -> None:
        quantization = next((config[key] for key in _QUANTIZATION_KEYS if config.get(key)), None)
        files = [file for file in _QUANTIZED_FILES if file in self.files.sizes]
        if quantization is None and not files:
            return
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        by = f"config.json: {method or 'quantization'}" if quantization is not None else files[0]
        raise self.files.quantized(by)

    def _is_a_causal_lm(self, config: dict[str, Any]) -> None:
        kind = config.get("model_type")
        named = [name for name in config.get("architectures") or [] if isinstance(name, str)]
        several = sorted(key for key, value in config.items() if _MULTIMODAL.fullmatch(key) and isinstance(value, dict))
        if several:
            raise self.files.refuse(
                f"is a model of more than text ({kind}: {', '.join(several)})",
                "name a text-only model of its family, such as google/gemma-3-1b-it among Gemma 3",
            )
        known = CAUSAL_LANGUAGE_MODELS.get(kind) if isinstance(kind, str) else None
        own_code = config.get("auto_map")
        # transformers spells some names in another way: PhiMoEForCausalLM, Ernie4_5_ForCausalLM.
        if own_code and not (known and (not named or _spelled(known) in map(_spelled, named))):
            raise self._code(f"config.json, auto_map, for {', '.join(named) or kind}")
        if not known:
            raise self.files.refuse(
                f"is of the type {kind!r}, which is none of the causal language models that the training image's transformers "
                "runs (training/architectures.py)",
                OTHER,
            )
        if own_code:
            self.warnings.append(
                f"training.base_model: {self.name} brings code of its own, which is not run: transformers' own {known} is used"
            )
        if config.get("is_encoder_decoder") or (
            named and not any(name == known or name.endswith(("ForCausalLM", "LMHeadModel")) for name in named)
        ):
            raise self.files.refuse(
                f"is a {', '.join(named) or kind} and not a whole causal language model ({known})", OTHER
            )

    def _code(self, where: str) -> TrainingError:
        return self.files.refuse(
            f"needs code of its own to run ({where}), which is not trusted here",
            "choose a model that transformers has itself, often the repository of the same name with -hf",
        )

    def _talks(self, tokenizer: dict[str, Any]) -> None:
        """Refuse a model whose tokenizer is missing, needs its own code, or has no chat template or no end of a turn."""
        if not any(file in self.files.sizes for file in _VOCABULARIES):
            raise self.files.refuse(
                "has no tokenizer that transformers reads (tokenizer.json or tokenizer.model)", UPLOAD_OR
            )
        mapped = tokenizer.get("auto_map")
        if isinstance(mapped, list | dict) and (isinstance(mapped, list) or mapped.get("AutoTokenizer")):
            raise self._code("tokenizer_config.json, auto_map")
        template = tokenizer.get("chat_template")
        if isinstance(template, list):
            names = [entry.get("name") for entry in template if isinstance(entry, dict)]
            template = "default" in names
            if not template and "chat_template.jinja" not in self.files.sizes:
                shown = ", ".join(str(name) for name in names[:SHOWN])
                raise self.files.refuse(f"has chat templates ({shown}) and none that is called default", TEMPLATE)
        if not template and not self.files.sizes.get("chat_template.jinja"):
            raise no_chat_template(self.name)
        if tokenizer.get("eos_token") is None and (
            "eos_token" in tokenizer or tokenizer.get("tokenizer_class") in _NO_DEFAULT_EOS
        ):
            special = (
                self.files.json("special_tokens_map.json") if "special_tokens_map.json" in self.files.sizes else {}
            )
            if not special.get("eos_token"):
                raise no_end(self.name)

    def _ends(self) -> None:
        """Refuse end tokens that are not numbers. A token beyond the embeddings does no harm: the model cannot write it."""
        generation = self.files.json("generation_config.json") if "generation_config.json" in self.files.sizes else {}
        ends = generation.get("eos_token_id")
        if not all(
            isinstance(end, int) for end in (ends if isinstance(ends, list) else [] if ends is None else [ends])
        ):
            raise self.files.refuse("has an eos_token_id in generation_config.json that is no number", WHOLE)

    def _takes(self, config: dict[str, Any], setting: str, tokens: int) -> None:
        positions = max((config[key] for key in _POSITIONS if isinstance(config.get(key), int)), default=None)
        if positions is None:
            return
        most = _scaled(positions, config)
        if tokens > most:
            raise TrainingError(
                f"{setting}: {tokens} is more than the {most} tokens that {self.name} takes; lower it to that"
            )

    def _whole(self, config: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights that transformers loads: as many layers as config.json says, and a head."""
        layers = next((config[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if key in config), None)
        if isinstance(layers, int):
            numbers = {name: int(found[1]) for name in weights if (found := _LAYER.search(name))}
            have = max(numbers.values(), default=-1) + 1
            if have < layers:
                raise self.files.refuse(f"has weights of {have} layers where config.json has {layers}", WHOLE)
            # Further layers predict further tokens (DeepSeek, GLM), and are not loaded.
            weights = {name: tensor for name, tensor in weights.items() if numbers.get(name, 0) < layers}
        if config.get("tie_word_embeddings") is False and not any(_ANY_HEAD.search(name) for name in weights):
            raise self.files.refuse(
                "has no weights of a head (lm_head), so it is not a whole causal language model", OTHER
            )
        return weights

    def _rows(self, config: dict[str, Any], weights: dict[str, Tensor]) -> int | None:
        stated = config.get("vocab_size")
        found = [
            tensor.shape[0] for name, tensor in weights.items() if _EMBEDDINGS.search(name) and len(tensor.shape) > 1
        ]
        rows = max(found, default=None)
        if rows is not None and isinstance(stated, int) and stated not in found:
            raise self.files.refuse(
                f"has embeddings of {rows} tokens where config.json has a vocab_size of {stated}",
                "load it with transformers, call resize_token_embeddings and save it again, or choose another one",
            )
        return rows if rows is not None else stated if isinstance(stated, int) else None

    def _fits(self, tokenizer: dict[str, Any], rows: int | None) -> None:
        """Refuse a tokenizer with a token that has no row in the embeddings, if a text or the chat template can use it.

        A special token without a row does no harm if nothing names it, such as an image's token in a text-only model.
        """
        if rows is None:
            return
        beyond = {token: number for token, number in self._ordinary_tokens().items() if number >= rows}
        ends = " ".join(str(tokenizer.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token"))
        jinja = (
            self.files.folder.read("chat_template.jinja").decode(errors="replace")
            if "chat_template.jinja" in self.files.sizes
            else ""
        )
        named = f"{ends} {tokenizer.get('chat_template')} {jinja}"
        unused = {}
        for token, number, special in self._added_tokens(tokenizer):
            if number >= rows and (not special or token in named):
                beyond[token] = number
            elif number >= rows:
                unused[token] = number
        if beyond:
            first = min(beyond, key=lambda token: beyond[token])
            raise beyond_embeddings(self.name, first, beyond[first], rows)
        if unused:
            shown = ", ".join(sorted(unused, key=lambda token: unused[token])[:SHOWN])
            self.warnings.append(
                f"training.base_model: {self.name} has special tokens without a row in the embeddings, which nothing uses: "
                f"{shown}"
            )

    def _ordinary_tokens(self) -> dict[str, int]:
        if "tokenizer.json" not in self.files.sizes:
            return {}
        model = self.files.json("tokenizer.json").get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        if isinstance(vocabulary, list):  # a Unigram model has a list of pieces with their scores
            return {str(entry[0]): number for number, entry in enumerate(vocabulary)}
        return vocabulary if isinstance(vocabulary, dict) else {}

    def _added_tokens(self, tokenizer: dict[str, Any]) -> list[tuple[str, int, bool]]:
        """Return the tokens that were added to the vocabulary: token, id and whether it is special."""
        entries: list[Any] = []
        if "tokenizer.json" in self.files.sizes:
            entries += self.files.json("tokenizer.json").get("added_tokens") or []
        entries += [
            {"id": int(number), **entry} for number, entry in (tokenizer.get("added_tokens_decoder") or {}).items()
        ]
        return [(str(entry["content"]), int(entry["id"]), bool(entry.get("special"))) for entry in entries]

    def _layers(self, weights: dict[str, Tensor], names: Sequence[str], tied: bool) -> list[Tensor]:
        """Return the weights that get an adapter.

        For peft, a name stands for every module with this name, or whose path ends in a dot and this name (peft,
        `check_target_module_exists`). peft does not report a name that no module has.
        """
        # transformers 5 loads the experts of a layer as one weight, which is not a linear layer.
        modules = {
            name.removesuffix(".weight"): tensor
            for name, tensor in weights.items()
            if name.endswith(".weight") and ".experts." not in name
        }
        linear = {path: tensor for path, tensor in modules.items() if len(tensor.shape) == 2 and _LAYER.search(path)}
        if list(names) == [ALL_LINEAR]:
            return list(linear.values())
        found: list[Tensor] = []
        for name in names:
            matched = {path: tensor for path, tensor in modules.items() if path == name or path.endswith(f".{name}")}
            if tied and any(pattern.search(f"{name}.weight") for pattern in (_EMBEDDINGS, _HEAD)):
                raise self._tied(name)
            flat = [tensor for tensor in matched.values() if len(tensor.shape) == 2]
            if not flat:  # the name is of a container (mlp, self_attn), a norm or a convolution, or of nothing
                raise no_layer(self.name, name, linear)
            found += flat
        return found

    def _tied(self, name: str) -> TrainingError:
        return TrainingError(
            f"training.lora.target_modules: {name} cannot get an adapter in {self.name}, whose embeddings and head share one "
            "weight, so that none can be merged into it; leave it out"
        )


def _spelled(architecture: str) -> str:
    return architecture.replace("_", "").lower()


def _scaled(positions: int, config: dict[str, Any]) -> int:
    """Return the tokens of the longest sequence that vLLM serves (vllm/config/model.py, _get_and_verify_max_len)."""
    found = [one for one in (config.get("rope_scaling"), config.get("rope_parameters")) if isinstance(one, dict)]
    found += [inner for one in found for inner in one.values() if isinstance(inner, dict)]  # by kind of layer
    for one in found:
        factor, kind = one.get("factor"), one.get("rope_type", one.get("type"))
        # For these three kinds, config.json has the scaled positions.
        if not isinstance(factor, int | float) or kind in ("su", "longrope", "llama3"):
            continue
        return int((one.get("original_max_position_embeddings", positions) if kind == "yarn" else positions) * factor)
    return positions


def _cache_bytes(config: dict[str, Any]) -> int:
    """Return the bytes per token in vLLM's cache; 0 for a model in which some layers do not keep every token."""
    less = re.compile(r"mamba|ssm|linear_|kv_lora_rank|attn_layer|full_attn_idxs|recurrent|share")
    kinds = config.get("layer_types") or []
    if (
        any(less.search(key) and config[key] for key in config)
        or any(kind != "full_attention" for kind in kinds)
        or (config.get("sliding_window") and config.get("use_sliding_window", True))
    ):
        return 0
    try:
        heads = config["num_attention_heads"]
        width = config.get("head_dim") or config["hidden_size"] // heads
        return int(2 * 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * width)
    except (KeyError, TypeError, ZeroDivisionError):
        return 0
