#!/usr/bin/env python3
"""Writes a full-size fake of DeepSeek-V3.2: every name, shape and dtype, no values.

163 shards, 92,425 tensors, 689,471,107,200 bytes of tensor data: as sparse files, a few tens of MB on disk. For
what opens, inspects and plans; every weight reads as zero. usage: make_fake_checkpoint.py OUT_DIR

The list is that of deepseek-ai/DeepSeek-V3.2; which tensor lies in which shard is ours, in the order of the layers.
"""
import json
import os
import pathlib
import sys

SHARDS = 163
HIDDEN, LAYERS, DENSE, EXPERTS, VOCAB, HEADS = 7168, 61, 3, 256, 129280, 128
Q_RANK, KV_RANK, NOPE, ROPE, VALUE = 1536, 512, 128, 64, 128
INDEX_HEADS, INDEX_DIM, MLP, MOE_MLP = 64, 128, 18432, 2048
BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}

CONFIG = {
    "architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", "attention_bias": False,
    "bos_token_id": 0, "eos_token_id": 1, "first_k_dense_replace": DENSE, "hidden_act": "silu",
    "hidden_size": HIDDEN, "index_head_dim": INDEX_DIM, "index_n_heads": INDEX_HEADS, "index_topk": 2048,
    "intermediate_size": MLP, "kv_lora_rank": KV_RANK, "max_position_embeddings": 163840,
    "moe_intermediate_size": MOE_MLP, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": EXPERTS,
    "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": HEADS, "num_experts_per_tok": 8,
    "num_hidden_layers": LAYERS, "num_key_value_heads": HEADS, "num_nextn_predict_layers": 1,
    "q_lora_rank": Q_RANK, "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE, "v_head_dim": VALUE,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                            "scale_fmt": "ue8m0", "weight_block_size": [128, 128]},
    "rms_norm_eps": 1e-06, "rope_theta": 10000,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                     "original_max_position_embeddings": 4096, "type": "yarn"},
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False, "topk_group": 4,
    "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "vocab_size": VOCAB,
}


def fp8(name, rows, cols):
    yield name + ".weight", "F8_E4M3", [rows, cols]
    yield name + ".weight_scale_inv", "F32", [-(-rows // 128), -(-cols // 128)]


def mlp(prefix, width):
    yield from fp8(prefix + "gate_proj", width, HIDDEN)
    yield from fp8(prefix + "up_proj", width, HIDDEN)
    yield from fp8(prefix + "down_proj", HIDDEN, width)


def layer(index):
    prefix = f"model.layers.{index}."
    attention = prefix + "self_attn."
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield prefix + name + ".weight", "F32", [HIDDEN]
    yield from fp8(attention + "q_a_proj", Q_RANK, HIDDEN)
    yield attention + "q_a_layernorm.weight", "F32", [Q_RANK]
    yield from fp8(attention + "q_b_proj", HEADS * (NOPE + ROPE), Q_RANK)
    yield from fp8(attention + "kv_a_proj_with_mqa", KV_RANK + ROPE, HIDDEN)
    yield attention + "kv_a_layernorm.weight", "F32", [KV_RANK]
    yield from fp8(attention + "kv_b_proj", HEADS * (NOPE + VALUE), KV_RANK)
    yield from fp8(attention + "o_proj", HIDDEN, HEADS * VALUE)
    yield from fp8(attention + "indexer.wq_b", INDEX_HEADS * INDEX_DIM, Q_RANK)
    yield from fp8(attention + "indexer.wk", INDEX_DIM, HIDDEN)
    yield attention + "indexer.k_norm.weight", "F32", [INDEX_DIM]
    yield attention + "indexer.k_norm.bias", "F32", [INDEX_DIM]
    yield attention + "indexer.weights_proj.weight", "BF16", [INDEX_HEADS, HIDDEN]
    if index < DENSE:
        yield from mlp(prefix + "mlp.", MLP)
        return
    yield prefix + "mlp.gate.weight", "BF16", [EXPERTS, HIDDEN]
    yield prefix + "mlp.gate.e_score_correction_bias", "F32", [EXPERTS]
    for expert in range(EXPERTS):
        yield from mlp(f"{prefix}mlp.experts.{expert}.", MOE_MLP)
    yield from mlp(prefix + "mlp.shared_experts.", MOE_MLP)


def tensors():
    yield "model.embed_tokens.weight", "BF16", [VOCAB, HIDDEN]
    for index in range(LAYERS + 1):
        yield from layer(index)
    mtp = f"model.layers.{LAYERS}."
    yield mtp + "embed_tokens.weight", "BF16", [VOCAB, HIDDEN]
    yield mtp + "shared_head.head.weight", "BF16", [VOCAB, HIDDEN]
    yield mtp + "eh_proj.weight", "BF16", [HIDDEN, 2 * HIDDEN]
    for name in ("enorm", "hnorm", "shared_head.norm"):
        yield mtp + name + ".weight", "F32", [HIDDEN]
    yield "model.norm.weight", "F32", [HIDDEN]
    yield "lm_head.weight", "BF16", [VOCAB, HIDDEN]


def elements(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def write_shard(path, members):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape in members:
        end = offset + elements(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)  # a hole: takes no space
    return offset


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    everything = list(tensors())
    total = sum(elements(shape) * BYTES[dtype] for _, dtype, shape in everything)
    shards, filled = [[]], 0
    for tensor in everything:
        if filled >= total * len(shards) / SHARDS and len(shards) < SHARDS:
            shards.append([])
        shards[-1].append(tensor)
        filled += elements(tensor[2]) * BYTES[tensor[1]]
    weight_map = {}
    for number, members in enumerate(shards, 1):
        name = f"model-{number:05}-of-{SHARDS:06}.safetensors"
        write_shard(out / name, members)
        weight_map.update((tensor[0], name) for tensor in members)
    count = sum(elements(shape) for _, _, shape in everything)
    index = {"metadata": {"total_size": 2 * count}, "weight_map": dict(sorted(weight_map.items()))}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=0))
    (out / "config.json").write_text(json.dumps(CONFIG, indent=2))
    disk = sum(os.stat(path).st_blocks * 512 for path in out.iterdir())
    print(f"{len(shards)} shards, {len(everything):,} tensors, {total:,} bytes of tensors, {disk / 1e6:.1f} MB on disk")


if __name__ == "__main__":
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__)
    elif len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    else:
        main(pathlib.Path(sys.argv[1]))
