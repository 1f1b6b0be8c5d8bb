"""From chats to training rows: the tokenizer, its training, and the row packer."""
import json

import numpy as np

from corpus import TOOLS, BOS, EOS, USER, ASSI, TH, ETH, tool_conv, doc_conv, chat_conv, encode, sample
from words import G, PIECES


def train_tokenizer(path, size=2048, words=490, rows=5000, base=None):
    """BPE with the V3.2 pre-tokenizer, made for copying: merges inside words are learned without the leading space and without digits,
    then 'space + frequent whole word' merges are appended. So a name has the same pieces after a space, a quote or a line start."""
    from collections import Counter
    from tokenizers import Tokenizer, models, trainers, pre_tokenizers as pt
    base = base or __file__.rsplit("/", 1)[0] + "/../tokenizer.json"
    ref = json.load(open(base, encoding="utf-8"))
    t = Tokenizer.from_file(base)
    keep = [a for a in ref["added_tokens"] if a["id"] in (0, 1, 2, 128793) or 128796 <= a["id"] <= 128805]
    g, cnt = G(7), Counter()
    for i in range(rows):
        m = [lambda: tool_conv(g, g.r.choice((1, 2, 3)), 3), lambda: doc_conv(g, 8, 3), lambda: chat_conv(g, 4)][i % 3]()
        s = encode(m, mixed=True)
        s = s.replace(TOOLS.split("@@TOOLS@@")[0], "") if i % 30 else s
        for a in keep:
            s = s.replace(a["content"], "\u0000")
        for q in s.split("\u0000"):
            cnt.update(p for p, _ in t.pre_tokenizer.pre_tokenize_str(q))
    sp, bare = "\u0120", Counter()
    for p, n in cnt.items():
        if not any(ch.isdigit() for ch in p):
            bare[p[1:] if p[0] == sp and len(p) > 1 else p] += n
    alpha = sorted(pt.ByteLevel.alphabet())
    n1 = size - len(keep) - words
    t2 = Tokenizer(models.BPE())
    t2.pre_tokenizer = pt.WhitespaceSplit()
    t2.train_from_iterator((" ".join([p] * min(n, 400)) for p, n in bare.items()), trainers.BpeTrainer(vocab_size=n1, initial_alphabet=alpha, limit_alphabet=256, special_tokens=[], show_progress=False))
    j = json.loads(t2.to_str())["model"]
    have = set(j["vocab"])
    mg = [m if isinstance(m, str) else " ".join(m) for m in j["merges"]]
    toks = alpha + [m.replace(" ", "") for m in mg]
    assert set(toks) == have and len(toks) == n1, (len(toks), n1, len(have))
    lead = [p for p, n in cnt.most_common() if p[0] == sp and p[1:] in have and not (p[1:].isalpha() and len(p) < 3 and p[1:] not in "aI")][:words]
    toks += lead
    mg += [f"{sp} {p[1:]}" for p in lead]
    nsp = len(keep) - 3
    toks += [f"{sp}{sp}{i}" for i in range(size - nsp - 3 - len(toks))]  # unused filler when the corpus has too few words
    vocab = {a["content"]: a["id"] for a in keep[:3]}
    vocab.update({s: i + 3 for i, s in enumerate(toks)})
    out = dict(ref)
    out["added_tokens"] = [dict(a, id=a["id"] if a["id"] < 3 else size - nsp + i - 3) for i, a in enumerate(keep)]
    out["model"] = dict(ref["model"], vocab=vocab, merges=mg)
    json.dump(out, open(path, "w", encoding="utf-8"), ensure_ascii=False, indent=1)
    print("tokenizer:", n1, "inner tokens,", len(lead), "space+word tokens")
    return Tokenizer.from_file(path)


class Tok:
    def __init__(self, path):
        from tokenizers import Tokenizer
        self.t = Tokenizer.from_file(path)
        PIECES[:] = sorted(p for p in self.t.get_vocab() if p.isascii() and p.isalpha() and p.islower() and len(p) < 5)
        self.id = {n: self.t.token_to_id(s) for n, s in dict(bos=BOS, eos=EOS, user=USER, assi=ASSI, th=TH, eth=ETH).items()}

    def enc(self, s):
        return self.t.encode(s, add_special_tokens=False).ids

    def dec(self, ids):
        return self.t.decode(ids, skip_special_tokens=False)

    def targets(self, ids):
        """True where the token is written by the assistant."""
        d, out, inside, after = self.id, [], False, False
        for i, x in enumerate(ids):
            out.append(inside)
            if inside:
                if x == d["eos"]:
                    inside, after = False, True
            elif x in (d["th"], d["eth"]) and i and (ids[i - 1] == d["assi"] or after):
                inside = True
            elif x in (d["bos"], d["user"]):
                after = False
        return out


def rows(tok, seed, n, L, mix, other=.1, short_tools=0.):
    """-> ids int16 [n, L+2], weights float [n, L+2] (assistant 1, other text `other`)."""
    g = G(seed)
    ids, w = np.ones((n, L + 2), np.int16), np.zeros((n, L + 2), np.float32)
    head = TOOLS.split("@@TOOLS@@")[0]
    for i in range(n):
        p = 0
        while p < L - 40:
            short = g.r.random() < short_tools
            room = L - p
            m = sample(g, room, mix if room > (200 if short else 500) else (0, .5, .5) if room > 140 else (0, 0, 1), 10 if short else 300)
            s = encode(m, mixed=True)
            if short:
                s = s.replace(head, "## Tools\n")
            x = tok.enc(s)
            y = tok.targets(x)
            k = min(len(x), L + 2 - p)
            ids[i, p:p + k] = x[:k]
            w[i, p:p + k] = np.where(y[:k], 1.0, other)
            w[i, p] = 0
            p += k
    return ids, w
