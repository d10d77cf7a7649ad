"""What people do with transformers and PEFT, unmodified: a tiny random model and an adapter go up and come down."""

from __future__ import annotations

import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)


def model_and_adapter() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    words = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(["[UNK]", "the", "sea"])}, "[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    model.push_to_hub("alice/tiny-llama", private=True)
    tokenizer.push_to_hub("alice/tiny-llama")

    cache = tempfile.mkdtemp()
    pulled = AutoModelForCausalLM.from_pretrained("alice/tiny-llama", cache_dir=cache).eval()
    tokens = AutoTokenizer.from_pretrained("alice/tiny-llama", cache_dir=cache)(
        "the sea the", return_tensors="pt"
    ).input_ids
    assert tokens.tolist() == [[1, 2, 1]]
    assert torch.equal(pulled(tokens).logits, model(tokens).logits)
    assert AutoConfig.from_pretrained("alice/tiny-llama", cache_dir=cache).hidden_size == 16

    adapted = get_peft_model(
        pulled, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    ).eval()
    adapted.push_to_hub("alice/tiny-adapter", private=True)
    base = AutoModelForCausalLM.from_pretrained("alice/tiny-llama", cache_dir=cache).eval()
    again = PeftModel.from_pretrained(base, "alice/tiny-adapter", cache_dir=cache).eval()
    assert torch.equal(again(tokens).logits, adapted(tokens).logits)
    assert not torch.equal(again(tokens).logits, model(tokens).logits)
