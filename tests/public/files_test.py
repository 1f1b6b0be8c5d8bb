"""The files that trace, quantize and make-model write. usage: files_test.py PROGRAM SOURCE_DIR"""
import json
import re
import resource
import signal
import subprocess
import time

import cli_program
from cli_program import Case, clean_environment, golden, read_png, read_safetensors, run, tiny_model

SMALL = ("--layers", "2", "--dense-layers", "1", "--experts", "32", "--vocab", "8192")  # 2.4 GB


def limited(bytes):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, bytes))


class FilesTest(Case):
    def start(self, *words, **options):
        return subprocess.Popen([cli_program.program, *map(str, words)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, encoding="utf-8", env=clean_environment(), **options)

    def ids(self, count, vocab=90):
        file = self.folder / f"ids{count}.json"
        file.write_text(json.dumps([(37 * i + 11) % vocab for i in range(count)]))
        return file

    def test_reports_F8_a_signal_leaves_nothing(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            for made_before in (False, True):
                out = self.folder / "out"
                if made_before:
                    out.mkdir()
                process = self.start("make-model", "-q", "-o", out, *SMALL)
                while process.poll() is None and not list(self.folder.rglob("*.safetensors")):
                    time.sleep(0.01)
                process.send_signal(number)
                process.communicate(timeout=60)
                self.assertEqual(process.returncode, -number)
                left = list(self.folder.rglob("*"))
                self.assertEqual(left, [out] if made_before else [])
                if made_before:
                    out.rmdir()

    def test_reports_F8_a_file_over_its_limit_is_an_error(self):
        for words in (("make-model", "-o", self.folder / "out", *SMALL),
                      ("trace", golden(), "--ids", self.ids(2000), "-o", self.folder / "out"),
                      ("quantize", golden(), "-o", self.folder / "out", "--no-eval")):
            process = self.start(*words, preexec_fn=limited(1 << 16))
            _, said = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 1, said)
            self.assertIn("File too large", said)
            self.assertEqual([file.name for file in self.folder.iterdir() if not file.name.startswith("ids")], [])

    def test_reports_F8_what_was_there_stays_until_the_new_one_is_whole(self):
        out = self.folder / "out"
        out.write_text("mine")
        link = self.folder / "link"
        link.symlink_to(out)
        self.fails(4, "trace", golden(), "--ids", self.ids(5000), "-o", link)
        self.assertEqual(out.read_text(), "mine")
        self.ok("trace", golden(), "--ids", self.ids(5), "-o", link)
        self.assertTrue(link.is_symlink())
        self.assertEqual(read_safetensors(out)["logits"][0][0], 5)
        self.assertIn("no plain file", self.fails(1, "trace", golden(), "--ids", self.ids(5), "-o", "/dev/null"))

    def test_reports_F8_trace_finds_before_loading_what_is_wrong(self):
        """A model that cannot be loaded: whatever is said was found before."""
        for file in golden().iterdir():
            (self.folder / file.name).symlink_to(file)
        absent, out = self.folder / "absent" / "o", self.folder / "o"
        common = ("trace", self.folder, "--kernels", "none", "--ids")
        for code, words in ((1, (self.ids(5), "-o", absent)), (1, (self.ids(5), "--picture", f"{absent}.png")),
                            (2, (self.ids(5), "--layer", "99", "--picture", f"{out}.png")),
                            (4, (self.ids(5000), "-o", out))):
            self.assertNotIn("kernel", self.fails(code, *common, *words))
        self.assertIn("kernel", self.fails(5, *common, self.ids(5), "-o", out))
        self.assertEqual(list(self.folder.glob("o*")), [])

    def test_reports_F8_quantize_finds_before_converting_what_comparing_would(self):
        out, eval_file = self.folder / "out", self.folder / "eval.json"
        words = ("quantize", golden(), "-o", out, "--eval", eval_file)
        for code, ids, more, part in ((2, [1, 99999999], (), "99999999"), (2, [1] * 5000, (), "5000 tokens"),
                                      (5, [1, 2], ("--kernels", "none"), "none")):
            eval_file.write_text(json.dumps(ids))
            process = self.start(*words, *more, preexec_fn=limited(1 << 16))  # converting would fail
            _, said = process.communicate(timeout=60)
            self.assertEqual(process.returncode, code, said)
            self.assertIn(part, said)
            self.assertFalse(out.exists())
        out.mkdir()
        (out / "mine").write_text("")
        self.assertIn("'mine'", self.fails(1, *words))

    def test_reports_F10_memory_does_not_grow_with_the_logits(self):
        """400 MB of logits; the peak of 40 tokens and of 3,000 differ by less than a third of that."""
        config = json.loads((cli_program.source / "examples/tiny_model/config.json").read_text())
        (self.folder / "config.json").write_text(json.dumps(config))
        model = self.folder / "wide"
        self.ok("make-model", "-o", model, "--config", self.folder / "config.json", "--layers", "2", "--vocab", "32768")
        peaks = []
        for count in (40, 3000):
            process = self.start("trace", model, "--ids", self.ids(count, 32768), "-o", self.folder / "t", "--chunk", "64")
            peak = 0
            while process.poll() is None:
                with open(f"/proc/{process.pid}/status", encoding="utf-8") as status:
                    found = re.search(r"RssAnon:\s+(\d+) kB", status.read())
                peak = max(peak, int(found[1]) if found else 0)
                time.sleep(0.005)
            self.assertEqual(process.returncode, 0, process.communicate()[1])
            process.communicate()
            peaks.append(peak)
        self.assertGreater((self.folder / "t").stat().st_size, 390_000_000)
        self.assertLess(peaks[1] - peaks[0], 130_000, peaks)


class PictureTest(Case):
    def setUp(self):
        super().setUp()
        self.model = tiny_model()
        self.ids = self.folder / "ids.json"

    def draw(self, count, *words):
        self.ids.write_text(json.dumps([(37 * i + 11) % 2000 for i in range(count)]))
        return run("trace", self.model, "--ids", self.ids, "--picture", self.folder / "p.png", *words)

    def test_reports_E10_labels_and_a_legend(self):
        def text(rows):  # the dots of the letters
            return {(x, y) for y, row in enumerate(rows) for x, value in enumerate(row) if value == 203}

        pictures = {}
        for layer in (0, 1):
            self.assertEqual(self.draw(70, "--layer", layer).returncode, 0)
            pictures[layer] = read_png(self.folder / "p.png")
        width, height, rows = pictures[0]
        dots = text(rows)
        side = 512 // 70 * 70
        self.assertTrue([1 for x, y in dots if y < 40])  # the title
        self.assertTrue([1 for x, y in dots if x < 40 and 40 <= y < 40 + side])  # rows
        self.assertTrue([1 for x, y in dots if 40 + side <= y < 52 + side])  # columns
        self.assertGreater(len([1 for x, y in dots if y > 80 + side]), 300)  # the legend
        changed = dots ^ text(pictures[1][2])
        self.assertTrue(changed)  # "0" and "1" of the titles, nothing else
        self.assertTrue(all(y < 40 for x, y in changed), changed)

    def test_reports_E10_it_is_compressed(self):
        self.assertEqual(self.draw(1500).returncode, 0)
        width, height, _ = read_png(self.folder / "p.png")
        self.assertLess((self.folder / "p.png").stat().st_size, width * height / 6)

    def test_reports_E10_it_says_that_it_shrank(self):
        self.assertEqual(self.draw(400).stderr, "")
        self.assertIn("512 pixels for 1500 tokens: a pixel is up to 3 x 3", self.draw(1500).stderr)
        self.assertEqual(self.draw(1500, "-q").stderr, "")
        self.assertEqual(json.loads(self.draw(1500, "--json").stdout)["tokens_a_pixel"], 3)
        self.ok("trace", self.model, "--ids", self.ids, "--picture", self.folder / "p.svg")
        self.assertIn("a pixel: up to 3 x 3 tokens", (self.folder / "p.svg").read_text())


if __name__ == "__main__":
    cli_program.main()
