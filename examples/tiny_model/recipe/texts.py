"""Held-out conversations as token ids: what `dsv32 quantize --eval` compares predictions on.

A third each with tools, about a text of 20 facts, and small talk with sums; names that training never saw. Needs numpy.
usage: texts.py DSV32_PROGRAM MODEL_DIR [conversations] > texts.json
"""
import json, os, subprocess, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corpus as C, words

LIMIT = 1100  # tokens; the model is unreliable beyond 1,152


def conversation(i):
    g = words.G(51000 + i, "held")
    return C.tool_conv(g, 3, 4) if i % 3 == 0 else C.doc_conv(g, 20, 6) if i % 3 == 1 else C.chat_conv(g, 8)


def main(program, model, count=12):
    C.NAMES = "free"
    texts = []
    for i in range(int(count)):
        command = [program, "tokenize", model, "--special", "-f", "-"]
        done = subprocess.run(command, input=C.encode(conversation(i), mixed=True), capture_output=True, text=True, check=True)
        texts.append(json.loads(done.stdout)[:LIMIT])
    print(json.dumps(texts))


if __name__ == "__main__":
    main(*sys.argv[1:])
