"""Writes an official-form FP8 checkpoint folder from a trained run, and checks it with the oracle.
usage: export.py RUN OUT [check [n]]"""
import json, os, shutil, sys
import torch, torch.nn.functional as F
from safetensors.torch import save_file
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import train as T


def quant_weight(w):
    """[out, in] -> E4M3 values and one power-of-two multiplier per 128 x 128 block (edge blocks are short)."""
    o, i = w.shape
    wp = F.pad(w.float(), (0, -i % 128, 0, -o % 128))
    b = wp.view(wp.shape[0] // 128, 128, wp.shape[1] // 128, 128)
    amax = b.abs().amax((1, 3), keepdim=True).clamp_min(1e-4)
    sc = torch.exp2(torch.ceil(torch.log2(amax.double() / 448))).float()
    q = (b / sc).clamp(-448, 448).to(torch.float8_e4m3fn).view(wp.shape)[:o, :i].contiguous()
    return q, sc.view(sc.shape[0], sc.shape[2]).contiguous()


def dequant_weight(q, s):
    o, i = q.shape
    return q.float() * s.repeat_interleave(128, 0)[:o].repeat_interleave(128, 1)[:, :i]

c = T.c


def tensors(m):
    """official name -> (tensor, quantise)"""
    w = {"model.embed_tokens.weight": (m.emb, 0), "lm_head.weight": (m.head, 0), "model.norm.weight": (m.norm, 2)}
    for l, b in enumerate(m.blocks):
        p, a = f"model.layers.{l}.", f"model.layers.{l}.self_attn."
        w |= {p + "input_layernorm.weight": (b.n1, 2), p + "post_attention_layernorm.weight": (b.n2, 2), a + "q_a_proj.weight": (b.qa, 1), a + "q_a_layernorm.weight": (b.nq, 2),
              a + "q_b_proj.weight": (b.qb, 1), a + "kv_a_proj_with_mqa.weight": (b.kva, 1), a + "kv_a_layernorm.weight": (b.nkv, 2), a + "kv_b_proj.weight": (b.kvb, 1),
              a + "o_proj.weight": (b.o, 1), a + "indexer.wq_b.weight": (b.iq, 1), a + "indexer.wk.weight": (b.ik, 1), a + "indexer.k_norm.weight": (b.ikw, 2),
              a + "indexer.k_norm.bias": (b.ikb, 2), a + "indexer.weights_proj.weight": (b.iw, 0)}
        mats = {"gate_proj": b.g, "up_proj": b.u, "down_proj": b.d}
        if b.moe:
            w |= {p + "mlp.gate.weight": (b.router, 0), p + "mlp.gate.e_score_correction_bias": (b.bias, 2)}
            for k, t in mats.items():
                w |= {f"{p}mlp.experts.{e}.{k}.weight": (t[e], 1) for e in range(T.E)}
                w[f"{p}mlp.shared_experts.{k}.weight"] = (t[T.E], 1)
        else:
            w |= {f"{p}mlp.{k}.weight": (t[0], 1) for k, t in mats.items()}
    p = f"model.layers.{c['num_hidden_layers']}."
    w |= {p + "enorm.weight": (m.en, 2), p + "hnorm.weight": (m.hn, 2), p + "shared_head.norm.weight": (m.sn, 2), p + "eh_proj.weight": (m.eh, 0)}  # embed_tokens and shared_head.head are left out: the same as the main ones
    return w


@torch.no_grad()
def fake_quant(m):
    """round all weights in place as the checkpoint stores them."""
    for n, (t, q) in tensors(m).items():
        t.copy_(dequant_weight(*quant_weight(t)) if q == 1 else t.bfloat16().float() if q == 0 else t)


def config():
    rp = c["rope"]
    o = dict(architectures=["DeepseekV32ForCausalLM"], model_type="deepseek_v32", attention_bias=False, attention_dropout=0.0, bos_token_id=0, eos_token_id=1, hidden_act="silu",
             initializer_range=0.02, moe_layer_freq=1, norm_topk_prob=True, num_key_value_heads=c["num_attention_heads"], num_nextn_predict_layers=1, rms_norm_eps=1e-6,
             rope_theta=rp["rope_theta"], scoring_func="sigmoid", tie_word_embeddings=False, topk_method="noaux_tc", torch_dtype="bfloat16", use_cache=True, ep_size=1,
             rope_scaling={k: v for k, v in rp.items() if k != "rope_theta"}, transformers_version="4.44.2",
             quantization_config=dict(activation_scheme="dynamic", fmt="e4m3", quant_method="fp8", scale_fmt="ue8m0", weight_block_size=[128, 128]))
    o.update({k: v for k, v in c.items() if k != "rope"})
    return dict(sorted(o.items()))


@torch.no_grad()
def write(m, run, out):
    os.makedirs(out, exist_ok=True)
    w = {}
    for n, (t, q) in tensors(m).items():
        if q == 1:
            w[n], w[n + "_scale_inv"] = quant_weight(t)
        else:
            w[n] = (t.float() if q == 2 else t.bfloat16()).clone().contiguous()
    save_file(w, out + "/model.safetensors", metadata={"format": "pt"})
    json.dump(config(), open(out + "/config.json", "w"), indent=2)
    json.dump(dict(_from_model_config=True, bos_token_id=0, eos_token_id=1, do_sample=True, temperature=1.0, top_p=0.95, transformers_version="4.46.3"), open(out + "/generation_config.json", "w"), indent=2)
    base = HERE + "/../tokenizer_config.json"
    tc = json.load(open(base))
    tc["model_max_length"] = c["max_position_embeddings"]
    json.dump(tc, open(out + "/tokenizer_config.json", "w"), indent=2, ensure_ascii=False)
    shutil.copy(run + "/tokenizer.json", out + "/tokenizer.json")


if __name__ == "__main__":
    import evaluate as EV
    torch.set_num_threads(int(os.environ.get("THREADS", 2)))
    run, out = sys.argv[1:3]
    m, tok = EV.load(run)
    write(m, run, out)
    print("bytes", sum(os.path.getsize(out + "/" + f) for f in os.listdir(out)), {f: os.path.getsize(out + "/" + f) for f in sorted(os.listdir(out))})
