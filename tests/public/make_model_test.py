"""`dsv32 make-model`: what it writes, read back. usage: make_model_test.py PROGRAM SOURCE_DIR"""
import json
import math
import signal
import statistics
import subprocess
import time

import cli_program
from checkpoint_files import matrix, numbers, raw_tensors

SMALL = ("--layers", "3", "--dense-layers", "1", "--experts", "8", "--vocab", "512", "--index-topk", "16")


def config_file():
    return cli_program.source / "examples" / "tiny_model" / "config.json"


class MakeModelTest(cli_program.Case):
    def make(self, name, *options):
        out = self.folder / name
        report = json.loads(self.ok("make-model", "-o", out, "--config", config_file(), *SMALL, "--json", *options))
        return out, report

    def logits(self, model, *options):
        """Of 60 tokens: more than index_topk."""
        ids, out = self.folder / "ids.json", self.folder / "logits.safetensors"
        ids.write_text(json.dumps([(37 * i + 11) % 512 for i in range(60)]))
        self.ok("trace", model, "--ids", ids, "-o", out, *options)
        shape, values = cli_program.read_safetensors(out)["logits"]
        self.assertEqual(shape, [60, 512])
        return values

    def check(self, *options):
        """Clean, runs, and its logits are alive: finite, near normal, no two positions alike."""
        out, report = self.make("model", *options)
        seen = json.loads(self.ok("inspect", out, "--json", "--verify", "all"))
        self.assertEqual(seen["problems"], [])
        self.assertEqual((seen["tensor_count"], seen["bytes"]), (report["tensors"], report["bytes"]))
        values = self.logits(out)
        self.assertTrue(all(map(math.isfinite, values)))
        self.assertTrue(0.5 < statistics.pstdev(values) < 2)
        self.assertGreater(len({values[i] for i in range(0, len(values), 512)}), 50)
        answer = self.ok("generate", out, "--ids", "-n", "4", "--greedy", stdin=str(list(range(2, 40))))
        self.assertLessEqual(1, len(json.loads(answer)))
        return out, report

    def test_fp8(self):
        out, report = self.check()
        self.assertEqual(report["config"]["quantization_config"]["scale_fmt"], "ue8m0")
        tensors = raw_tensors(out)
        scales = numbers(*tensors["model.layers.1.mlp.experts.3.up_proj.weight_scale_inv"][::2])
        self.assertTrue(all(math.frexp(scale)[0] == 0.5 for scale in scales))
        every = {s for n, t in tensors.items() if n.endswith("_scale_inv") for s in numbers(t[0], t[2])}
        self.assertGreater(len(every), 2)  # one scale everywhere would hide a wrong index

    def test_fp8_with_e8m0_scales_holds_the_same_numbers(self):
        one, two = self.make("f32")[0], self.make("e8m0", "--scales", "e8m0")[0]
        self.assertIn("F8_E8M0", json.loads(self.ok("inspect", two, "--json"))["bytes_by_dtype"])
        codes = {name: t for name, t in raw_tensors(one).items() if not name.endswith("_scale_inv")}
        self.assertEqual(codes, {n: t for n, t in raw_tensors(two).items() if not n.endswith("_scale_inv")})
        self.assertTrue(all(map(math.isfinite, self.logits(two))))

    def test_odd_scales(self):
        out, report = self.check("--odd-scales")
        self.assertNotIn("scale_fmt", report["config"]["quantization_config"])
        dtype, _, data = raw_tensors(out)["model.layers.0.self_attn.o_proj.weight_scale_inv"]
        self.assertTrue(all(math.frexp(scale)[0] != 0.5 for scale in numbers(dtype, data)))

    def test_bf16_with_mtp(self):
        out, report = self.check("--dtype", "bf16", "--mtp")
        self.assertNotIn("quantization_config", report["config"])
        self.assertEqual(set(json.loads(self.ok("inspect", out, "--json"))["bytes_by_dtype"]), {"BF16", "F32"})
        self.assertIn("model.layers.3.eh_proj.weight", raw_tensors(out))

    def test_dense_model(self):
        config = json.loads(config_file().read_text())
        for key in ("index_n_heads", "index_head_dim", "index_topk"):
            config.pop(key)
        (self.folder / "v3.json").write_text(json.dumps({**config, "model_type": "deepseek_v3"}))
        out = self.folder / "v3"
        self.ok("make-model", "-o", out, "--config", self.folder / "v3.json", "--layers", "2")
        self.assertIn("no problems", self.ok("inspect", out))
        self.assertFalse([name for name in raw_tensors(out) if "indexer" in name])

    def test_deviation_is_one_over_root_of_columns(self):
        for options in ((), ("--odd-scales",), ("--dtype", "bf16")):
            tensors = raw_tensors(self.make("-".join(options) or "plain", *options)[0])
            for part in ("self_attn.indexer.wq_b", "mlp.experts.5.gate_proj", "self_attn.o_proj"):
                table = matrix(tensors, f"model.layers.2.{part}.weight")
                flat = [value for row in table for value in row]
                expected = 1 / math.sqrt(len(table[0]))
                self.assertAlmostEqual(statistics.fmean(flat), 0, delta=0.03 * expected)
                # A matrix of few blocks follows its few scales, each of them within 1/2 .. 2.
                self.assertTrue(0.35 * expected < statistics.pstdev(flat) < 1.6 * expected, (options, part))

    def test_same_seed_same_bytes_whatever_threads_and_shards(self):
        one = raw_tensors(self.make("a", "--seed", "7", "--threads", "1")[0])
        split, _ = self.make("b", "--seed", "7", "--threads", "3", "--shard-size", "300k")
        self.assertGreater(len(list(split.glob("*.safetensors"))), 5)
        index = json.loads((split / "model.safetensors.index.json").read_text())
        self.assertEqual(set(index["weight_map"]), set(one))
        self.assertEqual(one, raw_tensors(split))
        self.assertEqual(list(self.logits(self.folder / "a")), list(self.logits(split)))
        other = raw_tensors(self.make("c", "--seed", "8")[0])
        same = [name for name in one if one[name][2] == other[name][2]]
        self.assertFalse([name for name in same if not name.endswith("_scale_inv")])  # of few values

    def test_no_two_tensors_are_alike_and_none_repeats(self):
        out, _ = self.make("a")
        codes = [data for dtype, _, data in raw_tensors(out).values() if dtype == "F8_E4M3"]
        self.assertEqual(len(codes), len({data[:64] for data in codes}))
        for data in codes:
            chunks = [data[i:i + 32] for i in range(0, len(data), 32)]
            self.assertEqual(len(chunks), len(set(chunks)))

    def test_real_widths_need_no_disk_to_be_sized(self):
        whole = json.loads(self.ok("make-model", "--dry-run", "--mtp", "--json"))
        self.assertEqual((whole["tensors"], whole["bytes"]), (92425, 689471107200))  # DeepSeek-V3.2's
        bf16 = json.loads(self.ok("make-model", "--dry-run", "--dtype", "bf16", "--json"))
        self.assertGreater(bf16["bytes"], 1.3e12)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_options_that_do_not_fit_are_2_and_leave_nothing(self):
        out = self.folder / "none"
        for options in (("--layers", "0"), ("--experts", "7", "--groups", "2"), ("--dense-layers", "9"),
                        ("--odd-scales", "--scales", "e8m0"), ("--dtype", "bf16", "--odd-scales"),
                        ("--vocab", "1"), ("--dtype", "fp4"), ("--index-topk", "1g")):
            self.fails(2, "make-model", "-o", out, "--layers", "4", *options)
            self.assertFalse(out.exists(), options)
        self.fails(2, "make-model")
        self.fails(2, "make-model", "-o", out, "--config", self.folder / "absent.json")
        (self.folder / "broken.json").write_text("{")
        self.fails(2, "make-model", "-o", out, "--config", self.folder / "broken.json")
        self.fails(2, "make-model", "-o", out, *SMALL, "--tokenizer", config_file().parent)  # 2,048 tokens

    def test_a_folder_that_is_in_use_is_left_alone(self):
        (self.folder / "mine.txt").write_text("mine")
        message = self.fails(1, "make-model", "-o", self.folder, "--config", config_file(), *SMALL)
        self.assertIn("not empty", message)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["mine.txt"])

    def test_ctrl_c_leaves_nothing(self):
        out = self.folder / "stopped"
        options = ("--layers", "2", "--dense-layers", "1", "--experts", "32", "--vocab", "8192")  # 2.4 GB
        process = subprocess.Popen([cli_program.program, "make-model", "-q", "-o", out, *options],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        while process.poll() is None and not list(self.folder.glob("stopped.part-*/*.safetensors")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual((process.returncode, stdout), (130, ""), stderr)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_disk_too_small_is_said_before_writing(self):
        out = self.folder / "vast"
        config = json.loads(config_file().read_text())
        config["hidden_size"] = config["intermediate_size"] = 1 << 20
        (self.folder / "vast.json").write_text(json.dumps(config))
        message = self.fails(1, "make-model", "-o", out, "--config", self.folder / "vast.json", "--layers", "1000",
                             "--dense-layers", "1000")  # 5 PB
        self.assertIn("has room for", message)
        self.assertFalse(out.exists())

    def test_with_tokenizer_it_speaks(self):
        out = self.folder / "speaks"
        self.ok("make-model", "-o", out, "--config", config_file(), "--layers", "2", "--tokenizer", config_file().parent)
        answer = json.loads(self.ok("generate", out, "Hello", "-n", "5", "--json", "--seed", "1"))
        self.assertIn("text", answer)


if __name__ == "__main__":
    cli_program.main()
