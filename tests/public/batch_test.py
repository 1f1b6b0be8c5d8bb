"""`dsv32 batch`, and the examples around the engine. usage: batch_test.py PROGRAM SOURCE_DIR

What is right is what `dsv32 generate` gives for each request alone.
"""
import json
import os
import signal
import subprocess
import time

import cli_program
from cli_program import ModelCase, Terminal, ToolCase, golden, run, start, tiny_model

THINK = {"type": "enabled"}


def user(text):
    return [{"role": "user", "content": text}]


def request(custom_id, body):
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def asking(custom_id, text, **body):
    return request(custom_id, {"model": "tiny", "messages": user(text), "temperature": 0, **body})


def without_time(line):
    """A result but for its time, and for what it found in the cache, which depends on the others."""
    line = json.loads(line)
    body = line["response"]["body"]
    if "created" in body:
        del body["created"], body["usage"]["prompt_tokens_details"]
    return line


class BatchCase(ModelCase):
    def setUp(self):
        super().setUp()
        self.input, self.out = self.folder / "in.jsonl", self.folder / "out.jsonl"

    def write(self, *requests):
        lines = [r if isinstance(r, str) else json.dumps(r) for r in requests]
        self.input.write_text("".join(line + "\n" for line in lines))

    def command(self, *options):
        return ("batch", self.model, self.input, "-o", self.out, *options)

    def results(self):
        return {(line["custom_id"] or line["id"]): line
                for line in map(json.loads, self.out.read_text(encoding="utf-8").splitlines())}

    def batch(self, *requests, options=()):
        self.write(*requests)
        self.ok(*self.command(*options))
        return self.results()

    def answer(self, line):
        self.assertIsNone(line["error"])
        self.assertEqual(line["response"]["status_code"], 200)
        body = line["response"]["body"]
        self.assertEqual(body["object"], "chat.completion")
        return body

    def alone(self, text, *options):
        return json.loads(self.ok("generate", self.model, text, "--chat", "--json", *options))

    def same(self, body, alone, choice=0):
        got = body["choices"][choice]
        message = got["message"]
        self.assertEqual(message["role"], "assistant")
        self.assertEqual(message["content"], alone["content"])
        self.assertEqual(message.get("reasoning_content", ""), alone["reasoning"])
        self.assertEqual(got["finish_reason"], alone["finish_reason"])
        self.assertEqual(got.get("stop_string", ""), alone["stop_string"])
        self.assertEqual(got["seed"], alone["seed"])
        self.assertEqual(body["usage"]["prompt_tokens"], alone["usage"]["prompt_tokens"])


class AnswerTest(BatchCase):
    def test_each_answer_is_what_it_is_alone(self):
        cases = {
            "sum": ("What is 47 + 38?", {"seed": 1}, ("--greedy", "--seed", "1")),
            "thought": ("What is 47 + 38?", {"seed": 2, "thinking": THINK}, ("--greedy", "--seed", "2", "--think")),
            "drawn": ("Who are you?", {"seed": 3, "temperature": 1.5, "top_p": 1}, ("--temp", "1.5", "--top-p", "1", "--seed", "3")),
            "again": ("Who are you?", {"seed": 4, "temperature": 1.5, "top_p": 1}, ("--temp", "1.5", "--top-p", "1", "--seed", "4")),
            "cut": ("Who are you?", {"seed": 5, "max_tokens": 3}, ("--greedy", "--seed", "5", "-n", "3")),
            "stopped": ("What is 47 + 38?", {"seed": 6, "stop": ["8"], "thinking": THINK},
                        ("--greedy", "--seed", "6", "--stop", "8", "--think")),
            "budget": ("What is 47 + 38?", {"seed": 7, "thinking": {**THINK, "budget_tokens": 4}},
                       ("--greedy", "--seed", "7", "--think", "--think-budget", "4")),
            "penalties": ("Hello", {"seed": 8, "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2},
                          ("--greedy", "--seed", "8", "--repetition-penalty", "1.3", "--presence-penalty", "0.5",
                           "--frequency-penalty", "0.2")),
        }
        system = request("system", {"messages": [{"role": "system", "content": "Be brief."}, *user("Hello")],
                                    "temperature": 0, "seed": 9})
        requests = [asking(name, text, **body) for name, (text, body, _) in cases.items()] + [system]
        for options in ((), ("--at-once", "2", "--batch", "7")):
            results = self.batch(*requests, options=options)
            self.assertEqual(set(results), set(cases) | {"system"})
            for name, (text, _, words) in cases.items():
                with self.subTest(name):
                    self.same(self.answer(results[name]), self.alone(text, *words))
            self.same(self.answer(results["system"]),
                      self.alone("Hello", "--greedy", "--seed", "9", "--system", "Be brief."))
            self.assertIn("85", self.answer(results["thought"])["choices"][0]["message"]["content"])
            self.out.unlink()

    def test_results_have_openais_shape(self):
        line = self.batch(asking("one", "Hello", seed=1))["one"]
        self.assertEqual(list(line), ["id", "custom_id", "response", "error"])
        self.assertRegex(line["id"], r"^batch_req_[0-9a-f]{16}_1$")
        body = self.answer(line)
        self.assertEqual(body["model"], "tiny")
        self.assertLess(abs(body["created"] - time.time()), 600)
        usage = body["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])

    def test_several_answers_have_seeds_in_a_row(self):
        options = {"temperature": 1.5, "top_p": 1, "n": 3}
        body = self.answer(self.batch(asking("n", "Who are you?", seed=40, **options))["n"])
        self.assertEqual([choice["index"] for choice in body["choices"]], [0, 1, 2])
        written = 0
        for i in range(3):
            alone = self.alone("Who are you?", "--temp", "1.5", "--top-p", "1", "--seed", str(40 + i))
            self.same(body, alone, i)
            written += alone["usage"]["generated_tokens"]
        self.assertEqual(body["usage"]["completion_tokens"], written)

    def test_a_stop_string_in_one_of_several_ends_that_one(self):
        options = {"temperature": 1.5, "top_p": 1, "n": 4, "stop": ["85"], "thinking": THINK}
        body = self.answer(self.batch(asking("n", "What is 47 + 38?", seed=7, **options))["n"])
        reasons = set()
        for i in range(4):
            alone = self.alone("What is 47 + 38?", "--temp", "1.5", "--top-p", "1", "--think", "--stop", "85",
                               "--seed", str(7 + i))
            self.same(body, alone, i)
            reasons.add(alone["stop_string"])
        self.assertIn("85", reasons)  # or it shows nothing

    def test_logprobs_are_those_of_the_tokens(self):
        body = self.answer(self.batch(asking("p", "What is 47 + 38?", seed=1, logprobs=True, top_logprobs=2,
                                             thinking=THINK))["p"])
        choice = body["choices"][0]
        tokens = choice["logprobs"]["content"]
        for token in tokens:
            self.assertEqual(len(token["top_logprobs"]), 2)
            best, second = token["top_logprobs"]
            self.assertEqual((best["token"], best["logprob"]), (token["token"], token["logprob"]))  # greedy
            self.assertLessEqual(second["logprob"], best["logprob"])
            self.assertLessEqual(best["logprob"], 0)
        text = b"".join(bytes(token["bytes"]) for token in tokens).decode()
        message = choice["message"]
        self.assertEqual(text, message["reasoning_content"] + "</think>" + message["content"])

    def test_a_prompt_that_many_share_is_computed_once(self):
        system = {"role": "system", "content": "You are a helpful assistant. " * 40}
        requests = [request(f"r{i}", {"messages": [system, *user(f"What is 4{i} + 38?")], "temperature": 0,
                                      "seed": i}) for i in range(6)]
        self.write(*requests)
        report = json.loads(self.ok(*self.command("--json", "--at-once", "2")))
        self.assertEqual((report["requests"], report["answered"], report["errors"]), (6, 6, 0))
        self.assertEqual(report["prompt_tokens"], report["reused_tokens"] + report["computed_tokens"])
        self.assertGreater(report["reused_tokens"], report["prompt_tokens"] // 2)
        bodies = [self.answer(line) for line in self.results().values()]
        cached = [body["usage"]["prompt_tokens_details"]["cached_tokens"] for body in bodies]
        self.assertEqual(sum(cached), report["reused_tokens"])
        for i in range(6):
            self.same(self.answer(self.results()[f"r{i}"]),
                      self.alone(f"What is 4{i} + 38?", "--greedy", "--seed", str(i), "--system", system["content"]))


class CallTest(ToolCase):
    def test_calls_come_as_calls_and_go_back_as_messages(self):
        tools = [{"type": "function", "function": entry["function"]} for entry in self.entries]
        messages = [{"role": "system", "content": self.system}, *user(self.demo["question"])]
        body = {"messages": messages, "tools": tools, "temperature": 0, "max_tokens": 400, "thinking": THINK}
        source, out = self.folder / "in", self.folder / "out"
        source.write_text(json.dumps(request("call", body)) + "\n")
        self.ok("batch", tiny_model(), source, "-o", out)
        choice = json.loads(out.read_text())["response"]["body"]["choices"][0]
        self.assertEqual(choice["finish_reason"], "tool_calls")
        calls = choice["message"]["tool_calls"]
        self.assertEqual([{"name": c["function"]["name"], "arguments": json.loads(c["function"]["arguments"])}
                          for c in calls], self.demo["calls"])
        self.assertEqual(len({call["id"] for call in calls}), len(calls))
        result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": '{"temp": 7, "sky": "light rain"}'}
        source.write_text(json.dumps(request("result", {**body, "messages": [*messages, choice["message"], result]}))
                          + "\n" + json.dumps(request("none", {**body, "tool_choice": "none"})) + "\n")
        out.unlink()
        self.ok("batch", tiny_model(), source, "-o", out)
        answers = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]
                   for line in map(json.loads, out.read_text().splitlines())}
        for word in self.demo["expect"]:
            self.assertIn(word, answers["result"]["content"])
        self.assertNotIn("tool_calls", answers["none"])


class BadLineTest(BatchCase):
    def test_a_bad_line_is_an_error_of_its_own(self):
        good = asking("good", "Hello", seed=1)
        results = self.batch(
            "not JSON", asking("typo", "Hello", temprature=1), good, asking("hot", "Hello", temperature=-1),
            asking("long", "Hello " * 3000), asking("good", "Hello again"),
            request("nobody", {"messages": [{"role": "assistant", "content": "Hi"}]}),
            asking("stops", "Hello", stop=[""]), asking("bias", "Hello", logit_bias={"99999": 1}),
            '{"custom_id": "deep", "body": ' + "[" * 1000 + "]" * 1000 + "}", asking("last", "Hello", seed=1),
            options=("--ctx", "1k"))
        lines = {int(line["id"].rsplit("_", 1)[1]): line for line in map(json.loads, self.out.read_text().splitlines())}
        self.assertEqual(set(lines), set(range(1, 12)))
        for number, (custom_id, words) in {
                1: (None, ["no JSON"]), 2: ("typo", ["body.temprature"]), 4: ("hot", ["temperature"]),
                5: ("long", ["tokens"]), 6: ("good", ["line 3", "custom_id"]), 7: ("nobody", ["message"]),
                8: ("stops", ["stop"]), 9: ("bias", ["99999"]), 10: (None, ["no JSON"])}.items():
            line = lines[number]
            self.assertEqual(line["custom_id"], custom_id)
            self.assertEqual(line["response"]["status_code"], 400, line)
            self.assertEqual(line["response"]["body"]["error"]["message"], line["error"]["message"])
            for word in words:
                self.assertIn(word, line["error"]["message"])
        self.assertEqual(lines[2]["error"]["param"], "body.temprature")
        for number in (3, 11):
            self.same(self.answer(lines[number]), self.alone("Hello", "--greedy", "--seed", "1"))

    def test_a_line_of_any_length_is_refused_in_little_memory(self):
        self.input.write_text(json.dumps(asking("huge", "x" * (17 << 20))) + "\n" + json.dumps(asking("b", "Hello")) + "\n")
        self.ok(*self.command())
        first, second = map(json.loads, self.out.read_text().splitlines())
        self.assertIn("16777216 bytes", first["error"]["message"])
        self.assertEqual(second["custom_id"], "b")
        self.answer(second)


class FileTest(BatchCase):
    REQUESTS = [asking(f"r{i}", f"What is {i + 11} + {3 * i + 12}?", seed=i, thinking=THINK) for i in range(12)]

    def test_a_run_that_was_cut_goes_on(self):
        self.batch(*self.REQUESTS)
        whole = self.out.read_bytes()
        expected = sorted(map(str, map(without_time, whole.splitlines())))
        for size in (len(whole) // 2, 1, len(whole) - 1):
            self.out.write_bytes(whole[:size])
            kept = whole[:whole.rfind(b"\n", 0, size) + 1]
            report = json.loads(self.ok(*self.command("--json")))
            after = self.out.read_bytes()
            self.assertTrue(after.startswith(kept))
            self.assertEqual(sorted(map(str, map(without_time, after.splitlines()))), expected)
            self.assertEqual(report["answered_before"], kept.count(b"\n"))
            self.assertEqual(report["answered"], 12 - kept.count(b"\n"))
        report = json.loads(self.ok(*self.command("--json")))
        self.assertEqual((report["answered_before"], report["steps"]), (12, 0))
        self.assertEqual(self.out.read_bytes(), after)

    def test_another_input_is_refused_and_nothing_is_lost(self):
        self.batch(*self.REQUESTS[:2])
        before = self.out.read_bytes()
        for others in (self.REQUESTS[:3], self.REQUESTS[1::-1], [asking("x", "Hello")]):
            self.write(*others)
            self.assertIn("another input", self.fails(2, *self.command()))
            self.assertEqual(self.out.read_bytes(), before)
        self.write(*self.REQUESTS[:2])
        self.out.write_text("my notes\n")
        self.assertIn("no result", self.fails(2, *self.command()))
        self.assertEqual(self.out.read_text(), "my notes\n")

    def long_requests(self):
        end = json.loads((self.model / "config.json").read_text())["eos_token_id"]
        return [asking("short", "Hello", seed=9),
                *(asking(f"long{i}", "Tell me a story", seed=i, temperature=100, top_p=1, max_tokens=1500,
                         logit_bias={str(end): -1e6}) for i in range(3))]

    def started(self, *options, **how):
        process = start(*self.command(*options), **how)
        end = time.monotonic() + 120
        while not (self.out.exists() and self.out.read_bytes().count(b"\n") >= 1):
            self.assertLess(time.monotonic(), end)
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        return process

    def test_ctrl_c_and_kill_leave_what_is_done(self):
        self.batch(*self.long_requests())
        expected = sorted(map(str, map(without_time, self.out.read_text().splitlines())))
        for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, -15)):
            self.out.unlink()
            process = self.started()
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, code, err)
            if number == signal.SIGINT:
                self.assertIn(b"goes on from there", err)
                self.assertIn(b"to do", err)
                self.assertTrue(self.out.read_text().endswith("\n"))
            self.assertLess(self.out.read_bytes().count(b"\n"), 4)
            self.ok(*self.command())
            self.assertEqual(sorted(map(str, map(without_time, self.out.read_text().splitlines()))), expected)

    def test_one_program_at_a_time_writes_the_results(self):
        self.write(*self.long_requests())
        process = self.started()
        self.assertIn("another process", self.fails(2, *self.command()))
        process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(len(self.results()), 4)

    def test_what_ends_it_is_found_before_the_work_and_leaves_no_file(self):
        self.write(asking("a", "Hello"))
        self.fails(2, "batch", self.model, "-o", self.out)
        self.fails(2, *self.command("one-more"))
        self.fails(2, "batch", self.model, self.input)
        self.assertIn("No such file", self.fails(2, "batch", self.model, self.folder / "absent", "-o", self.out))
        self.assertIn("read twice", self.fails(2, "batch", self.model, self.folder, "-o", self.out))
        self.assertIn("own", self.fails(2, "batch", self.model, self.input, "-o", self.input))
        self.fails(2, "batch", self.model, self.input, "-o", self.folder)
        self.fails(3, "batch", self.folder / "absent", self.input, "-o", self.out)
        self.fails(3, "batch", golden(), self.input, "-o", self.out)  # without a tokenizer
        self.fails(4, *self.command("--ctx", "1G"))
        self.assertFalse(self.out.exists())
        self.assertEqual(self.input.read_text().count("\n"), 1)

    def test_an_empty_input_has_empty_results(self):
        self.input.write_text("\n \n")
        self.ok(*self.command())
        self.assertEqual(self.out.read_bytes(), b"")

    def test_progress_is_for_a_terminal(self):
        self.write(*self.long_requests())
        terminal = Terminal(*self.command(), TERM="xterm")
        terminal.wait_for("answering [")
        terminal.wait_for("4 answered, 0 with an error")
        self.assertEqual(terminal.end(), 0)
        for options, lines in (((), 1), (("-q",), 0)):
            self.out.unlink()
            result = run(*options, *self.command())
            self.assertEqual((result.returncode, result.stdout), (0, ""))
            self.assertEqual(result.stderr.count("\n"), lines, result.stderr)
            self.assertNotIn("answering", result.stderr)


class ExampleTest(ModelCase):
    def example(self, name, *words, stdin=""):
        file = os.path.join(os.path.dirname(cli_program.program), "..", name)
        if not os.path.exists(file):
            self.skipTest(f"no {name}")
        return subprocess.run([file, str(self.model), *words], input=stdin, capture_output=True, encoding="utf-8", timeout=120)

    def test_batch_prints_each_answer_once(self):
        questions = ["Hello", "Who are you?", "Hello"]
        done = self.example("dsv32-batch", *questions)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(sorted(line for line in done.stdout.splitlines() if line[:1] != " "), sorted(questions))
        self.assertEqual(sum(line.startswith("  ") for line in done.stdout.splitlines()), 3)

    def test_the_loop_serves_and_cancels(self):
        done = self.example("dsv32-serve-loop", stdin="Hello\nWho are you?\n!1\n!7\n" + "long " * 40000 + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        ends = [line.split()[:2] for line in done.stdout.splitlines() if line.split()[1:2] not in (["none:"], [])]
        self.assertIn(["0", "stop:"], ends)
        self.assertEqual([end[0] for end in sorted(ends)], ["0", "1"])
        self.assertEqual(done.stderr.count("\n"), 2, done.stderr)  # no number 7, and a prompt that is too long


if __name__ == "__main__":
    cli_program.main()
