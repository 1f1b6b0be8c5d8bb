"""Scores the bundled model through the library: greedy, native numerics, sparse, on names it has never seen.

Every case is a run of `dsv32 generate` on token ids; numpy makes the cases. Writes a table and a JSON file.
usage: score.py DSV32_PROGRAM MODEL_DIR OUT.json [cases per task] [task,task,...]
JOBS=N: so many runs at a time. SELECTION=PROGRAM: tests/controls' dsv32_selection, for the tasks window* and random*.
"""
import concurrent.futures, json, os, subprocess, sys, tempfile
import numpy as np
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import attention, cases as K, corpus as C, packing, words

TASKS = ("call3", "free3", "near3", "answer", "none", "talk", "math", "doc20", "doc60", "dense20", "dense60",
         "window20", "window60", "random20", "random60", "traced", "agreement", "mass")
LIMIT = 400  # tokens; the longest right answer has 260
MIXED = ("call3", "answer", "talk", "math", "doc20")


def cases(task, n):
    """[(messages, thinking, wanted reply)]; free3: tools with made-up names; none: tools that the question does not need."""
    C.NAMES = "word" if task == "call3" else "free"
    if task == "none":
        return [(m, th, want) for m, th, want in no_tool_cases(n)]
    return [(m, th, want) for m, th, want, _ in K.cases("call3" if task == "free3" else task, n)]


def no_tool_cases(n):
    for i in range(n):
        g = words.G(77000 + i, "held")
        tools = C.tool_set(g, 3, "far")
        turn = C.talk_turn(g, i % 2 == 0)
        system = {"role": "system", "content": g.c(*C.SYS), "tools": [t["schema"] for t in tools]}
        yield [system, turn[0]], i % 2 == 0, turn[1]


def call(command, text):
    done = subprocess.run(command, input=text, capture_output=True, text=True, env={**os.environ, "DSV32_THREADS": "1"})
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout


def run(program, model, ids, *more):
    return json.loads(call([program, "generate", "-m", model, "--ids", "-f", "-", "--greedy", "-n", str(LIMIT), *more], json.dumps(ids)))


def trace(program, model, ids, *more):
    with tempfile.TemporaryDirectory() as folder:
        call([program, "trace", "-m", model, "--ids", "-", "-o", folder + "/trace", *more], json.dumps(ids))
        return attention.read(folder + "/trace")


def dense_copy(model, folder):
    """The same weights; the config says that every query reads all it sees."""
    config = json.load(open(model + "/config.json"))
    config["index_topk"] = config["max_position_embeddings"]
    json.dump(config, open(folder + "/config.json", "w"))
    for name in ("model.safetensors", "tokenizer.json", "generation_config.json"):
        os.symlink(os.path.abspath(model + "/" + name), folder + "/" + name)


def outputs(program, model, task, prompts, pool):
    """The greedy answers. Retrieval also with every key (dense), or with the nearest or random ones instead of the indexer's."""
    if task.startswith(("window", "random")):
        lines = "".join(json.dumps(ids) + "\n" for ids in prompts)
        return [json.loads(line) for line in call([os.environ["SELECTION"], model, task[:6], str(LIMIT)], lines).splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        if task.startswith("dense"):
            dense_copy(model, folder)
            model = folder
        return list(pool.map(lambda ids: run(program, model, ids), prompts))


def score(program, model, tok, task, n, pool):
    work = cases("doc" + task[-2:] if task.startswith(("dense", "window", "random")) else task, n)
    prompts = [tok.enc(C.encode(m, th)) for m, th, _ in work]
    right = 0
    for (_, th, want), ids in zip(work, outputs(program, model, task, prompts, pool)):
        got = tok.dec([i for i in ids if i != tok.id["eos"]])
        if task == "none":
            right += C.D not in got
        else:
            right += K.strip(got) == K.strip(K.expected(want, th)).replace(C.EOS, "")
    return {task: {"score": round(right / len(work), 3), "cases": len(work), "prompt_tokens": round(sum(map(len, prompts)) / len(work))}}


def written(program, model, tok, tasks, n):
    """(length of the prompt, prompt + the model's own answer + end) of so many cases of each task."""
    for task in tasks:
        for messages, th, _ in cases(task, n):
            prompt = tok.enc(C.encode(messages, th))
            yield len(prompt), prompt + run(program, model, prompt) + [tok.id["eos"]]


def traced(program, model, tok, n):
    """MTP drafts and the experts' load on answers that the model wrote."""
    right = total = load = 0
    for start, ids in written(program, model, tok, ("answer", "math", "doc20"), n // 3):
        t = trace(program, model, ids)
        draft = t["mtp_logits"].argmax(-1)
        right += sum(int(draft[i]) == ids[i + 2] for i in range(start - 1, len(ids) - 2))  # row i drafts token i + 2
        total += len(ids) - 1 - start
        load = load + np.stack([np.bincount(layer.ravel(), minlength=8) for layer in t["experts"]])
    worst = (load.max(1) / load.mean(1)).max()
    return {"mtp": {"score": round(right / total, 3), "tokens": total}, "expert_load": {"score": round(float(worst), 3), "tokens": int(load[0].sum() / 2)}}


def agreement(program, model, tok, n):
    """Dialogues whose greedy text is the same with native and with exact numerics."""
    same = total = 0
    for task in MIXED:
        for messages, th, _ in cases(task, n // 5):
            ids = tok.enc(C.encode(messages, th))
            same, total = same + (run(program, model, ids) == run(program, model, ids, "--numerics", "exact")), total + 1
    return {"native_as_exact": {"score": round(same / total, 3), "cases": total}}


def mass(program, model, tok, n):
    """Of the attention mass that the best index_topk keys would have, how much the library's selection has: answer tokens, each layer."""
    reference = attention.Model(model)
    got, best, queries, cases_used = 0, 0, 0, 0
    for start, ids in written(program, model, tok, ("call3", "answer", "doc20", "doc60"), n // 4):
        if cases_used == 0:  # the reference is the same model
            t = trace(program, model, ids, "--numerics", "exact")
            worst = np.abs(reference.forward(ids, t["topk"])[0] - t["logits"]).max()
            assert worst < 1e-2, worst
        t = trace(program, model, ids)
        _, masks, dense = reference.forward(ids, t["topk"])
        rows = slice(max(start - 1, t["topk"].shape[2]), len(ids) - 1)
        got = got + np.array([(p * m)[rows].sum() for p, m in zip(dense, masks)])
        best = best + np.array([np.sort(p[rows], -1)[:, -t["topk"].shape[2]:].sum() for p in dense])
        queries, cases_used = queries + rows.stop - rows.start, cases_used + 1
    return {"attention_mass": {"score": round(float((got / best).min()), 3), "layers": [round(float(x), 4) for x in got / best], "queries": queries, "cases": cases_used}}


def main():
    program, model, out = sys.argv[1:4]
    n = int(sys.argv[4]) if len(sys.argv) > 4 else 200
    tasks = sys.argv[5].split(",") if len(sys.argv) > 5 else TASKS
    tok, scores = packing.Tok(model + "/tokenizer.json"), {}
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count()))) as pool:
        for task in tasks:
            special = {"traced": traced, "agreement": agreement, "mass": mass}.get(task)
            new = special(program, model, tok, n) if special else score(program, model, tok, task, n, pool)
            scores.update(new)
            print(new, flush=True)
            json.dump(scores, open(out, "w"), indent=1)


if __name__ == "__main__":
    main()
