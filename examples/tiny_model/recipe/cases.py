"""The questions that the scores are taken on, and what is right: names, tools and facts that training never saw."""
import corpus as C, words


def expected(m, thinking):
    """official text of the assistant message that follows the prompt."""
    s = ((m.get("reasoning_content") or "") + C.ETH if thinking else "") + m["content"]
    return s + ("\n\n" + C.call_block(m["tool_calls"]) if m.get("tool_calls") else "") + C.EOS


def strip(s):
    return s.rsplit(C.ETH, 1)[-1]


def cases(task, n, seed=99, split="held"):
    """-> [(messages before the reply, thinking, reply message, label)]"""
    out = []
    for i in range(n):
        g = words.G(seed * 1000 + i, split)
        th = i % 2 == 0
        if task[:4] in ("call", "near", "answ"):  # call3: three tools of different domains; near3: three that differ in one word
            ts = C.tool_set(g, int(task[4:]) if task[4:].isdigit() else 3, "near" if task[:4] == "near" else "far")
            t = g.c(*ts)
            m = [{"role": "system", "content": g.c(*C.SYS), "tools": [x["schema"] for x in ts]}] + C.tool_turn(g, t, True, ts=ts)
            th = True
            cut = len(m) - 1 if task == "answer" else 2
            out.append((m[:cut], th, m[cut], t["dom"]))
        elif task.startswith("doc"):
            text, facts = C.document(g, int(task[3:]))
            f = g.r.choice(facts[: max(1, len(facts) * 3 // 4)])  # the answer never stands in the last quarter
            q = C.doc_question(g, f, th)
            q[0]["content"] = g.c("Read this text:\n", "Here is a text.\n") + text + "\n\n" + q[0]["content"]
            out.append((q[:1], th, q[1], str(C.FACTS.index(f[2]))))
        else:
            m = {"talk": C.talk_turn, "math": C.math_turn}[task](g, th) if task != "name" else C.name_turn(g)
            th = m[0]["think"]
            out.append((m[:1], th, m[1], task))
    return out
