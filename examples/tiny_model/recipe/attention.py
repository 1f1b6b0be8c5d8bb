"""The exported model in numpy (fp32, no cache), for what the library does not hand out: attention probabilities.

Which keys a layer reads comes from outside, from `dsv32 trace`; there is no indexer here.
"""
import json, struct
import numpy as np

TYPES = {"F32": np.float32, "I32": np.int32, "BF16": np.uint16, "F8_E4M3": np.uint8}
BLOCK = 128


def read(path):
    """safetensors -> {name: array}; BF16 as float32, FP8 as bytes."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    out = {}
    for name, t in header.items():
        if name != "__metadata__":
            a = np.frombuffer(data[slice(*t["data_offsets"])], TYPES[t["dtype"]]).reshape(t["shape"])
            out[name] = (a.astype(np.uint32) << 16).view(np.float32) if t["dtype"] == "BF16" else a
    return out


def e4m3():
    code = np.arange(256)
    sign, exponent, mantissa = np.where(code & 128, -1.0, 1.0), code >> 3 & 15, code & 7
    return (sign * np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))).astype(np.float32)


class Model:
    def __init__(self, folder):
        self.c, raw, code = json.load(open(folder + "/config.json")), read(folder + "/model.safetensors"), e4m3()
        self.w = {}
        for name, w in raw.items():
            if name + "_scale_inv" in raw:
                s = raw[name + "_scale_inv"].repeat(BLOCK, 0)[: w.shape[0]].repeat(BLOCK, 1)[:, : w.shape[1]]
                w = code[w] * s
            self.w[name] = w
        c, r = self.c, self.c["rope_scaling"]
        d, base = c["qk_rope_head_dim"], c["rope_theta"]
        f = 1.0 / base ** (np.arange(0, d, 2) / d)
        at = lambda turns: d * np.log(r["original_max_position_embeddings"] / (turns * 2 * np.pi)) / (2 * np.log(base))
        low, high = max(np.floor(at(r["beta_fast"])), 0), min(np.ceil(at(r["beta_slow"])), d - 1)
        ramp = ((np.arange(d // 2) - low) / (high - low)).clip(0, 1)
        self.freq = f / r["factor"] * ramp + f * (1 - ramp)
        m = 0.1 * r["mscale_all_dim"] * np.log(r["factor"]) + 1
        self.scale = (c["qk_nope_head_dim"] + d) ** -0.5 * m * m

    def norm(self, x, name):
        return self.w[name] * (x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["rms_norm_eps"]))

    def linear(self, x, name):
        return x @ self.w[name].T

    def rotate(self, x, angle):
        a, b, co, si = x[..., 0::2], x[..., 1::2], np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        return np.concatenate((a * co - b * si, a * si + b * co), -1)  # q and k alike, so the order of the pairs is free

    def mlp(self, x, p):
        g = self.linear(x, p + "gate_proj.weight")
        return self.linear(g / (1 + np.exp(-g)) * self.linear(x, p + "up_proj.weight"), p + "down_proj.weight")

    def moe(self, x, p):
        c = self.c
        n, groups, top = c["n_routed_experts"], c["n_group"], c["num_experts_per_tok"]
        s = 1 / (1 + np.exp(-self.linear(x, p + "gate.weight")))
        choice = (s + self.w[p + "gate.e_score_correction_bias"]).reshape(len(x), groups, -1)
        best = np.argsort(-np.sort(choice, -1)[..., -2:].sum(-1), -1, "stable")[:, : c["topk_group"]]
        keep = np.zeros((len(x), groups), bool)
        np.put_along_axis(keep, best, True, 1)
        ids = np.argsort(-np.where(keep[..., None], choice, -np.inf).reshape(len(x), n), -1, "stable")[:, :top]
        gates = np.take_along_axis(s, ids, 1)
        gates = gates / gates.sum(-1, keepdims=True) * c["routed_scaling_factor"]
        y = self.mlp(x, p + "shared_experts.")
        for e in range(n):
            row, place = (ids == e).nonzero()
            if len(row):
                y[row] += gates[row, place, None] * self.mlp(x[row], f"{p}experts.{e}.")
        return y

    def attention(self, x, p, mask):
        """-> output, and the probabilities of dense attention, mean of the heads [n, n]."""
        c, n = self.c, len(x)
        heads, nope, v, latent = c["num_attention_heads"], c["qk_nope_head_dim"], c["v_head_dim"], c["kv_lora_rank"]
        angle = np.arange(n)[:, None] * self.freq
        q = self.linear(self.norm(self.linear(x, p + "q_a_proj.weight"), p + "q_a_layernorm.weight"), p + "q_b_proj.weight").reshape(n, heads, -1)
        kv = self.linear(x, p + "kv_a_proj_with_mqa.weight")
        b = self.linear(self.norm(kv[:, :latent], p + "kv_a_layernorm.weight"), p + "kv_b_proj.weight").reshape(n, heads, nope + v)
        s = np.einsum("thd,shd->hts", q[..., :nope], b[..., :nope], optimize=True)
        s += np.einsum("thd,sd->hts", self.rotate(q[..., nope:], angle[:, None]), self.rotate(kv[:, latent:], angle), optimize=True)
        s *= self.scale

        def softmax(seen):
            e = np.exp(np.where(seen, s, -np.inf) - np.where(seen, s, -np.inf).max(-1, keepdims=True))
            return e / e.sum(-1, keepdims=True)
        out = np.einsum("hts,shd->thd", softmax(mask), b[..., nope:], optimize=True).reshape(n, -1)
        return self.linear(out, p + "o_proj.weight"), softmax(np.tril(np.ones((n, n), bool))).mean(0)

    def forward(self, ids, topk):
        """topk [layers, n, k], -1 = none -> logits, masks and dense probabilities of each layer."""
        x, masks, probabilities = self.w["model.embed_tokens.weight"][ids], [], []
        for l in range(self.c["num_hidden_layers"]):
            p = f"model.layers.{l}."
            mask = np.zeros((len(ids), len(ids) + 1), bool)
            np.put_along_axis(mask, topk[l].astype(np.int64) % (len(ids) + 1), True, 1)  # -1 lands in the spare column
            a, dense = self.attention(self.norm(x, p + "input_layernorm.weight"), p + "self_attn.", mask[:, :-1])
            x = x + a
            ffn = self.mlp if l < self.c["first_k_dense_replace"] else self.moe
            x = x + ffn(self.norm(x, p + "post_attention_layernorm.weight"), p + "mlp.")
            masks.append(mask[:, :-1])
            probabilities.append(dense)
        return self.linear(self.norm(x, "model.norm.weight"), "lm_head.weight"), masks, probabilities
