"""Makes the tiny checkpoints with known answers in this folder: one subfolder a variant.

usage: make_golden.py [VARIANT...]      needs torch, safetensors, transformers (5.23.0 made what is committed)
Exact answers come from HF transformers in fp32 (eager) on the dequantised weights, native ones and MTP from oracle.py.
A seed whose router or key choices are nearly tied is thrown away, because any order of sums may then choose differently.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

import oracle

HERE = pathlib.Path(__file__).parent
TOKENS, ROWS = 150, 48
BASE = dict(
    architectures=["DeepseekV32ForCausalLM"], model_type="deepseek_v32", vocab_size=256, hidden_size=128, intermediate_size=192,
    moe_intermediate_size=48, num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=4, num_key_value_heads=4,
    q_lora_rank=64, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32, n_routed_experts=8, n_group=4,
    topk_group=2, num_experts_per_tok=2, n_shared_experts=1, routed_scaling_factor=2.5, norm_topk_prob=True,
    scoring_func="sigmoid", topk_method="noaux_tc", moe_layer_freq=1, index_n_heads=16, index_head_dim=32, index_topk=16,
    num_nextn_predict_layers=0, max_position_embeddings=4096, rms_norm_eps=1e-6, rope_theta=10000, hidden_act="silu",
    attention_bias=False, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, torch_dtype="bfloat16",
    rope_scaling=dict(type="yarn", factor=40, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0,
                      original_max_position_embeddings=32))
FP8 = dict(activation_scheme="dynamic", fmt="e4m3", quant_method="fp8", weight_block_size=[128, 128])
UE8M0 = dict(FP8, scale_fmt="ue8m0")
VARIANTS = {  # name: (storage, changes to BASE)
    "fp8": ("fp8", dict(quantization_config=UE8M0, num_nextn_predict_layers=1)),
    "fp8-odd-scales": ("fp8-odd", dict(quantization_config=FP8, hidden_size=160)),
    "fp8-e8m0": ("fp8-e8m0", dict(quantization_config=UE8M0)),
    "bf16": ("bf16", dict(rope_scaling=None, rope_theta=50000, topk_group=4)),
    "f16": ("f16", dict()),
    "f32": ("f32", dict(num_nextn_predict_layers=1, kv_lora_rank=72, num_attention_heads=3, num_key_value_heads=3)),
    "v3-dense": ("fp8-odd", dict(architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", quantization_config=FP8)),
}
INDEXER_KEYS = ("index_n_heads", "index_head_dim", "index_topk")
PLAIN = ("embed_tokens", "lm_head", "gate.weight", "weights_proj", "eh_proj")  # never FP8


def make_config(changes):
    config = {**BASE, **changes}
    if config["model_type"] == "deepseek_v3":
        for key in INDEXER_KEYS:
            del config[key]
    return {key: value for key, value in config.items() if value is not None}


def random_weights(c, seed):
    """Gains near one, small outputs: a random network that does not amplify rounding into chaos."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape, std: torch.randn(*shape, generator=g) * std
    matrix = lambda out, width, gain=1.0: normal(out, width, std=gain * width**-0.5)
    gain = lambda n: 1 + normal(n, std=0.1)
    d, heads, latent, rank = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"], c["q_lora_rank"]
    qk, v = c["qk_nope_head_dim"] + c["qk_rope_head_dim"], c["v_head_dim"]
    w = {"model.embed_tokens.weight": normal(c["vocab_size"], d, std=1.0), "model.norm.weight": gain(d),
         "lm_head.weight": matrix(c["vocab_size"], d, 3.0)}

    def mlp(p, width):
        w.update({p + "gate_proj.weight": matrix(width, d), p + "up_proj.weight": matrix(width, d), p + "down_proj.weight": matrix(d, width, 0.35)})

    for index in range(c["num_hidden_layers"] + c["num_nextn_predict_layers"]):
        p = f"model.layers.{index}."
        a, i = p + "self_attn.", p + "self_attn.indexer."
        w.update({p + "input_layernorm.weight": gain(d), p + "post_attention_layernorm.weight": gain(d), a + "q_a_proj.weight": matrix(rank, d),
                  a + "q_a_layernorm.weight": gain(rank), a + "q_b_proj.weight": matrix(heads * qk, rank),
                  a + "kv_a_proj_with_mqa.weight": matrix(latent + c["qk_rope_head_dim"], d), a + "kv_a_layernorm.weight": gain(latent),
                  a + "kv_b_proj.weight": matrix(heads * (c["qk_nope_head_dim"] + v), latent), a + "o_proj.weight": matrix(d, heads * v, 0.35)})
        if "index_topk" in c:
            n, dim = c["index_n_heads"], c["index_head_dim"]
            w.update({i + "wq_b.weight": matrix(n * dim, rank), i + "wk.weight": matrix(dim, d), i + "k_norm.weight": gain(dim),
                      i + "k_norm.bias": normal(dim, std=0.1), i + "weights_proj.weight": matrix(n, d)})
        if index < c["first_k_dense_replace"]:
            mlp(p + "mlp.", c["intermediate_size"])
            continue
        w[p + "mlp.gate.weight"] = normal(c["n_routed_experts"], d, std=0.3)
        w[p + "mlp.gate.e_score_correction_bias"] = torch.rand(c["n_routed_experts"], generator=g) * 0.2 - 0.1
        for e in range(c["n_routed_experts"]):
            mlp(f"{p}mlp.experts.{e}.", c["moe_intermediate_size"])
        mlp(p + "mlp.shared_experts.", c["moe_intermediate_size"] * c["n_shared_experts"])
        if index == c["num_hidden_layers"]:
            w.update({p + "enorm.weight": gain(d), p + "hnorm.weight": gain(d), p + "shared_head.norm.weight": gain(d), p + "eh_proj.weight": matrix(d, 2 * d)})
    return w


def store(w, storage):
    """The weights as the file holds them."""
    out = {}
    for name, t in w.items():
        if t.dim() == 1:
            out[name] = t.bfloat16() if storage == "fp8-odd" and "bias" not in name else t
        elif not storage.startswith("fp8"):
            out[name] = t.to(dict(bf16=torch.bfloat16, f16=torch.float16, f32=torch.float32)[storage])
        elif any(part in name for part in PLAIN):
            out[name] = t.bfloat16()
        else:
            out[name], scale = oracle.quantise(t, storage != "fp8-odd", oracle.BLOCK)
            out[name + "_scale_inv"] = scale.to(torch.float8_e8m0fnu) if storage == "fp8-e8m0" else scale
    return out


def dequantised(stored):
    plain = {n: t for n, t in stored.items() if not n.endswith("_scale_inv")}
    return {n: oracle.dequantise(t, stored[n + "_scale_inv"], oracle.BLOCK) if t.dtype == oracle.E4M3 else t.float() for n, t in plain.items()}


def hf_model(c, weights):
    import transformers as hf
    keys = {k: v for k, v in c.items() if k not in ("architectures", "model_type", "quantization_config", "torch_dtype", "rope_theta", "rope_scaling")}
    rope = dict(c.get("rope_scaling") or {"type": "default"})
    keys["rope_parameters"] = dict(rope, rope_type=rope.pop("type"), rope_theta=float(c["rope_theta"]))
    dense = c["model_type"] == "deepseek_v3"
    config = (hf.DeepseekV3Config if dense else hf.DeepseekV32Config)(**keys)
    config._attn_implementation, config._experts_implementation = "eager", "eager"
    model = (hf.DeepseekV3ForCausalLM if dense else hf.DeepseekV32ForCausalLM)(config).float().eval()
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    done = set()
    with torch.no_grad():
        for name, t in weights.items():
            if f"layers.{c['num_hidden_layers']}." in name or ".mlp.experts." in name:
                continue
            own[name].copy_(t)
            done.add(name)
        for index in range(c["first_k_dense_replace"], c["num_hidden_layers"]):
            p = f"model.layers.{index}.mlp.experts."
            expert = lambda part: torch.stack([weights[f"{p}{e}.{part}_proj.weight"] for e in range(c["n_routed_experts"])])
            own[p + "gate_up_proj"].copy_(torch.cat((expert("gate"), expert("up")), 1))
            own[p + "down_proj"].copy_(expert("down"))
            done |= {p + "gate_up_proj", p + "down_proj"}
    missing = [n for n, _ in model.named_parameters() if n not in done]
    assert not missing, missing
    return model


@torch.no_grad()
def hf_answers(model, ids):
    """-> logits, keys a layer, experts a layer, greedy continuation of the first half."""
    keys, experts, hooks = [], [], []
    for layer in model.model.layers:
        if hasattr(layer.self_attn, "indexer"):
            hooks.append(layer.self_attn.indexer.register_forward_hook(lambda m, a, out: keys.append(out[0])))
        if hasattr(layer.mlp, "gate"):
            hooks.append(layer.mlp.gate.register_forward_hook(lambda m, a, out: experts.append((out[2] if isinstance(out, tuple) and len(out) == 3 else out).clone())))
    logits = model(ids[None]).logits[0]
    for hook in hooks:
        hook.remove()
    half = len(ids) // 2
    greedy = model.generate(ids[None, :half], max_new_tokens=24, min_new_tokens=24, do_sample=False, eos_token_id=None)[0, half:]
    return logits, keys, experts, greedy


def key_lists(masks, top):
    """masks [L, n, n] -> [L, n, top] ascending, -1 = none."""
    out = torch.full((len(masks), masks[0].shape[0], top), -1, dtype=torch.int32)
    for layer, mask in enumerate(masks):
        for row, line in enumerate(mask):
            chosen = line.nonzero()[:, 0]
            out[layer, row, : len(chosen)] = chosen.int()
    return out


def answers(oracle_run, ids, rows, c, prefix, out):
    out[prefix + "logits"] = oracle_run.forward(ids)[rows].float()
    out[prefix + "experts"] = torch.stack(oracle_run.experts)[:, rows].int()
    if "index_topk" in c:
        out[prefix + "topk"] = key_lists(oracle_run.keys, min(c["index_topk"], len(ids)))[:, rows]
    if c["num_nextn_predict_layers"]:
        out[prefix + "mtp_logits"] = oracle_run.draft(ids)[rows[rows < len(ids) - 1]].float()


def make(name, seed):
    storage, changes = VARIANTS[name]
    c = make_config(changes)
    stored = store(random_weights(c, seed), storage)
    ids = torch.randint(2, c["vocab_size"], (TOKENS,), generator=torch.Generator().manual_seed(seed + 1))
    rows = torch.cat((torch.arange(0, 8), torch.arange(TOKENS - ROWS + 8, TOKENS)))
    plain = dequantised(stored)
    exact = oracle.Oracle(dict(c, quantization_config=None), plain, native=False)
    out = {"ids": ids.int(), "rows": rows.int()}
    answers(exact, ids, rows, c, "exact.", out)
    logits, keys, experts, out["exact.greedy"] = hf_answers(hf_model(c, plain), ids)
    out["exact.greedy"] = out["exact.greedy"].int()
    difference = (logits[rows] - out["exact.logits"]).abs().max().item()
    out["exact.logits"] = logits[rows].contiguous()
    if "index_topk" in c:  # the two independent implementations choose alike, or the seed is no good
        hf_masks = [torch.zeros(TOKENS, TOKENS, dtype=torch.bool).scatter_(1, k.long(), True).tril() for k in keys]
        agree = all(torch.equal(a, b) for a, b in zip(hf_masks, exact.keys[: len(hf_masks)]))
        out["exact.topk"] = out["exact.topk"][: c["num_hidden_layers"]].contiguous()
        # No margin is small: two implementations that sum in other orders chose the same keys.
        out["exact.topk_margin"] = torch.full((c["num_hidden_layers"], len(rows)), 1.0)
    else:
        agree = True
    agree &= all(torch.equal(a.sort(-1)[0].long().view(TOKENS, -1), b) for a, b in zip(experts, exact.experts))
    if not agree or difference > 1e-4:
        print(f"{name}: seed {seed} thrown away (logits differ by {difference:.1e}, choices agree: {agree})")
        return False
    out["exact.experts"] = out["exact.experts"][: c["num_hidden_layers"] - c["first_k_dense_replace"]].contiguous()
    if name != "v3-dense":
        answers(oracle.Oracle(c, stored, native=True), ids, rows, c, "native.", out)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(c, indent=1) + "\n")
    save_file({n: t.contiguous() for n, t in stored.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(out, folder / "expected.safetensors")
    print(f"{name}: seed {seed}, HF against oracle.py {difference:.1e}, |logits| up to {logits.abs().max():.1f}")
    return True


if __name__ == "__main__":
    torch.set_num_threads(1)
    for variant in sys.argv[1:] or VARIANTS:
        next(seed for seed in range(1, 50) if make(variant, seed))
