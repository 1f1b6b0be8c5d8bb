"""`dsv32 quantize`: what it writes against its source, read back. usage: quantize_test.py PROGRAM SOURCE_DIR"""
import array
import json
import math
import re
import shutil
import struct

import cli_program
from checkpoint_files import integers, matrix, numbers, raw_tensors, write_checkpoint

# No width is a multiple of 128; the columns of q_b, o, down and the experts' down are odd.
ODD = {"hidden_size": 150, "q_lora_rank": 75, "num_attention_heads": 3, "num_key_value_heads": 3, "v_head_dim": 13, "kv_lora_rank": 40,
       "qk_nope_head_dim": 10, "qk_rope_head_dim": 8, "moe_intermediate_size": 37, "intermediate_size": 301,
       "index_head_dim": 32, "index_n_heads": 2, "index_topk": 16, "vocab_size": 96, "num_hidden_layers": 2}
CONVERTED = re.compile(r"\.self_attn\.(q_a|q_b|o)_proj\.weight$|\.mlp\..*(gate|up|down)_proj\.weight$")
FORMATS = (("int8", 128), ("int4", 64), ("int4", 128))


def squared_error(row, other):
    return sum((a - b) ** 2 for a, b in zip(row, other))


class QuantizeTest(cli_program.Case):
    def make(self, *options):
        config = json.loads((cli_program.source / "examples/tiny_model/config.json").read_text())
        (self.folder / "odd.json").write_text(json.dumps({**config, **ODD}))
        model = self.folder / "source"
        self.ok("make-model", "-o", model, "--config", self.folder / "odd.json", "--mtp", *options)
        return model

    def quantize(self, model, format, group, *options, name=None):
        out = self.folder / (name or f"{format}-{group}")
        options = options or ("--no-eval",)
        return out, json.loads(self.ok("quantize", model, "-o", out, "--format", format, "--group", group,
                                       "--json", *options))

    def trace(self, model, *options):
        ids, out = self.folder / "ids.json", self.folder / "trace"
        ids.write_text(json.dumps([(37 * i + 11) % 96 for i in range(50)]))  # more than index_topk
        self.ok("trace", model, "--ids", ids, "-o", out, *options)
        return cli_program.read_safetensors(out), out.read_bytes()

    def check_values(self, source, result, format, group):
        """Every number: the right range, the right scale, the nearest code, and nothing else changed."""
        for name, tensor in source.items():
            if name.endswith("_scale_inv") and CONVERTED.search(name[:-len("_scale_inv")]):
                self.assertNotIn(name, result)
                continue
            if not CONVERTED.search(name):
                self.assertEqual(result[name], tensor, name)
                continue
            rows, cols = tensor[1]
            groups = -(-cols // group)
            codes_shape = [rows, cols] if format == "int8" else [rows, (cols + 1) // 2]
            self.assertEqual(result[name][:2], ({"int8": "I8", "int4": "U8"}[format], codes_shape), name)
            scale = result[name + "_scale"]
            self.assertEqual(scale[:2], ({"int8": "F32", "int4": "F16"}[format], [rows, groups]), name)
            self.check_matrix(name, matrix(source, name), integers(result, name, cols), numbers(scale[0], scale[2]),
                              groups, 127 if format == "int8" else 7, group)
            if format == "int4" and cols % 2:
                last = result[name][2][codes_shape[1] - 1::codes_shape[1]]
                self.assertEqual({byte >> 4 for byte in last}, {8}, name)  # the odd nibble is a zero

    def check_matrix(self, name, wanted, codes, scales, groups, high, group):
        for r, (row, code_row) in enumerate(zip(wanted, codes)):
            for g in range(groups):
                x, code = row[g * group:(g + 1) * group], code_row[g * group:(g + 1) * group]
                scale = scales[r * groups + g]
                amax = max(map(abs, x))
                if high == 127:
                    self.assertAlmostEqual(scale, amax / 127, delta=amax * 1e-6)
                    self.assertLessEqual(max(map(abs, code)), 127)
                else:
                    self.assertTrue(amax / 9.1 <= scale <= amax / 6.9, (name, r, g))
                for a, c in zip(x, code):
                    nearest = min(max(a / scale, -8 if high == 7 else -127), high) if scale else 0
                    self.assertLess(abs(c - nearest), 0.5001, (name, r, g))
                if high == 7:  # never worse than the plain choice of scale
                    plain = amax / 7
                    simple = [plain * max(-8, min(7, round(a / plain))) if plain else 0 for a in x]
                    ours = squared_error(x, [c * scale for c in code])
                    self.assertLessEqual(ours, squared_error(x, simple) * 1.01 + 1e-12)

    def test_values_of_fp8_and_bf16_sources(self):
        for options in ((), ("--odd-scales",), ("--scales", "e8m0"), ("--dtype", "bf16")):
            model = self.make(*options)
            source = raw_tensors(model)
            for format, group in FORMATS:
                out, report = self.quantize(model, format, group)
                result = raw_tensors(out)
                self.check_values(source, result, format, group)
                self.assertEqual(report["converted"], sum(bool(CONVERTED.search(name)) for name in source))
                seen = json.loads(self.ok("inspect", out, "--json", "--verify", "all"))
                self.assertEqual((seen["problems"], seen["bytes"]), ([], report["bytes"]))
                shutil.rmtree(out)
            shutil.rmtree(model)

    def test_runs_as_the_dequantised_model(self):
        """In exact numerics the model is that whose matrices are Python's codes times scales, in F32."""
        model = self.make()
        source = raw_tensors(model)
        config = json.loads((model / "config.json").read_text())
        for format, group in FORMATS:
            out, _ = self.quantize(model, format, group)
            result, plain = raw_tensors(out), {}
            for name, tensor in result.items():
                if CONVERTED.search(name):
                    cols = source[name][1][1]
                    flat = [value for row in matrix(result, name, cols) for value in row]
                    plain[name] = ("F32", source[name][1], array.array("f", flat).tobytes())
                elif not name.endswith("_scale"):
                    plain[name] = tensor
            write_checkpoint(self.folder / "plain", plain, config)
            wanted, _ = self.trace(self.folder / "plain", "--numerics", "exact", "--kernels", "generic")
            for kernels in json.loads(self.ok("info", "--json"))["backends"][0]["kernel_sets"]:
                ours, _ = self.trace(out, "--numerics", "exact", "--kernels", kernels)
                self.assertEqual(ours["topk"], wanted["topk"])
                self.assertEqual(ours["experts"], wanted["experts"])
                for part in ("logits", "mtp_logits"):
                    pairs = zip(ours[part][1], wanted[part][1])  # of size 1, sums in f32
                    self.assertTrue(all(abs(a - b) < 2e-4 for a, b in pairs), (format, group, part, kernels))
            original, _ = self.trace(model, "--numerics", "exact")
            self.assertGreater(max(abs(a - b) for a, b in zip(ours["logits"][1], original["logits"][1])), 1e-3)

    def test_native_numerics_keep_the_state_law(self):
        model = self.make()
        for format, group in FORMATS:
            out, _ = self.quantize(model, format, group)
            tensors, whole = self.trace(out)
            self.assertTrue(all(map(math.isfinite, tensors["logits"][1])))
            self.assertEqual(whole, self.trace(out, "--chunk", "7", "--threads", "1")[1], (format, group))

    def test_zero_groups_rows_and_tiny_values(self):
        model = self.make("--dtype", "bf16")
        tensors = raw_tensors(model)
        name = "model.layers.0.mlp.up_proj.weight"
        dtype, (rows, cols), data = tensors[name]
        data = bytearray(data)
        data[:2 * cols] = bytes(2 * cols)  # row 0: zero
        data[2 * cols:2 * (cols + 128)] = bytes(256)  # row 1: its first 128 columns
        data[4 * cols:6 * cols] = struct.pack("<H", 0x0001) * cols  # row 2: subnormal
        for i in range(2 * cols):  # row 3: largest values that scale below f16's largest
            data[6 * cols + i] = struct.pack("<H", 0x4780)[i % 2]
        tensors[name] = (dtype, [rows, cols], bytes(data))
        changed = self.folder / "changed"
        write_checkpoint(changed, tensors, json.loads((model / "config.json").read_text()))
        for format, group in FORMATS:
            out, _ = self.quantize(changed, format, group)
            result = raw_tensors(out)
            table = matrix(result, name, cols)
            self.assertEqual(set(table[0]), {0.0})
            self.assertEqual(set(table[1][:128]), {0.0})
            self.assertNotEqual(set(table[1][128:]), {0.0})
            self.assertEqual(set(table[2]), {0.0})
            self.assertLess(max(abs(a - 65536.0) for a in table[3]), 3500)
            scales = numbers(result[name + "_scale"][0], result[name + "_scale"][2])
            self.assertEqual(scales[0], 0.0)
            self.trace(out)

    def test_zero_scales_of_an_fp8_source(self):
        model = self.make()
        tensors = raw_tensors(model)
        name = "model.layers.1.mlp.experts.2.down_proj.weight"
        dtype, shape, data = tensors[name + "_scale_inv"]
        tensors[name + "_scale_inv"] = (dtype, shape, bytes(len(data)))
        changed = self.folder / "changed"
        write_checkpoint(changed, tensors, json.loads((model / "config.json").read_text()))
        for format, group in FORMATS:
            out, _ = self.quantize(changed, format, group)
            self.assertEqual({v for row in matrix(raw_tensors(out), name, 37) for v in row}, {0.0})
            self.trace(out)

    def test_nan_and_too_large_are_refused_by_name(self):
        model = self.make("--dtype", "bf16")
        tensors = raw_tensors(model)
        name = "model.layers.0.self_attn.o_proj.weight"
        config = json.loads((model / "config.json").read_text())
        for bits, formats in ((0x7FC0, FORMATS), (0x7F00, FORMATS[1:])):  # NaN, 1.7e38
            dtype, shape, data = tensors[name]
            changed = {**tensors, name: (dtype, shape, struct.pack("<H", bits) + data[2:])}
            write_checkpoint(self.folder / "changed", changed, config)
            for format, group in formats:
                out = self.folder / "out"
                message = self.fails(1, "quantize", self.folder / "changed", "-o", out, "--format", format,
                                     "--group", group, "--no-eval")
                self.assertIn(name, message)
                self.assertFalse(out.exists())

    def test_misshapen_tensors_are_refused_by_name(self):
        model = self.make()
        name = "model.layers.1.mlp.experts.3.up_proj.weight"
        for format, group in FORMATS:
            out, _ = self.quantize(model, format, group)
            tensors, config = raw_tensors(out), json.loads((out / "config.json").read_text())
            dtype, (rows, width), data = tensors[name + "_scale"]
            size = len(data) // rows // width
            bad = {
                "short": {name + "_scale": (dtype, [rows - 1, width], data[:(rows - 1) * width * size])},
                "wide": {name + "_scale": (dtype, [rows, 2 * width], data * 2)},
                "type": {name + "_scale": ("BF16", [rows, width], bytes(2 * rows * width))},
                "codes": {name: (tensors[name][0], [rows, 1], bytes(rows))},
                "dtype": {name: ("F8_E5M2", *tensors[name][1:])},
                "negative": {name + "_scale": (dtype, [rows, width], b"\xff" * len(data))},
                "indexer": {n: ("I8", t[1], t[2]) for n, t in tensors.items() if n.endswith("1.self_attn.kv_b_proj.weight")},
            }
            for case, changes in bad.items():
                write_checkpoint(self.folder / "bad", {**tensors, **changes}, config)
                result = cli_program.run("inspect", self.folder / "bad")
                self.assertEqual(result.returncode, 3, (format, case))
                self.assertIn("kv_b_proj" if case == "indexer" else name, result.stdout, (format, case))
                self.fails(3, "generate", self.folder / "bad", "--ids", "[1, 2]")
            absent = {n: t for n, t in tensors.items() if n != name + "_scale"}
            write_checkpoint(self.folder / "bad", absent, config)
            self.assertIn(name + "_scale", cli_program.run("inspect", self.folder / "bad").stdout)
            shutil.rmtree(out)

    def test_config_must_fit_the_tensors(self):
        out, _ = self.quantize(self.make(), "int4", 64)
        tensors, config = raw_tensors(out), json.loads((out / "config.json").read_text())
        for changes in ({"group_size": 128}, {"quant_method": "dsv32_int8", "bits": 8, "group_size": 128},
                        {"bits": 8}, {"group_size": 32}, {"bits": None}, {"rest": []}):
            block = {**config["quantization_config"], **changes}
            write_checkpoint(self.folder / "bad", tensors, {**config, "quantization_config": block})
            self.assertIn(cli_program.run("inspect", self.folder / "bad").returncode, (3, 5), changes)

    def test_fused_experts_come_apart(self):
        """transformers' names: [experts, gate rows then up rows, columns] gives the same as one tensor an expert."""
        model = self.make("--dtype", "bf16")
        tensors = raw_tensors(model)
        fused, parts = {}, {}
        for name, tensor in tensors.items():
            match = re.fullmatch(r"(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", name)
            if match:
                parts.setdefault((match[1], int(match[2])), {})[match[3]] = tensor
            else:
                fused[name] = tensor
        for prefix in {prefix for prefix, _ in parts}:
            experts = [parts[key] for key in sorted(parts) if key[0] == prefix]
            width, hidden = experts[0]["gate"][1]
            both = b"".join(expert["gate"][2] + expert["up"][2] for expert in experts)
            fused[prefix + ".gate_up_proj"] = ("BF16", [len(experts), 2 * width, hidden], both)
            fused[prefix + ".down_proj"] = ("BF16", [len(experts), hidden, width],
                                            b"".join(expert["down"][2] for expert in experts))
        write_checkpoint(self.folder / "fused", fused, json.loads((model / "config.json").read_text()))
        for format, group in FORMATS:
            apart, _ = self.quantize(model, format, group, name="apart" + format + str(group))
            split, _ = self.quantize(self.folder / "fused", format, group)
            self.assertEqual(raw_tensors(apart), raw_tensors(split))
            self.assertIn("no problems", self.ok("inspect", split))

    def test_layers_that_the_config_does_not_count_are_checked(self):
        model = self.make()
        tensors, config = raw_tensors(model), json.loads((model / "config.json").read_text())
        config["num_nextn_predict_layers"] = 0  # the MTP layer is now unread, and so unchecked, by the library
        name = "model.layers.2.mlp.experts.1.up_proj.weight"
        dtype, shape, data = tensors[name + "_scale_inv"]
        for change in ({name + "_scale_inv": None}, {name + "_scale_inv": (dtype, [1, 1], data[:4])},
                       {name: ("F8_E4M3", [5], bytes(5))}, {name: ("I64", [1, 1], bytes(8))},
                       {name + "_scale_inv": ("BF16", shape, data[:len(data) // 2])}):
            changed = {n: t for n, t in {**tensors, **change}.items() if t}
            write_checkpoint(self.folder / "odd", changed, config)
            self.assertIn("no problems", self.ok("inspect", self.folder / "odd"))
            message = self.fails(3, "quantize", self.folder / "odd", "-o", self.folder / "out", "--no-eval")
            self.assertIn(name, message)
            self.assertFalse((self.folder / "out").exists())

    def test_usage(self):
        model = self.make()
        out = self.folder / "out"
        self.fails(2, "quantize", model)
        self.fails(2, "quantize", model, "-o", out)  # no tokenizer, no ids
        self.fails(2, "quantize", model, "-o", out, "--no-eval", "--format", "int3")
        self.fails(2, "quantize", model, "-o", out, "--no-eval", "--group", "64")  # int8
        self.fails(2, "quantize", model, "-o", out, "--no-eval", "--format", "int4", "--group", "32")
        self.fails(3, "quantize", self.folder / "absent", "-o", out, "--no-eval")
        self.fails(1, "quantize", model, "-o", model, "--no-eval")
        self.assertFalse(out.exists())
        again, _ = self.quantize(model, "int8", 128)
        self.fails(2, "quantize", again, "-o", out, "--no-eval")


class QualityTest(cli_program.Case):
    def test_loss_is_printed_and_agrees_with_the_logits(self):
        """The KL and the agreement that the program prints, computed again from two traces."""
        model = cli_program.tiny_model()
        if not (model / "tokenizer.json").exists():
            self.skipTest(f"no model in {model}")
        ids = json.loads(self.ok("tokenize", model, "--special", "What is the phone number of Ida? " * 12))
        self.assertGreater(len(ids), 64)
        (self.folder / "ids.json").write_text(json.dumps(ids))
        out = self.folder / "int4"
        report = json.loads(self.ok("quantize", model, "-o", out, "--format", "int4", "--group", "64", "--json",
                                    "--eval", self.folder / "ids.json"))["eval"]
        rows = []
        for folder in (model, out):
            self.ok("trace", folder, "--ids", self.folder / "ids.json", "-o", self.folder / "t")
            (n, vocab), values = cli_program.read_safetensors(self.folder / "t")["logits"]
            rows.append([values[i * vocab:(i + 1) * vocab] for i in range(n)])
        total = agreed = 0
        for p, q in zip(*rows):
            p_sum, q_sum = (math.log(sum(math.exp(x - max(r)) for x in r)) + max(r) for r in (p, q))
            total += sum(math.exp(a - p_sum) * (a - p_sum - b + q_sum) for a, b in zip(p, q))
            agreed += max(range(len(p)), key=p.__getitem__) == max(range(len(q)), key=q.__getitem__)
        self.assertEqual(report["tokens"], len(ids))
        self.assertAlmostEqual(report["mean_kl"], total / len(ids), delta=1e-6)
        self.assertAlmostEqual(report["top1_agreement"], agreed / len(ids), delta=1e-9)

    def test_default_text_and_answers(self):
        model = cli_program.tiny_model()
        if not (model / "tokenizer.json").exists():
            self.skipTest(f"no model in {model}")
        for format, most, least in (("int8", 0.05, 90), ("int4", 0.2, 75)):  # docs/formats.md has the figures
            out = self.folder / format
            text = self.ok("quantize", model, "-o", out, "--format", format)
            match = re.search(r"on \d+ tokens: KL (\S+) nats \(worst \S+\), same best token (\S+) %", text)
            self.assertTrue(match, text)
            self.assertLess(float(match[1]), most)
            self.assertGreaterEqual(float(match[2]), least)
            self.assertIn("I am", self.ok("generate", out, "--chat", "--greedy", "-n", "60", "Who are you?"))


if __name__ == "__main__":
    cli_program.main()
