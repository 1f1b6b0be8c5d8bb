"""Scores the bundled model through the library: greedy, native numerics, sparse, on names it has never seen.

Every case is one run of `dsv32 generate` on token ids; PyTorch only makes the cases. Writes a table and a JSON file.
usage: score.py DSV32_PROGRAM MODEL_DIR OUT.json [cases per task] [task,task,...]
"""
import concurrent.futures, json, os, subprocess, sys, tempfile
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corpus as C, evaluate as EV

TASKS = ("call3", "free3", "near3", "answer", "none", "talk", "math", "doc20", "doc60", "traced", "agreement")
LIMIT = 400  # tokens; the longest right answer has 260


def cases(task, n):
    """[(messages, thinking, wanted reply)]; free3: tools with made-up names; none: tools that the question does not need."""
    C.NAMES = "word" if task == "call3" else "free"
    if task == "none":
        return [(m, th, want) for m, th, want in no_tool_cases(n)]
    base = "call3" if task == "free3" else task
    return [(m, th, want) for m, th, want, _ in EV.cases(base, n)]


def no_tool_cases(n):
    for i in range(n):
        g = C.G(77000 + i, "held")
        tools = C.tool_set(g, 3, "far")
        turn = C.talk_turn(g, i % 2 == 0)
        system = {"role": "system", "content": g.c(*C.SYS), "tools": [t["schema"] for t in tools]}
        yield [system, turn[0]], i % 2 == 0, turn[1]


def run(program, model, ids, *more):
    command = [program, "generate", "-m", model, "--ids", "-f", "-", "--greedy", "-n", str(LIMIT), *more]
    done = subprocess.run(command, input=json.dumps(ids), capture_output=True, text=True, env={**os.environ, "DSV32_THREADS": "1"})
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def score(program, model, tok, task, n, pool):
    work = cases(task, n)
    prompts = [tok.enc(C.encode(m, th)) for m, th, _ in work]
    outputs = list(pool.map(lambda ids: run(program, model, ids), prompts))
    right = 0
    for (_, th, want), ids in zip(work, outputs):
        got = tok.dec([i for i in ids if i != tok.id["eos"]])
        if task == "none":
            right += C.D not in got
        else:
            right += EV.strip(got) == EV.strip(EV.expected(want, th)).replace(C.EOS, "")
    return right / len(work), sum(map(len, prompts)) / len(prompts)


def traced(program, model, tok, n):
    """MTP drafts and the experts' load on answers that the model wrote: from `dsv32 trace`."""
    from safetensors import safe_open
    import torch
    right = total = 0
    load = None
    for task in ("answer", "math", "doc20"):
        for messages, th, _ in cases(task, n // 3):
            prompt = tok.enc(C.encode(messages, th))
            ids = prompt + run(program, model, prompt) + [tok.id["eos"]]
            with tempfile.TemporaryDirectory() as folder:
                out = folder + "/trace.safetensors"
                subprocess.run([program, "trace", "-m", model, "--ids", "-", "-o", out], input=json.dumps(ids), text=True, check=True, capture_output=True)
                with safe_open(out, "pt") as f:
                    draft, experts = f.get_tensor("mtp_logits").argmax(-1), f.get_tensor("experts")
            for i in range(len(prompt) - 1, len(ids) - 2):  # row i drafts token i + 2
                right, total = right + int(draft[i] == ids[i + 2]), total + 1
            count = torch.stack([torch.bincount(layer.flatten().long(), minlength=8) for layer in experts]).float()
            load = count if load is None else load + count
    worst = (load.amax(1) / load.mean(1)).max()
    return {"mtp": {"score": round(right / total, 3), "tokens": total}, "expert_load": {"score": round(float(worst), 3), "tokens": int(load[0].sum() / 2)}}


def agreement(program, model, tok, n):
    """Dialogues whose greedy text is the same with native and with exact numerics."""
    same = total = 0
    for task in ("call3", "answer", "talk", "math", "doc20"):
        for messages, th, _ in cases(task, n // 5):
            ids = tok.enc(C.encode(messages, th))
            same, total = same + (run(program, model, ids) == run(program, model, ids, "--numerics", "exact")), total + 1
    return {"native_as_exact": {"score": round(same / total, 3), "cases": total}}


def main():
    program, model, out = sys.argv[1:4]
    n = int(sys.argv[4]) if len(sys.argv) > 4 else 200
    tasks = sys.argv[5].split(",") if len(sys.argv) > 5 else TASKS
    tok, scores = C.Tok(model + "/tokenizer.json"), {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for task in tasks:
            if task in ("traced", "agreement"):
                scores.update({"traced": traced, "agreement": agreement}[task](program, model, tok, n))
                print(scores, flush=True)
                json.dump(scores, open(out, "w"), indent=1)
                continue
            value, length = score(program, model, tok, task, n, pool)
            scores[task] = {"score": round(value, 3), "cases": n, "prompt_tokens": round(length)}
            print(f"{task:8} {value:.3f}   {n} cases, {length:.0f} prompt tokens on average", flush=True)
            json.dump(scores, open(out, "w"), indent=1)


if __name__ == "__main__":
    main()
