"""Conversations of `dsv32 chat` that are kept: --save, /save, /load, /fork. usage: saves_test.py PROGRAM SOURCE_DIR"""
import json
import time

import cli_program
from cli_program import ModelCase, ToolCase, run, start, tiny_model

FIRST, SECOND = "Who are you?", "What is 47 + 38?"


class SaveTest(ModelCase):
    def setUp(self):
        super().setUp()
        self.chats = self.folder / "chats"

    def chat(self, *lines, options=(), code=0, save=True):
        saving = ("--save", self.chats) if save else ()
        result = run("chat", self.model, "--greedy", "-n", "80", "--json", *saving, *options,
                     stdin="".join(line + "\n" for line in lines))
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    @staticmethod
    def answers(result):
        return [turn["rounds"][0] for turn in json.loads(result.stdout)["turns"]]

    def saved(self, name="chat"):
        return json.loads((self.chats / f"{name}.json").read_text())

    def same_answer(self, got, want):
        for key in ("reasoning", "content", "finish_reason"):
            self.assertEqual(got[key], want[key])

    def test_it_goes_on_where_it_was(self):
        _, want = self.answers(self.chat(FIRST, SECOND, save=False))
        self.chat(FIRST)
        self.assertEqual(sorted(file.name for file in self.chats.iterdir()), ["chat.json", "chat.kv"])
        result = self.chat(SECOND)
        self.assertIn("(going on in 'chat': 1 exchanges; /reset forgets them)", result.stderr)
        (answer,) = self.answers(result)
        self.same_answer(answer, want)
        self.assertGreaterEqual(answer["usage"]["cached_tokens"], 5)  # of the first exchange
        self.assertEqual([m["role"] for m in self.saved()["messages"]], ["user", "assistant"] * 2)
        self.assertEqual(self.saved()["messages"][2]["content"], SECOND)

    def test_without_a_cache_or_with_a_damaged_one_it_is_computed_again(self):
        _, want = self.answers(self.chat(FIRST, SECOND, save=False))
        self.chat(FIRST)
        truth, kv = (self.chats / "chat.json").read_bytes(), self.chats / "chat.kv"
        whole = kv.read_bytes()
        for damage in (b"", whole[:1000], whole[:-1], whole + b"x", b"{}" * 100,
                       whole[:len(whole) // 2] + b"?" + whole[len(whole) // 2 + 1:], None):
            (self.chats / "chat.json").write_bytes(truth)
            kv.unlink(missing_ok=True)
            if damage is not None:
                kv.write_bytes(damage)
            result = self.chat(SECOND)
            (answer,) = self.answers(result)
            self.same_answer(answer, want)
            self.assertEqual("computed again" in result.stderr, damage is not None, result.stderr)
        (self.chats / "chat.json").unlink()  # without the truth a cache is nothing
        self.same_answer(self.answers(self.chat(FIRST))[0], self.answers(self.chat(FIRST, save=False))[0])
        self.assertEqual(len(self.saved()["messages"]), 2)

    def test_a_fork_leaves_the_first_one_as_it_is(self):
        _, want = self.answers(self.chat(FIRST, SECOND, save=False))
        answers = self.answers(self.chat(FIRST, "/fork other", SECOND, "/load chat", SECOND, "/load"))
        self.same_answer(answers[1], want)
        self.same_answer(answers[2], want)
        self.assertEqual(len(self.saved("other")["messages"]), 4)
        self.assertEqual(self.saved("other"), self.saved("chat"))
        listed = run("chat", self.model, "--save", self.chats, stdin="/load\n").stdout
        self.assertIn("chat *\nother\n", listed)
        refused = self.chat("/fork other", code=1).stderr
        self.assertIn("'other' is there already", refused)

    def test_a_kill_costs_what_was_not_answered(self):
        process = start("chat", self.model, "--greedy", "-n", "80", "--save", self.chats)
        process.stdin.write((FIRST + "\n").encode())
        process.stdin.flush()
        end = time.monotonic() + 60
        while not (self.chats / "chat.json").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        self.assertEqual([m["content"] for m in self.saved()["messages"][:1]], [FIRST])
        _, want = self.answers(self.chat(FIRST, SECOND, save=False))
        self.same_answer(self.answers(self.chat(SECOND))[0], want)

    def test_what_is_said_of_it_is_kept_and_options_count(self):
        self.chat("/system Be brief.", "/think off", FIRST, options=("--seed", "7", "--top-k", "5"))
        kept = self.saved()
        self.assertEqual((kept["system"], kept["thinking"]), ("Be brief.", False))
        self.assertEqual((kept["sampling"]["seed"], kept["sampling"]["top_k"]), (7, 5))
        self.assertEqual(kept["sampling"]["temperature"], 0)
        result = run("chat", self.model, "--save", self.chats, "--top-k", "9", stdin="/system\n/think\n")
        self.assertIn("system: Be brief.", result.stdout)
        self.assertIn("think: off", result.stdout)
        kept = self.saved()
        self.assertEqual((kept["sampling"]["seed"], kept["sampling"]["top_k"]), (7, 9))
        self.chat("/undo")
        self.assertEqual(self.saved()["messages"], [])

    def test_what_cannot_be(self):
        self.assertIn("start with --save", self.chat("/save", code=1, save=False).stderr)
        self.assertIn("start with --save", self.chat("/load", code=1, save=False).stderr)
        for name in ("", "a/b", "..", ".hidden"):
            self.assertIn("is no name", self.chat(options=("--name", name), code=2).stderr)
            if name:
                self.assertIn("is no name", self.chat("/fork " + name, code=1).stderr)
        self.assertIn("cannot read", self.chat("/load nothing", code=1).stderr)
        self.chats = self.folder / "no" / "such"
        self.assertIn("No such file", self.chat(FIRST, code=2).stderr)
        self.chats = self.folder / "broken"
        self.chats.mkdir()
        (self.chats / "chat.json").write_text('{"dsv32_chat": 1, "messages": [{"role": "user"}]}')
        self.assertIn("messages[0].content", self.chat(FIRST, code=2).stderr)

    def test_another_model_computes_it_again(self):
        self.chat(FIRST)
        result = self.chat(SECOND, options=("--kv", "bf16"))
        self.assertIn("kv_format", result.stderr)
        self.assertEqual(len(self.saved()["messages"]), 4)


class ToolSaveTest(ToolCase):
    def test_tools_are_kept_and_their_programs_are_not(self):
        chats = self.folder / "chats"
        question = self.demo["question"] + "\n"
        self.ok(*self.options(), "--json", "--save", chats, stdin=question)
        kept = json.loads((chats / "chat.json").read_text())
        self.assertTrue(kept["tools"])
        self.assertNotIn("command", json.dumps(kept["tools"]))
        roles = [m["role"] for m in kept["messages"]]
        self.assertEqual(roles[:3], ["user", "assistant", "tool"])
        result = run("chat", tiny_model(), "--greedy", "--json", "--save", chats, stdin="/undo\n" + question)
        call = json.loads(result.stdout)["turns"][0]["rounds"][0]["tool_calls"][0]
        self.assertIn("not at hand", call["result"])


if __name__ == "__main__":
    cli_program.main()
