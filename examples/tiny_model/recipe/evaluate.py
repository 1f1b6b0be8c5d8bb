"""Greedy decoding with a KV cache and the scores of the tiny model on names it has never seen.
usage: evaluate.py RUN [cases per task] [fp8] [sel=dense|index|window|random] [task=a,b] [names=word|free] [order=desc] [show] [measure]"""
import json, os, re, sys, time
import torch, torch.nn.functional as F
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corpus as C, packing, train as T
from cases import cases, expected, strip
c = T.c


class Decoder:
    """fp32. sel: dense | index (the model's indexer) | window | random: which keys a query may read beyond index_topk."""
    def __init__(self, m, sel="index", seed=0):
        self.m, self.sel, self.g = m, sel, torch.Generator().manual_seed(seed)
        self.cache = [None] * len(m.blocks)
        self.pos, self.rec = 0, []
        self.collect = False

    def mask(self, b, a, qr, cs, past, n, tot):
        K = c["index_topk"]
        causal = torch.ones(n, tot, dtype=torch.bool).tril(tot - n)
        q, k, w = b.index_qk(a, qr, cs)
        k = k if past is None else torch.cat((past, k), 1)
        if tot <= K or self.sel == "dense":
            return causal, k, None
        if self.sel == "window":
            s = torch.arange(tot).float().expand(n, tot).clone()
        elif self.sel == "random":
            s = torch.rand(n, tot, generator=self.g)
        else:
            s = torch.cat([T.score(q[:, :, i:i + 128], k, w[:, i:i + 128])[0] for i in range(0, n, 128)])
        s = s.masked_fill(~causal, float("-inf"))
        m = torch.zeros_like(causal).scatter_(1, s.topk(K, -1)[1], True)
        return m & causal, k, s

    @torch.no_grad()
    def block(self, l, x, cs):
        b = self.m.blocks[l]
        a = T.rms(x, b.n1)
        past = self.cache[l]
        q, k, v, qr, kv = b.qkv(a, cs, past and past[:2])
        tot = k.shape[2]
        sel, ik, _ = self.mask(b, a, qr, cs, past and past[2], a.shape[1], tot)
        self.cache[l] = (*kv, ik)
        p = torch.softmax((q @ k.transpose(-1, -2) * T.SCALE).masked_fill(~sel, float("-inf")), -1)
        x = x + F.linear((p @ v).transpose(1, 2).flatten(2), b.o)
        y, load, _ = b.ffn(T.rms(x, b.n2))
        if self.collect:
            self.rec.append((p[0].mean(0), load))
        return x + y

    @torch.no_grad()
    def feed(self, ids):
        x = F.embedding(torch.tensor([ids]), self.m.emb)
        cs = T.tables(torch.arange(self.pos, self.pos + len(ids)))
        for l in range(c["num_hidden_layers"]):
            x = self.block(l, x, cs)
        self.pos += len(ids)
        self.h = T.rms(x, self.m.norm)
        return self.h @ self.m.head.T

    @torch.no_grad()
    def mtp(self, ids, h):
        m = self.m
        e = F.embedding(torch.tensor([ids[1:]]), m.emb)
        z = F.linear(torch.cat((T.rms(e, m.en), T.rms(h[:, :-1], m.hn)), -1), m.eh)
        self.cache[-1] = None
        z = self.block(len(m.blocks) - 1, z, T.tables(torch.arange(len(ids) - 1)))
        return T.rms(z, m.sn) @ m.head.T


def generate(m, tok, prompt, sel="index", limit=160, seed=0):
    d = Decoder(m, sel, seed)
    out = []
    lo = d.feed(tok.enc(prompt) if isinstance(prompt, str) else prompt)[0, -1]
    while len(out) < limit:
        out.append(int(lo.argmax()))
        if out[-1] == tok.id["eos"]:
            break
        lo = d.feed([out[-1]])[0, -1]
    return out


def run(m, tok, task, n, sel="index", split="held", keep=None):
    ok, by, tt = 0, {}, time.time()
    for msgs, th, want, lab in cases(task, n, split=split):
        p = C.encode(msgs, th)
        out = tok.dec(generate(m, tok, p, sel))
        good = strip(out) == strip(expected(want, th))
        ok += good
        b = by.setdefault(lab + ("/think" if th else ""), [0, 0])
        b[0] += good
        b[1] += 1
        if keep is not None:
            keep.append(dict(task=task, sel=sel, ok=good, prompt=p, out=out, want=expected(want, th)))
    return ok / n, by, time.time() - tt


@torch.no_grad()
def measures(m, tok, n=12, facts=60):
    """attention mass inside the selection (dense attention), load balance, MTP acceptance on own greedy output."""
    K, rec, load, acc, tot = c["index_topk"], {}, {}, 0, 0
    for i, (msgs, th, want, _) in enumerate(cases(f"doc{facts}", n, 77) + cases("call3", n, 77) + cases("answer", n, 77)):
        p = tok.enc(C.encode(msgs, th))
        ids = p + generate(m, tok, p)
        d = Decoder(m, "index"); d.feed(ids); h = d.h
        lo = d.mtp(ids, h)[0].argmax(-1)  # row i drafts token i+2
        for j in range(len(p) + 1, len(ids)):
            acc += int(lo[j - 2]) == ids[j]; tot += 1
        d = Decoder(m, "dense"); d.collect = True; d.feed(ids); d.mtp(ids, d.h)
        for l, (pr, ld) in enumerate(d.rec):
            if ld is not None:
                load[l] = load.get(l, 0) + ld
        if i < n:  # selections on the dense activations
            d2 = Decoder(m, "dense"); d2.collect = True
            e = Decoder(m, "index")
            x = F.embedding(torch.tensor([ids]), m.emb); cs = T.tables(torch.arange(len(ids)))
            for l in range(c["num_hidden_layers"]):
                b = m.blocks[l]
                a = T.rms(x, b.n1)
                _, _, _, qr, _ = b.qkv(a, cs)
                sel, _, _ = e.mask(b, a, qr, cs, None, len(ids), len(ids))
                pr = d.rec[l][0]
                rows = slice(2 * K, len(ids))
                best = pr.topk(K, -1)[0].sum(-1)[rows].mean()
                win = torch.ones_like(sel).tril().triu(-K + 1)
                r = rec.setdefault(l, [0, 0, 0, 0])
                for z, v in enumerate(((pr * sel).sum(-1)[rows].mean(), best, (pr * win).sum(-1)[rows].mean(), (pr * sel).sum(-1)[len(p):].mean())):
                    r[z] += float(v) / n
                x = d2.block(l, x, cs)
    return dict(recall={f"layer{l}": dict(zip(("indexer", "oracle_topk", "window", "indexer_answer_tokens"), [round(x, 4) for x in r])) for l, r in rec.items()},
                max_violation={f"layer{l}": round(float(ld.max() / ld.mean() - 1), 3) for l, ld in load.items()}, mtp_acceptance=round(acc / max(1, tot), 4), mtp_tokens=tot)


def load(run_dir, fp8=False):
    m = T.Tiny()
    m.load_state_dict(torch.load(run_dir + "/ck.pt"))
    if fp8:
        import export
        export.fake_quant(m)
    return m.eval().requires_grad_(False), packing.Tok(run_dir + "/tokenizer.json")


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("THREADS", 2)))
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    m, tok = load(sys.argv[1], "fp8" in sys.argv)
    sels = [a[4:] for a in sys.argv if a.startswith("sel=")] or ["index"]
    C.NAMES, C.ORDER = ([a.split("=")[1] for a in sys.argv if a.startswith(k + "=")] + [None] for k in ("names", "order"))
    C.NAMES, C.ORDER = C.NAMES[0], C.ORDER[0]
    tasks = [a[5:].split(",") for a in sys.argv if a.startswith("task=")]
    for task in tasks[0] if tasks else ["call3", "near3", "answer", "doc20", "doc60", "talk", "math", "name"]:
        for s in sels:
            keep = []
            r, by, t = run(m, tok, task, n, s, keep=keep)
            nm = [(re.findall('invoke name="([^"]+)', k["out"]), re.findall('invoke name="([^"]+)', k["want"])) for k in keep]
            if task[:4] in ("call", "near"):
                by = {"function name right": [sum(a == b for a, b in nm), n]}
            print(task, s, f"{r:.3f}", f"{t:.0f}s", {k: f"{a}/{b}" for k, (a, b) in sorted(by.items())}, flush=True)
            if "show" in sys.argv:
                for k in [k for k in keep if not k["ok"]][:3]:
                    print("   PROMPT ...", k["prompt"][-150:].replace("\n", "\\n"), "\n   GOT ", k["out"].replace("\n", "\\n"), "\n   WANT", k["want"].replace("\n", "\\n"))
    if "measure" in sys.argv:
        print(json.dumps(measures(m, tok, 6, 20)))
