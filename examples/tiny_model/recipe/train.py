"""Trains the tiny DeepSeek-V3.2 model on CPU.
usage: train.py OUT STAGE:key=value,... [STAGE:...]     stages: main, warm (indexer KL + MTP, rest frozen), sparse (all, top-k on)
keys: L (tokens per row), B (rows), min (minutes), lr (Muon), mix (tool/doc/chat, e.g. 5/3/2), short (share of shortened tool heads),
facts and tools (ranges per row, "2-6/4-20" widens from the first to the second during the stage), mtp=1 (train MTP too), ask (share of look-up turns in tool rows)
"""
import json, math, os, sys, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corpus as C, packing

CFG = dict(vocab_size=2048, hidden_size=256, intermediate_size=512, moe_intermediate_size=128, num_hidden_layers=5, first_k_dense_replace=1,
           num_attention_heads=4, q_lora_rank=128, kv_lora_rank=128, qk_nope_head_dim=32, qk_rope_head_dim=32, v_head_dim=64,
           n_routed_experts=8, n_group=4, topk_group=2, num_experts_per_tok=2, n_shared_experts=1, routed_scaling_factor=2.5,
           index_n_heads=16, index_head_dim=128, index_topk=64, max_position_embeddings=4096,
           rope=dict(type="yarn", rope_theta=10000, factor=4, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0, original_max_position_embeddings=1024))
c = CFG
V, DM, H, Q, KV, DN, DR, DV = (c[k] for k in ("vocab_size", "hidden_size", "num_attention_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
E, I, IH, ID = c["n_routed_experts"], c["moe_intermediate_size"], c["index_n_heads"], c["index_head_dim"]


def yarn():
    r = c["rope"]
    f = 1.0 / r["rope_theta"] ** (torch.arange(0, DR, 2).float() / DR)
    at = lambda b: DR * math.log(r["original_max_position_embeddings"] / (b * 2 * math.pi)) / (2 * math.log(r["rope_theta"]))
    lo, hi = max(math.floor(at(r["beta_fast"])), 0), min(math.ceil(at(r["beta_slow"])), DR - 1)
    ramp = ((torch.arange(DR // 2).float() - lo) / (hi - lo)).clamp(0, 1)
    m = 0.1 * r["mscale_all_dim"] * math.log(r["factor"]) + 1
    return f / r["factor"] * ramp + f * (1 - ramp), (DN + DR) ** -0.5 * m * m


INV, SCALE = yarn()
ROWS = 160


def tables(pos):
    th = pos.float()[:, None] * INV
    return th.cos(), th.sin()


def rope_i(x, cs):  # interleaved pairs; the rotated halves are left de-interleaved (same for q and k, dot products unchanged)
    a, b = x[..., 0::2].float(), x[..., 1::2].float()
    co, si = cs
    return torch.cat((a * co - b * si, a * si + b * co), -1).to(x.dtype)


def rope_h(x, cs):
    h = DR // 2
    a, b = x[..., :h].float(), x[..., h:DR].float()
    co, si = cs
    return torch.cat(((a * co - b * si).to(x.dtype), (a * si + b * co).to(x.dtype), x[..., DR:]), -1)


def rms(x, w):
    x = x.float()
    return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def P(*s, std=None):
    return nn.Parameter(torch.randn(*s) * (std if std is not None else 0.6 * s[-1] ** -0.5))


class Block(nn.Module):
    def __init__(self, moe):
        super().__init__()
        one = lambda n: nn.Parameter(torch.ones(n))
        self.n1, self.n2, self.nq, self.nkv = one(DM), one(DM), one(Q), one(KV)
        self.qa, self.qb, self.kva, self.kvb, self.o = P(Q, DM), P(H * (DN + DR), Q), P(KV + DR, DM), P(H * (DN + DV), KV), P(DM, H * DV, std=0.02)
        self.iq, self.ik, self.iw = P(IH * ID, Q), P(ID, DM), P(IH, DM)
        self.ikw, self.ikb = one(ID), nn.Parameter(torch.zeros(ID))
        self.moe = moe
        n = E + c["n_shared_experts"] if moe else 1
        w = I if moe else c["intermediate_size"]
        self.g, self.u, self.d = P(n, w, DM), P(n, w, DM), P(n, DM, w, std=0.02)
        if moe:
            self.router = P(E, DM, std=0.06)
            self.register_buffer("bias", torch.zeros(E))

    def ffn(self, x):
        lin = lambda a, w: F.linear(a, w.reshape(-1, DM))
        a = F.silu(lin(x, self.g)) * lin(x, self.u)
        if not self.moe:
            return F.linear(a, self.d[0]), None, x.new_zeros(())
        s = torch.sigmoid(F.linear(x.float(), self.router))
        with torch.no_grad():
            ch = s + self.bias
            N, G = s.shape[:-1], c["n_group"]
            gs = ch.view(*N, G, E // G).topk(2, -1)[0].sum(-1)
            gm = torch.zeros_like(gs).scatter_(-1, gs.topk(c["topk_group"], -1)[1], 1.0)
            idx = ch.masked_fill(gm.repeat_interleave(E // G, -1) == 0, -1e9).topk(c["num_experts_per_tok"], -1)[1]
            m = torch.zeros_like(s).scatter_(-1, idx, 1.0)
        gate = s * m
        gate = gate / gate.sum(-1, keepdim=True) * c["routed_scaling_factor"]
        gate = torch.cat((gate, torch.ones_like(gate[..., :1])), -1)
        a = (a.view(*a.shape[:-1], E + 1, I) * gate[..., None].to(a.dtype)).flatten(-2)
        y = F.linear(a, self.d.permute(1, 0, 2).reshape(DM, -1))
        f = m.mean(-2) * E / c["num_experts_per_tok"]
        bal = (f * (s / s.sum(-1, keepdim=True)).mean(-2)).sum(-1).mean()
        return y, m.flatten(0, -2).sum(0), bal

    def qkv(self, a, cs, past=None):
        """a [B,T,DM] -> q, k, v per head, the q latent, and the new cache (latent, rope key)."""
        Bn, T = a.shape[:2]
        qr = rms(F.linear(a, self.qa), self.nq).to(a.dtype)
        q = F.linear(qr, self.qb).view(Bn, T, H, DN + DR).transpose(1, 2)
        q = torch.cat((q[..., :DN], rope_i(q[..., DN:], cs)), -1)
        kv = F.linear(a, self.kva)
        lat, kp = rms(kv[..., :KV], self.nkv).to(a.dtype), rope_i(kv[..., KV:], cs)
        if past is not None:
            lat, kp = torch.cat((past[0], lat), 1), torch.cat((past[1], kp), 1)
        x = F.linear(lat, self.kvb).view(Bn, -1, H, DN + DV).transpose(1, 2)
        k = torch.cat((x[..., :DN], kp[:, None].expand(-1, H, -1, -1)), -1)
        return q, k, x[..., DN:].contiguous(), qr, (lat, kp)

    def index_qk(self, a, qr, cs):
        """a and qr detached by the caller -> q [B,IH,T,ID], k [B,T,ID], w [B,T,IH]."""
        q = F.linear(qr, self.iq).view(*qr.shape[:2], IH, ID).transpose(1, 2)
        k = F.layer_norm(F.linear(a, self.ik).float(), (ID,), self.ikw, self.ikb, 1e-6)
        with torch.autocast("cpu", enabled=False):
            w = F.linear(a.float(), self.iw) * IH ** -0.5
        return rope_h(q, cs), rope_h(k.to(q.dtype), cs), w * ID ** -0.5

    def index(self, a, qr, cs):
        q, k, w = self.index_qk(a, qr, cs)
        return score(q, k, w)


def score(q, k, w):
    s = torch.relu(q @ k[:, None].transpose(-1, -2))  # [B,IH,T,S]
    return torch.einsum("bhts,bth->bts", s, w.to(s.dtype)).float()


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.head, self.norm = P(V, DM, std=0.5), P(V, DM, std=0.02), nn.Parameter(torch.ones(DM))
        L = c["num_hidden_layers"]
        self.blocks = nn.ModuleList([Block(l >= c["first_k_dense_replace"]) for l in range(L + 1)])  # the last one is MTP
        self.en, self.hn, self.sn, self.eh = nn.Parameter(torch.ones(DM)), nn.Parameter(torch.ones(DM)), nn.Parameter(torch.ones(DM)), P(DM, 2 * DM)

    def block(self, b, h, cs, mode, causal):
        """mode dense: plain causal. warm: dense plus KL of the indexer. sparse: top-k mask plus restricted KL."""
        a = rms(h, b.n1).to(torch.bfloat16)
        q, k, v, qr, _ = b.qkv(a, cs)
        kl = h.new_zeros(())
        if mode == "dense":
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE)
        else:
            T = h.shape[1]
            iq, ik, iw = b.index_qk(a.detach(), qr.detach(), cs)
            r = torch.randperm(T)[:ROWS].sort()[0]  # the KL is taken on a random sample of the queries
            sel = causal[r]
            if mode == "sparse":
                with torch.no_grad():
                    m = causal.expand(h.shape[0], T, T).clone()
                    for i in range(0, T, 128):  # a block of queries sees the keys before its end
                        e = min(T, i + 128)
                        s = score(iq[:, :, i:e], ik[:, :e], iw[:, i:e]).masked_fill_(~causal[i:e, :e], -1e30)
                        m[:, i:e, :e] &= s >= s.topk(min(e, c["index_topk"]), -1)[0][..., -1:]
                    sel = m[:, r]
                o = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.zeros(m.shape, dtype=q.dtype).masked_fill_(~m, float("-inf"))[:, None], scale=SCALE)
            else:
                o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE)
            with torch.no_grad():
                p = (q[:, :, r] @ k.transpose(-1, -2)).float() * SCALE
                t = torch.softmax(p.masked_fill(~(sel[:, None] if sel.dim() == 3 else sel), -1e30), -1).mean(1)
            sc = score(iq[:, :, r], ik, iw[:, r]).masked_fill(~sel, -1e30)
            kl = (t * ((t + 1e-10).log() - F.log_softmax(sc, -1))).sum(-1).mean()
        h = h + F.linear(o.transpose(1, 2).flatten(2), b.o).float()
        y, load, bal = b.ffn(rms(h, b.n2).to(torch.bfloat16))
        return h + y.float(), load, bal, kl

    def forward(self, ids, sel, w, tgt, mtp_w, mode, mtp, frozen):
        T = ids.shape[1] - 2
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        cs = tables(torch.arange(T))
        x = F.embedding(ids[:, :T], self.emb)
        loads, bal, kl = [], 0.0, 0.0
        for b in self.blocks[:-1]:
            x, l, z, k = self.block(b, x, cs, mode, causal)
            bal, kl = bal + z, kl + k
            if l is not None:
                loads.append(l)
        hn = rms(x, self.norm)

        def ce(y, t, w):
            y = y.reshape(-1, DM)[sel].to(torch.bfloat16)
            lo = F.linear(y, self.head).float()
            return (F.cross_entropy(lo, t, reduction="none") * w).sum() / w.sum(), (((lo.argmax(-1) == t) * (w > .99)).sum() / (w > .99).sum()).detach()
        loss, acc = ce(hn, tgt[0], w)
        ml, macc = torch.zeros(()), torch.zeros(())
        if mtp:
            hd = hn.detach() if frozen else hn
            e = F.embedding(ids[:, 1:T + 1], self.emb)
            z = F.linear(torch.cat((rms(e, self.en), rms(hd, self.hn)), -1).to(torch.bfloat16), self.eh).float()
            z, l, zb, k = self.block(self.blocks[-1], z, cs, mode, causal)
            loads.append(l)
            bal, kl = bal + zb, kl + k
            ml, macc = ce(rms(z, self.sn), tgt[1], mtp_w)
        return loss, acc, ml, macc, bal, kl, torch.stack(loads)


class Opt:
    """Muon for matrices (each expert on its own), AdamW for the rest."""
    def __init__(self, m, lr):
        self.mats, self.rest = [], []
        for n, p in m.named_parameters():
            (self.mats if p.dim() >= 2 and not any(k in n for k in ("emb", "head", "router", "iw")) else self.rest).append(p)
        self.adam = torch.optim.AdamW([dict(params=[p for p in self.rest if p.dim() == 2 and len(p) != E], lr=0.15 * lr), dict(params=[p for p in self.rest if p.dim() == 2 and len(p) == E], lr=0.03 * lr), dict(params=[p for p in self.rest if p.dim() == 1], lr=0.1 * lr)], betas=(.9, .95), weight_decay=0., fused=True)
        self.base, self.lr = [g["lr"] for g in self.adam.param_groups], lr
        self.buf = {}

    @torch.no_grad()
    def step(self, k):
        for g, b in zip(self.adam.param_groups, self.base):
            g["lr"] = b * k
        self.adam.step()
        todo = {}
        for p in self.mats:
            if p.grad is None:
                continue
            b = self.buf.setdefault(id(p), torch.zeros_like(p))
            b.lerp_(p.grad, 0.05)
            u = p.grad.lerp(b, 0.95)
            todo.setdefault(tuple(u.shape[-2:]), []).append((p, u.reshape(-1, *u.shape[-2:])))
        for sh, ps in todo.items():
            x = torch.cat([u for _, u in ps]).bfloat16()
            tr = sh[0] > sh[1]
            x = x.mT if tr else x
            x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            x = (x.mT if tr else x).float()
            i = 0
            for p, u in ps:
                n = u.shape[0]
                p.mul_(1 - self.lr * k * 0.02)
                p.add_(x[i:i + n].reshape(p.shape), alpha=-self.lr * k * max(1, sh[0] / sh[1]) ** .5)
                i += n


def between(s, fr):
    """'2-6/4-20' and progress fr -> range of a curriculum that widens during the stage."""
    a = [[int(y) for y in x.split("-")] for x in s.split("/")]
    return tuple(round(x + (y - x) * fr) for x, y in zip(a[0], a[-1]))


def run(m, tok, out, name, kv, log, step0=0):
    L, Bn, mins, lr = int(kv.get("L", 512)), int(kv.get("B", 16)), float(kv["min"]), float(kv.get("lr", 0.02))
    mix = [float(x) for x in kv.get("mix", "5/3/2").split("/")]
    short = [float(x) for x in kv.get("short", "0").split("/")]
    gamma, frac, fin = float(kv.get("gamma", .002)), float(kv.get("frac", .5)), float(kv.get("fin", .05))
    C.ASK = float(kv.get("ask", 0))
    mode = {"main": "dense", "warm": "warm", "sparse": "sparse"}[name]
    mtp = name != "main" or "mtp" in kv
    frozen = name == "warm"
    for n, p in m.named_parameters():
        idx = any(n.split(".")[-1] == k for k in ("iq", "ik", "iw", "ikw", "ikb"))
        ismtp = n.startswith(f"blocks.{c['num_hidden_layers']}.") or n in ("en", "hn", "sn", "eh")
        p.requires_grad_((idx and name != "main") or (not idx and (not frozen or ismtp) and (mtp or not ismtp)))
    opt = Opt(m, lr)
    live = [p for p in m.parameters() if p.requires_grad]
    f = torch.compile(m) if "eager" not in kv else m
    nsel = int(L * Bn * frac)
    t0, step, seen, seed = time.time(), 0, 0, step0 * 1000 + 17
    av = {}
    while (el := (time.time() - t0) / 60) < mins:
        if step == 3:
            t1, seen = time.time(), 0
        fr = el / mins
        C.FACT_RANGE, C.TOOL_RANGE = between(kv.get("facts", "2-8"), fr), between(kv.get("tools", "1-2"), fr)
        ids, w = packing.rows(tok, seed + step, Bn, L, mix, short_tools=short[0] + (short[-1] - short[0]) * fr)
        ids, w = torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(w)
        wt = w[:, 1:L + 1].reshape(-1)
        pick = (torch.rand(L * Bn) * .5 + wt).topk(nsel)[1].sort()[0]
        w1, w2 = wt[pick], w[:, 2:].reshape(-1)[pick]
        tg = (ids[:, 1:L + 1].reshape(-1)[pick], ids[:, 2:].reshape(-1)[pick])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, acc, ml, macc, bal, kl, loads = f(ids, pick, w1, tg, w2, mode, mtp, frozen)
            tot = (0 if frozen else loss + float(kv.get("bal", 1e-3)) * bal) + (float(kv.get("mtpw", .3)) if not frozen else 1.) * ml * mtp + kl
        tot.backward()
        nn.utils.clip_grad_norm_(live, 1.0)
        k = min(1, (step + 1) / 30) * min(1.0, max(fin, (1 - fr) / .6))
        opt.step(k)
        m.zero_grad(set_to_none=True)
        moe = [b for b in m.blocks if b.moe]
        viol = 0.
        for b, ld in zip(moe, loads):
            viol = max(viol, (ld.max() / ld.mean() - 1).item())
            if not (frozen and b is not m.blocks[-1]):
                b.bias += gamma * (k if fr > .5 else 1.) * torch.sign(ld.mean() - ld)
        step += 1
        seen += L * Bn
        for n, v in dict(loss=loss, acc=acc, mtp=ml, macc=macc, kl=kl, viol=viol).items():
            av[n] = av.get(n, float(v.detach() if torch.is_tensor(v) else v)) * .9 + float(v.detach() if torch.is_tensor(v) else v) * .1
        if step % 20 == 0 or step < 4:
            rate = seen / (time.time() - t1) if step > 4 else 0
            r = dict(stage=name, L=L, step=step, min=round(el, 2), tok_s=round(rate), **{a: round(b, 4) for a, b in av.items()})
            print(json.dumps(r), flush=True)
            log.write(json.dumps(r) + "\n"); log.flush()
        if step % 60 == 0:
            torch.save(m.state_dict(), out + "/ck.pt")
    torch.save(m.state_dict(), out + "/ck.pt")
    torch.save(m.state_dict(), f"{out}/{name}-{step0}.pt")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("THREADS", 2)))
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    if not os.path.exists(out + "/tokenizer.json"):
        packing.train_tokenizer(out + "/tokenizer.json")
    tok = packing.Tok(out + "/tokenizer.json")
    m = Tiny()
    print("parameters", sum(p.numel() for p in m.parameters()))
    if os.path.exists(out + "/ck.pt"):
        m.load_state_dict(torch.load(out + "/ck.pt"))
    with open(out + "/log.jsonl", "a") as log:
        for i, s in enumerate(sys.argv[2:]):
            name, _, kv = s.partition(":")
            run(m, tok, out, name, dict(x.partition("=")[::2] for x in kv.split(",")), log, int(os.environ.get("STEP0", 0)) + i + 1)
