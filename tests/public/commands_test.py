"""The commands of dsv32, one by one. usage: commands_test.py PROGRAM SOURCE_DIR

The model is examples/tiny_model, or the folder that DSV32_CLI_TEST_MODEL names.
"""
import json
import os
import shutil
import subprocess

import cli_program
from cli_program import Case, ModelCase, clean_environment, golden, read_png, read_safetensors, run

ESC = "\x1b"


class UsageTest(Case):
    def test_help_and_version_succeed(self):
        self.assertIn("inspect", self.ok("--help"))
        self.assertIn("--tools", self.ok("chat", "--help"))
        self.assertRegex(self.ok("--version"), r"^dsv32 \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_2(self):
        self.fails(2)
        self.fails(2, "frobnicate")
        self.fails(2, "info", "--no-such-option")
        self.fails(2, "inspect")
        self.fails(2, "inspect", golden(), "one too many")
        self.fails(2, "trace", golden(), "--numerics", "approximate", "--ids", "x", "-o", "y")
        self.fails(2, "trace", golden(), "--ids", self.folder / "absent.json", "-o", "y")
        self.fails(2, "generate", golden(), "x", "--ctx", "8 parsecs")

    def test_missing_model_is_3_and_says_how_to_get_it(self):
        self.fails(3, "inspect", self.folder / "absent")
        message = self.fails(3, "inspect", "some-org/some-model", HF_HUB_CACHE=str(self.folder))
        self.assertIn("hf download some-org/some-model", message)

    def test_malformed_model_is_3(self):
        (self.folder / "config.json").write_text("{ not json")
        self.fails(3, "inspect", self.folder)

    def test_unknown_kernels_are_5(self):
        ids = self.folder / "ids.json"
        ids.write_text("[1, 2]")
        message = self.fails(5, "trace", golden(), "--kernels", "mips", "--ids", ids,
                             "-o", self.folder / "o")
        self.assertIn('"mips"', message)
        info = json.loads(self.ok("info", "--json"))
        for kernels in info["backends"][0]["kernel_sets"]:  # those that would have run
            self.assertIn(kernels, message)

    def test_a_device_that_is_not_here_is_5_and_says_why(self):
        ids = self.folder / "ids.json"
        ids.write_text("[1, 2]")
        common = ("trace", golden(), "--ids", ids, "-o", self.folder / "o")
        info = json.loads(self.ok("info", "--json"))
        devices = {backend["device"] for backend in info["backends"]}
        self.assertEqual(devices | set(info["unavailable"]), {"cpu", "cuda"})
        for device in info["unavailable"]:
            self.assertIn(info["unavailable"][device], self.fails(5, *common, "--device", device))
            self.assertIn(f"{device}: not available: {info['unavailable'][device]}", self.ok("info"))
        for device in ("auto", "cpu"):
            self.ok(*common, "--device", device)
        for device in ("gpu", "cuda:", "cuda:x", "cuda:-1", "cuda0", "cpu:0", ""):
            self.assertIn("auto, cpu, cuda, cuda:N", self.fails(2, *common, "--device", device))

    def test_reports_T11_json_ends_where_its_value_ends(self):
        ids, config = self.folder / "ids.json", self.folder / "config.json"
        made = ("make-model", "--layers", "4", "--out", self.folder / "model")
        deep = "[" * 65 + "]" * 65
        for text in ("[1, 2]\0", "[1, 2]\0]", "[1, 2] [3]", "[1, 2],", deep):
            ids.write_text(text)
            self.fails(2, "trace", golden(), "--ids", ids, "-o", self.folder / "o")
        for text in ("{}\0", '{"vocab_size": 9, "vocab_size": 8}', "{} {}"):
            config.write_text(text)
            self.assertIn("is no JSON object", self.fails(2, *made, "--config", config))

    def test_model_too_large_is_4(self):
        self.fails(4, "generate", golden(), "[1]", "--ids", "--ctx", "1G")

    def test_error_shows_no_control_character(self):
        message = self.fails(3, "inspect", f"{self.folder}/a{ESC}[31mb")
        self.assertNotIn(ESC, message)

    def test_full_disk_is_noticed(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = subprocess.run([cli_program.program, "info"], stdout=full, stderr=subprocess.PIPE,
                                    env=clean_environment(), timeout=60)
        self.assertEqual(result.returncode, 1)

    def test_model_from_environment_and_option(self):
        def fingerprint(*arguments, **environment):
            return json.loads(self.ok("inspect", "--json", *arguments, **environment))["fingerprint"]

        by_word = fingerprint(golden())
        self.assertEqual(by_word, fingerprint("-m", golden()))
        self.assertEqual(by_word, fingerprint(DSV32_MODEL=str(golden())))
        self.assertNotEqual(by_word, fingerprint(golden("f32"), DSV32_MODEL=str(golden())))

    def test_model_from_hub_cache(self):
        repository = self.folder / "models--org--tiny"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        (repository / "snapshots").mkdir()
        (repository / "snapshots" / ("0" * 40)).symlink_to(golden())
        self.ok("inspect", "org/tiny", HF_HUB_CACHE=str(self.folder))
        (self.folder / "home").mkdir()
        (self.folder / "home" / "hub").symlink_to(self.folder)
        self.ok("inspect", "org/tiny", HF_HOME=str(self.folder / "home"))

    def test_completion_is_valid_and_complete(self):
        script = self.ok("--completion", "bash")
        check = subprocess.run(["bash", "-n"], input=script, encoding="utf-8", timeout=60)
        self.assertEqual(check.returncode, 0)
        for word in ("trace", "--picture", "--max-tool-rounds", "--json"):
            self.assertIn(word, script)
        probe = script + '\nCOMP_WORDS=(dsv32 tr); COMP_CWORD=1; _dsv32; echo "${COMPREPLY[@]}"'
        out = subprocess.run(["bash", "-c", probe], capture_output=True, encoding="utf-8", timeout=60)
        self.assertEqual(out.stdout.strip(), "trace")
        for shell in ("zsh", "fish"):
            script = self.ok("--completion", shell)
            self.assertIn("picture", script)
            if shutil.which(shell):
                subprocess.run([shell, "-n"], input=script, encoding="utf-8", check=True, timeout=60)


class InspectTest(Case):
    def test_info(self):
        info = json.loads(self.ok("info", "--json"))
        self.assertIn("generic", info["backends"][0]["kernel_sets"])
        self.assertIn("sparse", self.ok("info", golden()))
        self.assertEqual(json.loads(self.ok("info", golden("v3-dense"), "--json"))["model"]["attention"],
                         "dense")

    def test_reports_W7_info_lists_the_types_of_the_matrices(self):
        def weights(model):
            return json.loads(self.ok("info", model, "--json"))["model"]["weights"]
        self.assertEqual(weights(golden()), "fp8, bf16")
        self.assertEqual(weights(golden("f32")), "f32")
        self.ok("quantize", golden(), "-o", self.folder / "int4", "--format", "int4", "--no-eval")
        text = self.ok("info", self.folder / "int4")
        self.assertEqual(set(weights(self.folder / "int4").split(", ")), {"int4", "fp8", "bf16"})
        self.assertIn("int4", text)

    def copy_golden(self):
        for file in ("config.json", "model.safetensors"):
            (self.folder / file).write_bytes((golden() / file).read_bytes())

    def test_reports_C4_inspect_does_not_advise_to_inspect(self):
        self.copy_golden()
        (self.folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
        message = self.fails(3, "inspect", self.folder)
        self.assertIn("git lfs pull", message)
        self.assertNotIn("inspect", message.split("error:")[1])
        self.assertIn("dsv32 inspect", self.fails(3, "generate", self.folder, "x"))

    def test_reports_C3_a_format_that_is_not_read_is_a_bad_model(self):
        self.copy_golden()
        config = json.loads((golden() / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "awq", "bits": 4}
        (self.folder / "config.json").write_text(json.dumps(config))
        self.assertIn("awq", self.fails(3, "inspect", self.folder))

    def test_reports_C4_inspect_reads_what_generate_reads(self):
        self.copy_golden()
        (self.folder / "generation_config.json").write_text('{"top_p": 7}')
        result = run("inspect", self.folder, "--json")
        self.assertEqual(result.returncode, 3)
        self.assertIn("top_p", json.loads(result.stdout)["problems"][0]["message"])

    def test_reports_W2_inspect_shows_remarks(self):
        self.copy_golden()
        config = json.loads((golden() / "config.json").read_text())
        config["some_new_key"] = 7
        (self.folder / "config.json").write_text(json.dumps(config))
        self.assertIn("some_new_key", self.ok("inspect", self.folder))
        self.assertIn("some_new_key", json.loads(self.ok("inspect", self.folder, "--json"))["remarks"][0])
        self.assertEqual(json.loads(self.ok("inspect", golden(), "--json"))["remarks"], [])

    def test_inspect_counts_every_byte(self):
        report = json.loads(self.ok("inspect", golden(), "--json", "--tensors"))
        self.assertEqual(report["problems"], [])
        self.assertEqual(sum(report["bytes_by_part"].values()), report["bytes"])
        self.assertEqual(sum(report["bytes_by_dtype"].values()), report["bytes"])
        self.assertEqual(sum(t["bytes"] for t in report["tensors"]), report["bytes"])
        self.assertEqual(len(report["tensors"]), report["tensor_count"])
        for part in ("indexer", "routed experts", "attention", "mtp", "head"):
            self.assertGreater(report["bytes_by_part"][part], 0)
        self.assertTrue(report["plan"]["fits"])
        self.assertIn("no problems", self.ok("inspect", golden()))

    def test_reports_W3_inspect_shows_what_generates_by_default(self):
        for file in golden().iterdir():
            (self.folder / file.name).symlink_to(file)
        generation = self.folder / "generation_config.json"
        generation.write_text(json.dumps({
            "eos_token_id": [7, 9], "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.05,
            "repetition_penalty": 1.1, "stop_strings": ["User:"], "max_new_tokens": 99, "typical_p": 0.5}))
        shown = json.loads(self.ok("inspect", self.folder, "--json"))["generation"]
        self.assertEqual(shown.pop("end_tokens")[-2:], [7, 9])
        self.assertEqual(shown, {
            "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1,
            "not_applied": {"stop_strings": ["User:"], "max_new_tokens": 99, "other_keys": ["typical_p"]}})
        text = self.ok("inspect", self.folder)
        for word in ("end_tokens", "repetition_penalty", "1.1", "User:", "max_new_tokens", "typical_p"):
            self.assertIn(word, text)
        self.assertIn("not applied", run("generate", self.folder, "--ids", "[1]", "-n", "1").stderr)
        generation.write_text('{"repetition_penalty": 0}')
        result = run("inspect", self.folder, "--json")
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("repetition_penalty", json.loads(result.stdout)["problems"][0]["message"])

    def test_inspect_names_problems(self):
        for file in golden().iterdir():
            if file.name != "config.json":
                (self.folder / file.name).symlink_to(file)
        config = json.loads((golden() / "config.json").read_text())
        config["num_hidden_layers"] += 1
        (self.folder / "config.json").write_text(json.dumps(config))
        result = run("inspect", self.folder, "--json")
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertTrue(json.loads(result.stdout)["problems"])


class TraceTest(Case):
    TOKENS = 70

    def setUp(self):
        super().setUp()
        self.config = json.loads((golden() / "config.json").read_text())
        self.ids = [(37 * i + 11) % self.config["vocab_size"] for i in range(self.TOKENS)]
        self.ids_file = self.folder / "ids.json"
        self.ids_file.write_text(json.dumps(self.ids))

    def trace(self, name, *options):
        out = self.folder / name
        self.ok("trace", golden(), "--ids", self.ids_file, "-o", out, *options)
        return out

    def test_shapes_and_meaning(self):
        tensors = read_safetensors(self.trace("t.safetensors", "--numerics", "exact"))
        layers, n = self.config["num_hidden_layers"], self.TOKENS
        k = min(self.config["index_topk"], n)
        moe = layers - self.config["first_k_dense_replace"]
        self.assertEqual(tensors["logits"][0], [n, self.config["vocab_size"]])
        self.assertEqual(tensors["topk"][0], [layers, n, k])
        self.assertEqual(tensors["experts"][0], [moe, n, self.config["num_experts_per_tok"]])
        self.assertEqual(tensors["mtp_logits"][0], [n - 1, self.config["vocab_size"]])
        self.assertTrue(any(tensors["mtp_logits"][1][-self.config["vocab_size"]:]))
        topk = tensors["topk"][1]
        for row in range(layers * n):
            query = row % n
            keys = list(topk[row * k:(row + 1) * k])
            chosen = [key for key in keys if key >= 0]
            self.assertEqual(chosen, sorted(set(chosen)))
            self.assertEqual(keys[len(chosen):], [-1] * (k - len(chosen)))
            self.assertEqual(len(chosen), min(k, query + 1))
            self.assertLessEqual(chosen[-1], query)
        self.assertGreaterEqual(min(tensors["experts"][1]), 0)

    def test_one_token_has_no_mtp_logits_but_their_shape(self):
        self.ids_file.write_text(json.dumps(self.ids[:1]))
        tensors = read_safetensors(self.trace("one"))
        vocab = self.config["vocab_size"]
        self.assertEqual(tensors["logits"][0], [1, vocab])
        self.assertEqual((tensors["mtp_logits"][0], len(tensors["mtp_logits"][1])), ([0, vocab], 0))

    def test_chunks_and_threads_change_no_bit(self):
        info = json.loads(self.ok("info", "--json"))
        for kernels in info["backends"][0]["kernel_sets"]:
            whole = self.trace("whole", "--kernels", kernels).read_bytes()
            for threads in ("1", "2", "3"):
                for chunk in ("1", "7", "64"):
                    pieces = self.trace("pieces", "--kernels", kernels, "--threads", threads,
                                        "--chunk", chunk).read_bytes()
                    self.assertEqual(whole, pieces, (kernels, threads, chunk))

    def test_texts_beside_it_change_no_bit(self):
        others = []
        for n, length in enumerate((1, 70, 150)):
            others.append(self.folder / f"beside{n}.json")
            others[n].write_text(json.dumps([(i * 31 + n) % 90 for i in range(length)]))
        beside = [part for other in others for part in ("--beside", other)]
        for kernels in json.loads(self.ok("info", "--json"))["backends"][0]["kernel_sets"]:
            alone = self.trace("alone", "--kernels", kernels).read_bytes()
            for chunk, least in ((1, 50), (7, 8), (64, 1), (0, 1)):
                out = self.folder / "shared"
                told = json.loads(self.ok("--json", "trace", golden(), "--ids", self.ids_file, "-o", out, "--kernels",
                                          kernels, "--chunk", chunk, *beside))
                self.assertGreaterEqual(told["shared_passes"], least)
                self.assertEqual(alone, out.read_bytes(), f"{kernels} {chunk}")
        self.assertNotIn("shared_passes", json.loads(self.ok("--json", "trace", golden(), "--ids", self.ids_file, "-o",
                                                             self.folder / "alone")))

    def test_what_runs_beside_must_be_a_text(self):
        empty = self.folder / "empty.json"
        empty.write_text("[]")
        where = ("--ids", self.ids_file, "-o", self.folder / "x", "--beside")
        self.fails(2, "trace", golden(), *where, empty)
        self.fails(2, "trace", golden(), *where, self.folder / "absent.json")

    def test_int8_indexer_is_asked_for_and_refused_where_it_means_nothing(self):
        exact = self.trace("exact").read_bytes()
        self.assertEqual(exact, self.trace("fp8", "--indexer", "fp8").read_bytes())
        self.assertNotEqual(exact, self.trace("int8", "--indexer", "int8").read_bytes())
        where = ("--ids", self.ids_file, "-o", self.folder / "o", "--indexer")
        self.fails(5, "trace", golden("v3-dense"), *where, "int8")
        self.fails(2, "trace", golden(), *where, "int8", "--numerics", "exact")
        self.fails(2, "trace", golden(), *where, "int4")

    def test_dense_model_has_no_topk(self):
        out = self.folder / "d"
        self.ok("trace", golden("v3-dense"), "--ids", self.ids_file, "-o", out, "--numerics", "exact")
        self.assertNotIn("topk", read_safetensors(out))
        self.fails(5, "trace", golden("v3-dense"), "--ids", self.ids_file, "--numerics", "exact",
                   "--picture", self.folder / "p.png")

    def test_picture_shows_the_selection(self):
        png, out = self.folder / "p.png", self.folder / "t"
        self.ok("trace", golden(), "--ids", self.ids_file, "--picture", png, "-o", out, "--layer", "1")
        width, height, rows = read_png(png)
        shape, topk = read_safetensors(out)["topk"]
        _, n, k = shape
        scale = 512 // n
        gap = (width - n * scale) // 2
        self.assertGreater(height, width)  # the legend
        for query in range(n):
            start = (n + query) * k  # layer 1
            chosen = set(topk[start:start + k])
            for key in range(n):
                pixel = rows[gap + query * scale + 1][gap + key * scale + 1]
                expected = 201 if key > query else 200 if key in chosen else 0
                self.assertEqual(pixel, expected, (query, key))

    def test_picture_as_svg(self):
        svg = self.folder / "p.svg"
        self.ok("trace", golden(), "--ids", self.ids_file, "--picture", svg)
        import xml.etree.ElementTree as tree
        root = tree.parse(svg).getroot()
        text = " ".join(root.itertext())
        self.assertIn(f"layer {self.config['num_hidden_layers'] - 1}", text)
        self.assertIn("key position", text)

    def test_token_outside_the_vocabulary_is_2_and_leaves_no_file(self):
        self.ids_file.write_text("[1, 99999999]")
        out = self.folder / "none"
        self.fails(2, "trace", golden(), "--ids", self.ids_file, "-o", out)
        self.assertEqual(list(self.folder.glob("none*")), [])


class TextTest(ModelCase):
    def test_tokenize_round_trip(self):
        for text in ("Hello, world!", "Gr\u00fc\u00dfe \u4e16\u754c 123\n", "<\uff5cUser\uff5c>hi"):
            ids = self.ok("tokenize", self.model, stdin=text)
            self.assertEqual(self.ok("tokenize", self.model, "--decode", stdin=ids), text)
            both = json.loads(self.ok("tokenize", self.model, "--json", text.strip()))
            self.assertEqual(len(both["ids"]), len(both["pieces"]))
        for text in ("[1, 2]", "[]", '"quoted"', "[a], {b}", "two words"):  # as they are
            ids = self.ok("tokenize", self.model, *text.split(" ", 1))
            self.assertEqual(self.ok("tokenize", self.model, "--decode", ids.strip()), text)
            self.assertEqual(self.ok("tokenize", self.model, "--", *text.split(" ", 1)), ids)
        ids = self.ok("tokenize", self.model, "--", "--json", "-x", "--")  # no options behind "--"
        self.assertEqual(self.ok("tokenize", self.model, "--decode", ids.strip()), "--json -x --")
        plain = json.loads(self.ok("tokenize", self.model, "<\uff5cUser\uff5c>"))
        special = json.loads(self.ok("tokenize", self.model, "--special", "<\uff5cUser\uff5c>"))
        self.assertGreater(len(plain), len(special))
        self.assertEqual(len(special), 1)

    def test_generate_is_reproducible(self):
        options = ("generate", self.model, "The", "-n", "8", "--json")
        first = json.loads(self.ok(*options, "--seed", "5"))
        self.assertEqual(first["text"], json.loads(self.ok(*options, "--seed", "5"))["text"])
        self.assertLessEqual(first["usage"]["generated_tokens"], 8)
        self.assertIn(first["finish_reason"], ("length", "stop"))

    def test_generate_shows_what_might_have_become_a_stop_string(self):
        options = ("generate", self.model, "The", "-n", "8", "--greedy")
        whole = self.ok(*options).removesuffix("\n")
        self.assertEqual(self.ok(*options, "--stop", whole[-2:] + "\u2603").removesuffix("\n"), whole)

    def test_generate_ids(self):
        out = json.loads(self.ok("generate", self.model, "--ids", "-n", "4", "--greedy", stdin="[0, 5]"))
        self.assertTrue(1 <= len(out) <= 4)
        self.assertEqual(out, json.loads(self.ok("generate", self.model, "--ids", "-n", "4", "--greedy", "[0, 5]")))
        self.fails(2, "generate", self.model, "--ids", stdin="[0, \"x\"]")

    def test_reports_F13_what_ended_an_answer_and_its_seed(self):
        options = ("generate", self.model, "The", "-n", "3", "--json")
        out = json.loads(self.ok(*options, "--seed", "5"))
        self.assertEqual(out["seed"], 5)
        self.assertIsNone(out["stop_token"])
        self.assertEqual(out["finish_reason"], "length")
        drawn = json.loads(self.ok(*options))  # with a seed, though none was asked for
        self.assertEqual(json.loads(self.ok(*options, "--seed", str(drawn["seed"])))["text"], drawn["text"])
        turn = json.loads(self.ok("generate", self.model, "--chat", "--greedy", "-n", "60", "--json", "Who are you?"))
        self.assertEqual((turn["finish_reason"], turn["stop_token"], turn["stop_string"]), ("stop", 1, ""))
        self.assertEqual((turn["tool_calls"], turn["faults"]), ([], []))
        told = run("generate", self.model, "--chat", "--seed", "7", "-n", "60", "--stats", "Who are you?").stderr
        self.assertRegex(told, r"; ended by (token 1|length); seed 7\n")
        self.assertIn("; ended by token 1; seed ", self.script("Who are you?\n/stats\n").stdout)

    def test_reports_T3_a_stop_string_of_a_turn_ends_its_content(self):
        options = ("generate", self.model, "--chat", "--think", "--greedy", "-n", "80", "--json", "What is 47 + 38?")
        whole = json.loads(self.ok(*options))
        word = "8"  # in the thinking, and in the answer
        self.assertIn(word, whole["reasoning"])
        self.assertIn(word, whole["content"])
        cut = json.loads(self.ok(*options, "--stop", word))
        self.assertEqual(cut["reasoning"], whole["reasoning"])
        self.assertEqual(cut["content"], whole["content"].split(word)[0])
        self.assertEqual((cut["finish_reason"], cut["stop_string"]), ("stop", word))
        kept = json.loads(self.ok(*options, "--stop", "think>"))
        self.assertEqual((kept["content"], kept["stop_string"]), (whole["content"], ""))

    def test_reports_F2_wrong_options_are_2_before_anything_is_loaded(self):
        (self.folder / "model.safetensors").write_text("no model at all")
        (self.folder / "config.json").write_text("nor a config")
        for option in (("--temp", "-1"), ("--top-p", "1.5"), ("--min-p", "2"), ("--repetition-penalty", "1e-38"),
                       ("--presence-penalty", "1000"), ("--top-k", "-1"), ("--stop", "")):
            self.fails(2, "generate", self.folder, "x", *option)
            self.fails(2, "chat", self.folder, *option, stdin="x\n")
        self.fails(2, "generate", self.folder, "--ids", "[]")
        self.assertIn("vocabulary", self.fails(2, "generate", self.model, "--ids", "[0, 99999999]"))

    def test_chat_turn(self):
        answer = self.ok("generate", self.model, "--chat", "--greedy", "-n", "60", "Who are you?")
        self.assertTrue(answer.strip())
        self.assertNotIn(ESC, answer)

    def script(self, text, *options, code=0):
        file = self.folder / "script.txt"
        file.write_text(text)
        result = run("chat", self.model, "--script", file, "--greedy", "-n", "80", *options)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def test_script_and_commands(self):
        out = self.script("# a comment\n/help\n/tools\nWho are you?\n/stats\n/think off\n/reset\n"
                          "Hello\n/system Be brief.\n/exit\nnever reached\n").stdout
        for text in ("/reset", "keys:", "(forgotten)", "system: Be brief.", "> Who are you?"):
            self.assertIn(text, out)
        self.assertNotIn("never reached", out)
        self.assertNotIn("comment", out)
        self.assertNotIn(ESC, out)

    def test_script_as_json(self):
        out = json.loads(self.script("Who are you?\nHello\n", "--json").stdout)
        self.assertEqual([turn["user"] for turn in out["turns"]], ["Who are you?", "Hello"])
        second = out["turns"][1]["rounds"][0]["usage"]
        self.assertGreater(second["cached_tokens"], 0)

    def test_unknown_command_fails_a_script(self):
        self.assertIn("/help", self.script("/frobnicate\n", code=1).stderr)

    def test_colour(self):
        on = self.script("Who are you?\n", "--color", "always").stdout
        self.assertIn(ESC + "[2m", on)
        self.assertNotIn(ESC, self.script("Who are you?\n").stdout)

    def test_bad_tools_file_is_2(self):
        tools = self.folder / "tools.json"
        for text in ("{", "{}", "[{}]", '[{"function": {"name": "f"}}]',
                     '[{"function": {"name": "f"}, "command": []}]',
                     '[{"function": {"name": "f"}, "command": ["x"], "timeout_s": -1}]'):
            tools.write_text(text)
            self.fails(2, "chat", self.model, "--tools", tools, stdin="hi\n")


if __name__ == "__main__":
    cli_program.main()
