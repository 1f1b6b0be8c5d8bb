"""DeepSeek-V3.2's forward pass in plain PyTorch, every sum in fp64: the oracle of the `native` numerics, and of MTP.

`exact` is the mathematical definition (equal to HF transformers in fp32); `native` adds DeepSeek's rounding points: BF16
activations, FP8 activations per 128 in front of FP8 weights, Hadamard and FP8 in the indexer, an FP8 latent.
Weights: name -> tensor (F32, BF16, F16, or float8_e4m3fn beside name + "_scale_inv"). Needed to make golden data only.
"""
import math

import torch
import torch.nn.functional as F

E4M3 = torch.float8_e4m3fn
BLOCK = 128


def round_up_to_power_of_two(x):
    return torch.exp2(torch.ceil(torch.log2(x.double()))).float()


def quantise(x, pow2, rows=1):
    """x [.., n] in blocks of `rows` x 128 -> (e4m3, scales); a short last block has its own amax."""
    n, pad = x.shape[-1], -x.shape[-1] % BLOCK
    pad_rows = -x.shape[-2] % rows
    blocks = F.pad(x.float(), (0, pad, 0, pad_rows)).unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, rows))
    amax = blocks.abs().amax((-3, -1), keepdim=True).clamp_min(1e-4)
    scale = round_up_to_power_of_two(amax / 448) if pow2 else amax / 448
    q = (blocks / scale).clamp(-448, 448).to(E4M3).float()
    q = q.flatten(-2).flatten(-3, -2)
    return q[..., : x.shape[-2], :n].to(E4M3), scale.squeeze((-3, -1))


def dequantise(q, scale, rows=1):
    s = scale.float().repeat_interleave(rows, -2)[..., : q.shape[-2], :]
    return q.float() * s.repeat_interleave(BLOCK, -1)[..., : q.shape[-1]]


def hadamard(x):
    n = x.shape[-1]
    h = torch.ones(1, 1, dtype=torch.double)
    while len(h) < n:
        h = torch.cat((torch.cat((h, h), 1), torch.cat((h, -h), 1)))
    return x.double() @ h * n**-0.5


def yarn(config):
    """-> (inverse frequencies fp32, factor of cos and sin, factor of the softmax scale)."""
    dim, rope = config["qk_rope_head_dim"], config.get("rope_scaling")
    base = config["rope_theta"]
    freq = 1.0 / base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    if not rope:
        return freq, 1.0, 1.0
    correction = lambda turns: dim * math.log(rope["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(base))
    low = max(math.floor(correction(rope["beta_fast"])), 0)
    high = min(math.ceil(correction(rope["beta_slow"])), dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low or 0.001)).clamp(0, 1)
    gain = lambda m: 1.0 if rope["factor"] <= 1 else 0.1 * m * math.log(rope["factor"]) + 1
    return (freq / rope["factor"] * ramp + freq * (1 - ramp), gain(rope["mscale"]) / gain(rope["mscale_all_dim"]),
            gain(rope["mscale_all_dim"]) ** 2)


def rope_interleaved(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def rope_half(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class Oracle:
    def __init__(self, config, weights, native):
        self.c, self.w, self.native = config, weights, native
        quantization = config.get("quantization_config")
        self.pow2 = not quantization or quantization.get("scale_fmt") is not None
        self.freq, self.cos_factor, scale_factor = yarn(config)
        self.scale = (config["qk_nope_head_dim"] + config["qk_rope_head_dim"]) ** -0.5 * scale_factor
        self.keys, self.experts = [], []  # what each layer chose, in order of layers

    def round(self, x):
        return x.bfloat16().double() if self.native else x.double()

    def weight(self, name):
        w = self.w[name]
        if w.dtype == E4M3:
            w = dequantise(w, self.w[name + "_scale_inv"], BLOCK)
            return self.round(w)
        return w.double()

    def linear(self, x, name):
        w = self.w[name]
        if self.native and w.dtype == E4M3:
            x = dequantise(*quantise(x, self.pow2)).double()
            return self.round(x @ dequantise(w, self.w[name + "_scale_inv"], BLOCK).double().T)
        return self.round(x @ self.weight(name).T)

    def norm(self, x, name, eps=1e-6):
        return self.round(self.weight(name) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))

    def angles(self, n):
        theta = (torch.arange(n, dtype=torch.float32)[:, None] * self.freq).double()
        return theta.cos() * self.cos_factor, theta.sin() * self.cos_factor

    def select(self, p, x, qr, rope):
        """-> mask [n, n] of the keys that each query reads."""
        c, n = self.c, len(x)
        causal = torch.ones(n, n, dtype=torch.bool).tril()
        if "index_topk" not in c:
            return causal
        heads, dim, part = c["index_n_heads"], c["index_head_dim"], c["qk_rope_head_dim"]
        cos, sin = rope
        q = self.linear(qr, p + "wq_b.weight").view(n, heads, dim)
        q = self.round(torch.cat((rope_half(q[..., :part], cos[:, None], sin[:, None]), q[..., part:]), -1))
        k = F.layer_norm(self.linear(x, p + "wk.weight"), (dim,), self.weight(p + "k_norm.weight"), self.weight(p + "k_norm.bias"), 1e-6)
        k = self.round(k)
        k = self.round(torch.cat((rope_half(k[..., :part], cos, sin), k[..., part:]), -1))
        w = x @ self.weight(p + "weights_proj.weight").T * heads**-0.5 * dim**-0.5
        k_scale = 1.0
        if self.native:
            q, q_scale = quantise(self.round(hadamard(q)), self.pow2)
            k, k_scale = quantise(self.round(hadamard(k)), self.pow2)
            q, k, w = q.double(), k.double(), w * q_scale.squeeze(-1)
            k_scale = k_scale.squeeze(-1)
        scores = torch.einsum("th,ths->ts", w, torch.relu(torch.einsum("thd,sd->ths", q, k))) * k_scale
        scores = scores.masked_fill(~causal, -math.inf)
        top = min(c["index_topk"], n)
        chosen = torch.zeros(n, n, dtype=torch.bool).scatter_(1, scores.topk(top, -1)[1], True) & causal
        chosen[:top] = causal[:top]
        self.keys.append(chosen)
        return chosen

    def attention(self, p, x, rope):
        c, n = self.c, len(x)
        heads, nope, v = c["num_attention_heads"], c["qk_nope_head_dim"], c["v_head_dim"]
        latent_dim = c["kv_lora_rank"]
        cos, sin = rope
        qr = self.norm(self.linear(x, p + "q_a_proj.weight"), p + "q_a_layernorm.weight")
        q = self.linear(qr, p + "q_b_proj.weight").view(n, heads, -1)
        q_rope = self.round(rope_interleaved(q[..., nope:], cos[:, None], sin[:, None]))
        kv = self.linear(x, p + "kv_a_proj_with_mqa.weight")
        latent = self.norm(kv[:, :latent_dim], p + "kv_a_layernorm.weight")
        k_rope = self.round(rope_interleaved(kv[:, latent_dim:], cos, sin))
        if self.native:
            latent = self.round(dequantise(*quantise(latent, self.pow2)))
        kv_b = self.weight(p + "kv_b_proj.weight").view(heads, nope + v, latent_dim)
        q_latent = self.round(torch.einsum("thd,hdc->thc", q[..., :nope], kv_b[:, :nope]))
        scores = (torch.einsum("thc,sc->hts", q_latent, latent) + torch.einsum("thd,sd->hts", q_rope, k_rope)) * self.scale
        chosen = self.select(p + "indexer.", x, qr, rope)
        out = torch.softmax(scores.masked_fill(~chosen, -math.inf), -1)
        out = self.round(torch.einsum("hts,sc->thc", out, latent))
        out = self.round(torch.einsum("thc,hvc->thv", out, kv_b[:, nope:]))
        return self.linear(out.flatten(1), p + "o_proj.weight")

    def mlp(self, p, x):
        hidden = F.silu(self.linear(x, p + "gate_proj.weight")) * self.linear(x, p + "up_proj.weight")
        return self.linear(self.round(hidden), p + "down_proj.weight")

    def moe(self, p, x):
        c = self.c
        n, groups, top = c["n_routed_experts"], c["n_group"], c["num_experts_per_tok"]
        s = torch.sigmoid(x @ self.weight(p + "gate.weight").T)
        choice = (s + self.weight(p + "gate.e_score_correction_bias")).view(-1, groups, n // groups)
        best = choice.topk(2, -1)[0].sum(-1).topk(c["topk_group"], -1)[1]
        keep = torch.zeros(len(x), groups, dtype=torch.bool).scatter_(1, best, True)
        ids = choice.masked_fill(~keep[..., None], -math.inf).flatten(1).topk(top, -1)[1].sort(-1)[0]
        self.experts.append(ids)
        gates = s.gather(1, ids)
        if c["norm_topk_prob"]:
            gates = gates / gates.sum(-1, keepdim=True)
        gates = gates * c["routed_scaling_factor"]
        y = torch.zeros_like(x)
        for e in range(n):
            row, place = (ids == e).nonzero(as_tuple=True)
            if len(row):
                y[row] += gates[row, place, None] * self.mlp(f"{p}experts.{e}.", x[row])
        return self.round(y + self.mlp(p + "shared_experts.", x))

    def layer(self, index, x, residual, rope):
        p, eps = f"model.layers.{index}.", self.c["rms_norm_eps"]
        total = x if residual is None else x + residual
        attention = self.attention(p + "self_attn.", self.norm(total, p + "input_layernorm.weight", eps), rope)
        total = attention + self.round(total)
        ffn = self.mlp if index < self.c["first_k_dense_replace"] else self.moe
        return ffn(p + "mlp.", self.norm(total, p + "post_attention_layernorm.weight", eps)), self.round(total)

    @torch.no_grad()
    def forward(self, ids):
        """-> logits [n, vocab]; self.hidden: the rows after the final norm."""
        rope = self.angles(len(ids))
        x, residual = self.weight("model.embed_tokens.weight")[ids], None  # unrounded, as in every norm's input sum
        for index in range(self.c["num_hidden_layers"]):
            x, residual = self.layer(index, x, residual, rope)
        self.hidden = self.norm(x + residual, "model.norm.weight", self.c["rms_norm_eps"])
        return self.hidden @ self.weight("lm_head.weight").T

    @torch.no_grad()
    def draft(self, ids):
        """-> MTP logits [n - 1, vocab]: row i drafts token i + 2 from hidden row i and token i + 1."""
        index, eps = self.c["num_hidden_layers"], self.c["rms_norm_eps"]
        p = f"model.layers.{index}."
        embedded = self.norm(self.weight("model.embed_tokens.weight")[ids[1:]], p + "enorm.weight", eps)
        hidden = self.norm(self.hidden[:-1], p + "hnorm.weight", eps)
        z = self.linear(torch.cat((embedded, hidden), -1), p + "eh_proj.weight")
        x, residual = self.layer(index, z, None, self.angles(len(ids) - 1))
        return self.norm(x + residual, p + "shared_head.norm.weight", eps) @ self.weight("lm_head.weight").T
