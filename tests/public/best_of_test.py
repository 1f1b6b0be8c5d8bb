"""`dsv32 best-of`: candidates that anybody can make again, and their vote. usage: best_of_test.py PROGRAM SOURCE_DIR"""
import json

import cli_program
from cli_program import ModelCase, run

QUESTION = "What is 47 + 38?"


class BestOfTest(ModelCase):
    def best(self, *options, code=0, tokens=200):
        result = run("best-of", self.model, "--seed", "5", "-n", tokens, "--json", *options, QUESTION)
        self.assertEqual(result.returncode, code, result.stderr)
        return json.loads(result.stdout)

    def test_a_candidate_is_what_generate_gives_with_its_seed(self):
        out = self.best("--of", "5", "--keep", "3", "--temp", "1")
        self.assertEqual([c["seed"] for c in out["candidates"]], [5, 6, 7, 8, 9])
        for candidate in out["candidates"]:
            alone = json.loads(self.ok("generate", self.model, "--chat", "--think", "--json", "-n", "200", "--temp", "1",
                                       "--seed", str(candidate["seed"]), QUESTION))
            for key in ("reasoning", "content", "finish_reason", "stop_token", "faults", "seed"):
                self.assertEqual(candidate[key], alone[key])

    def test_the_longest_thoughts_vote(self):
        out = self.best("--of", "6", "--keep", "2", "--temp", "1")
        valid = [c for c in out["candidates"] if c["valid"]]
        self.assertTrue(valid)
        kept = [c["usage"]["thinking_tokens"] for c in valid if c["kept"]]
        rest = [c["usage"]["thinking_tokens"] for c in valid if not c["kept"]]
        self.assertEqual(len(kept), min(2, len(valid)))
        self.assertGreaterEqual(min(kept), max(rest, default=0))
        winner = out["candidates"][out["winner"]]
        self.assertTrue(winner["kept"])
        self.assertEqual((out["answer"], out["content"]), (winner["answer"], winner["content"]))

    def test_an_expression_says_what_is_voted_for(self):
        out = self.best("--of", "3", "--keep", "3", "--answer", r"= (\d+)")
        self.assertTrue(out["answer"].isdigit(), out["answer"])
        out = self.best("--of", "3", "--keep", "3", "--answer", "never there")
        self.assertIsNone(out["answer"])
        self.assertTrue(out["content"])

    def test_people_get_the_answer_and_a_line_a_candidate(self):
        result = run("best-of", self.model, "--seed", "5", "--of", "3", "--keep", "2", "-n", "200", "--greedy", QUESTION)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("85", result.stdout)
        lines = [line for line in result.stderr.splitlines() if "tokens of thinking" in line]
        self.assertEqual(len(lines), 3, result.stderr)
        self.assertEqual(sum(line.startswith("* ") for line in lines), 1)
        self.assertIn("shorter than those that are kept", lines[2])

    def test_what_cannot_be(self):
        out = self.best("--of", "3", "--keep", "2", code=1, tokens=2)
        self.assertIsNone(out["winner"])
        self.assertFalse(any(c["valid"] for c in out["candidates"]))
        for options, part in ((("--keep", "17"), "--keep is more than --of"), (("--of", "0"), "--of"),
                              (("--of", "129"), "--of"), (("--answer", "("), "--answer")):
            self.assertIn(part, self.fails(2, "best-of", self.model, QUESTION, *options))


if __name__ == "__main__":
    cli_program.main()
