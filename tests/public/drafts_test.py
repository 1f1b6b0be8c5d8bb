"""`--drafts`: the same answers in fewer passes. usage: drafts_test.py PROGRAM SOURCE_DIR"""
import json
import pathlib
import tempfile

import cli_program
from cli_program import ModelCase, run

QUESTION = "What is 47 + 38?"


class DraftsTest(ModelCase):
    def generate(self, *options):
        return json.loads(self.ok("generate", self.model, "--chat", "--think", "--json", "-n", "200", "--seed", "3", *options,
                                  QUESTION))

    def test_an_answer_is_the_same_and_its_drafts_are_told(self):
        for sampling in (("--greedy",), ("--temp", "1")):
            plain = self.generate(*sampling)
            self.assertEqual(plain["usage"]["drafted"], [0, 0, 0, 0])
            for drafts in ("1", "4"):
                drafted = self.generate(*sampling, "--drafts", drafts)
                for key in ("reasoning", "content", "finish_reason", "stop_token", "faults", "seed"):
                    self.assertEqual(drafted[key], plain[key])
                made, right = drafted["usage"]["drafted"], drafted["usage"]["accepted"]
                self.assertGreater(made[0], 0)
                if drafts == "1":
                    self.assertEqual(made[1:], [0, 0, 0])
                self.assertTrue(all(a <= d for a, d in zip(right, made)))

    def test_people_see_how_many_were_taken(self):
        chat = run("chat", self.model, "--greedy", "--drafts", "2", stdin=QUESTION + "\n/stats\n")
        self.assertEqual(chat.returncode, 0, chat.stderr)
        self.assertRegex(chat.stdout, r"; \d+ of \d+( and \d+ of \d+)* drafts taken")

    def test_a_batch_and_the_best_of_many_are_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            lines = pathlib.Path(folder, "in.jsonl")
            lines.write_text("".join(json.dumps({"custom_id": str(i), "body": {
                "messages": [{"role": "user", "content": f"What is {i} + 38?"}], "seed": i, "max_tokens": 60}}) + "\n"
                                     for i in range(6)))
            answers = []
            for drafts in ("0", "2"):
                out = pathlib.Path(folder, drafts)
                report = json.loads(self.ok("batch", self.model, str(lines), "-o", str(out), "--json", "--drafts", drafts))
                self.assertEqual(report["drafted"][0] > 0, drafts != "0")
                bodies = {}
                for line in out.read_text().splitlines():
                    result = json.loads(line)
                    bodies[result["custom_id"]] = result["response"]["body"]["choices"]
                answers.append(bodies)
            self.assertEqual(answers[0], answers[1])
        best = [json.loads(self.ok("best-of", self.model, "--seed", "5", "-n", "200", "--json", "--of", "3", "--keep", "2",
                                   "--drafts", drafts, QUESTION)) for drafts in ("0", "3")]
        self.assertEqual(best[0]["answer"], best[1]["answer"])
        self.assertEqual([c["reasoning"] for c in best[0]["candidates"]], [c["reasoning"] for c in best[1]["candidates"]])

    def test_what_cannot_be(self):
        for drafts in ("5", "-1", "x"):
            self.assertIn("--drafts", self.fails(2, "generate", self.model, "--drafts", drafts, "x"))


if __name__ == "__main__":
    cli_program.main()
