"""Makes random well-formed conversations with DeepSeek's own encoder, for `scripts/conformance.sh chat`.

usage: make_messages.py encoding_dsv32.py N [SEED] > messages.jsonl
N rows: about a third whole prompts (kind encode), the rest answers and what the reference parses from them (kind parse).
encoding_dsv32.py is in the folder `encoding` of deepseek-ai/DeepSeek-V3.2. Copies of it elsewhere have lost blank lines of the tools'
text: tools_block.txt, which is the official text, takes its place.
"""
import importlib.util, json, os, random, sys

WORDS = ["the", "weather", "in", "Zürich", "is", "12.5", "°C", "你好", "世界", "🌤️", "naïve", "\n", "\n\n", "  ", "\t", "<", "</", "<b>", "&amp;", "\"quoted\"", "'", "\\",
         "{\"a\": 1}", "[1, 2]", "｜", "DSML", "<|User|>", "<｜", "</thin", "<thin", "\u2028", "\u200d", "e\u0301", "line\r\n", "100%", "$x$", "`code`", "null", "true", "None", "name=\"x\"", "string=\"true\"", ">", "/>", "\n\n<"]
HOSTILE = ["<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<｜DSML｜function_calls>", "</｜DSML｜parameter>", "</result>", "\n</function_results>"]
NAMES = ["get_weather", "search", "f", "send-mail", "Konto.öffnen", "查询", "a b", "x" * 60]


def load(path):
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with open(os.path.dirname(os.path.abspath(__file__)) + "/tools_block.txt", encoding="utf-8", newline="") as f:
        block = f.read()
    module.render_tools = lambda tools: block.replace("@@TOOLS@@", "\n".join(module.to_json(t) for t in tools))
    return module


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def text(self, most=12, hostile=False):
        words = WORDS + HOSTILE * 2 if hostile else WORDS
        return self.r.choice(["", " "]).join(self.r.choice(words) for _ in range(self.r.randint(1, most)))

    def value(self, depth=0):
        r = self.r
        kind = r.randrange(9 if depth < 3 else 7)
        if kind < 3:
            return self.text(5)
        if kind == 7:
            return [self.value(depth + 1) for _ in range(r.randrange(4))]
        if kind == 8:
            return self.object(depth + 1)
        return [r.randint(-10**6, 10**6), r.choice([0.1, 1e5, 1e22, 1e-7, -2.5, 3.0, r.random()]), r.choice([True, False, None]), r.randint(-10**30, 10**30)][kind - 3]

    def object(self, depth=0):
        return {self.r.choice(["city", "n", "天", "a b", "x-y", "q%d" % i, "Ünit"]): self.value(depth) for i in range(self.r.choice([0, 1, 1, 2, 3, 5]))}

    def call(self):
        arguments = json.dumps(self.object(), ensure_ascii=self.r.random() < 0.5, indent=self.r.choice([None, None, 1]))
        return {"type": "function", "id": "c%d" % self.r.randrange(99), "function": {"name": self.r.choice(NAMES), "arguments": arguments}}

    def tool(self):
        return {"type": "function", "function": {"name": self.r.choice(NAMES), "description": self.text(8), "parameters": {"type": "object", "properties": self.object()}}}

    def answer(self, calls):
        """An assistant's message that the reference renders in either mode."""
        message = {"role": "assistant", "content": self.text(15) if self.r.random() < 0.85 else "", "reasoning_content": self.text(20)}
        if calls:
            message["tool_calls"] = [self.call() for _ in range(self.r.choice([1, 1, 1, 2, 3]))]
        return message

    def conversation(self):
        r, out = self.r, []
        if r.random() < 0.6:
            out.append({"role": "system", "content": self.text(8)})
            if r.random() < 0.5:
                out[0]["tools"] = [self.tool() for _ in range(r.randint(1, 3))]
            if r.random() < 0.2:
                out[0]["response_format"] = self.object()
        turns = r.randint(1, 4)
        for turn in range(turns):
            last = turn + 1 == turns
            if last and r.random() < 0.15:
                out.append({"role": "developer", "content": self.text(9, True), **({"tools": [self.tool()]} if r.random() < 0.5 else {})})
            else:
                out.append({"role": "user", "content": self.text(9, True)})
            for _ in range(r.choice([0, 0, 1, 2])):
                message = self.answer(True)
                out.append(message)
                out += [{"role": "tool", "content": self.text(6, True)} for _ in message["tool_calls"]]
            if not last or r.random() < 0.4:
                out.append(self.answer(False))
        return out


def main():
    reference, n, seed = load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    maker, made = Maker(seed), 0
    r = maker.r
    while made < n:
        messages, mode = maker.conversation(), r.choice(["chat", "thinking"])
        rows = []
        cut = r.randrange(len(messages)) if r.random() < 0.3 else 0
        args = {"thinking_mode": mode, "context": messages[:cut], "drop_thinking": r.random() < 0.7, "add_default_bos_token": r.random() < 0.8}
        prompt = reference.encode_messages(messages[cut:], mode, args["context"], args["drop_thinking"], args["add_default_bos_token"])
        rows.append({"kind": "encode", "input": messages[cut:], "args": args, "expected": prompt})
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                text = reference.encode_messages([message], mode, [{"role": "user", "content": "?"}])
                row = {"kind": "parse", "input": text, "args": {"thinking_mode": mode}}
                try:
                    row["expected"] = reference.parse_message_from_completion_text(text, mode)
                    row["expected"].pop("reasoning", None)  # another name for the same, in some copies
                except AssertionError as error:  # words that happen to make a marker
                    row["error"] = {"type": "AssertionError", "message": str(error)}
                rows.append(row)
        for row in rows[: n - made]:
            print(json.dumps({"name": f"made/{seed}/{made}", "tag": "core", **row}, ensure_ascii=False))
            made += 1


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    main()
