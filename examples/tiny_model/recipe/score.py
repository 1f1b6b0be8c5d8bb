"""Scores the bundled model through the library: greedy, native numerics, sparse, on names it has never seen.

Every case is one run of `dsv32 generate` on token ids; PyTorch only makes the cases. Writes a table and a JSON file.
usage: score.py DSV32_PROGRAM MODEL_DIR OUT.json [cases per task] [task,task,...]
"""
import concurrent.futures, json, os, subprocess, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corpus as C, evaluate as EV

TASKS = ("call3", "free3", "near3", "answer", "none", "talk", "math", "doc20", "doc60")
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


def main():
    program, model, out = sys.argv[1:4]
    n = int(sys.argv[4]) if len(sys.argv) > 4 else 200
    tasks = sys.argv[5].split(",") if len(sys.argv) > 5 else TASKS
    tok, scores = C.Tok(model + "/tokenizer.json"), {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for task in tasks:
            value, length = score(program, model, tok, task, n, pool)
            scores[task] = {"score": round(value, 3), "cases": n, "prompt_tokens": round(length)}
            print(f"{task:8} {value:.3f}   {n} cases, {length:.0f} prompt tokens on average", flush=True)
            json.dump(scores, open(out, "w"), indent=1)


if __name__ == "__main__":
    main()
