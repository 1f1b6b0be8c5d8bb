"""Models of a Hugging Face cache, named as its own tools take them. usage: hub_test.py PROGRAM SOURCE_DIR"""
import json

import cli_program
from cli_program import ModelCase, run


class HubTest(ModelCase):
    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def setUp(self):
        super().setUp()
        self.hub = self.folder / "hf" / "hub"
        self.repo = self.hub / "models--acme--tiny"
        snapshot = self.repo / "snapshots" / self.COMMIT
        snapshot.mkdir(parents=True)
        for file in self.model.iterdir():
            (snapshot / file.name).symlink_to(file)
        (self.repo / "refs" / "refs" / "pr").mkdir(parents=True)
        for name in ("main", "refs/pr/7"):
            (self.repo / "refs" / name).write_text(self.COMMIT)

    def asked(self, name, **environment):
        return run("info", name, "--json", **{"HOME": str(self.folder), **environment})

    def test_reports_C6_the_cache_is_where_its_own_tools_look(self):
        hub, home = str(self.hub), str(self.folder / "hf")
        (self.folder / ".cache").mkdir()
        (self.folder / ".cache" / "huggingface").symlink_to(home)
        for environment in ({"HF_HUB_CACHE": hub}, {"HUGGINGFACE_HUB_CACHE": hub},
                            {"HF_HUB_CACHE": "~/hf/hub"}, {"HF_HUB_CACHE": "$HOME/hf/hub"},
                            {"HF_HOME": home}, {"HF_HOME": "~/hf"}, {"HF_HOME": "$HOME/hf"},
                            {"HF_HOME": "${HOME}/hf"}, {"HF_HOME": "/none", "HF_HUB_CACHE": hub},
                            {"HUGGINGFACE_HUB_CACHE": "/none", "HF_HUB_CACHE": hub},
                            {"HF_HOME": "/none", "HUGGINGFACE_HUB_CACHE": hub}, {},
                            {"XDG_CACHE_HOME": "~/.cache"}):
            result = self.asked("acme/tiny", **environment)
            self.assertEqual(result.returncode, 0, (environment, result.stderr))
            path = json.loads(result.stdout)["model"]["path"]
            self.assertTrue(path.endswith(f"/snapshots/{self.COMMIT}"), path)
        for environment in ({"HF_HOME": "$NO_SUCH/hf"}, {"HF_HUB_CACHE": "~nobody-such/hub"},
                            {"HF_HUB_CACHE": "/none", "HUGGINGFACE_HUB_CACHE": hub}):
            self.assertEqual(self.asked("acme/tiny", **environment).returncode, 3, environment)

    def test_reports_C6_revisions(self):
        place = {"HF_HUB_CACHE": str(self.hub)}
        for revision in ("main", "refs/pr/7", self.COMMIT):
            self.assertEqual(self.asked(f"acme/tiny@{revision}", **place).returncode, 0, revision)
        for revision in ("refs/pr/8", "../main", "refs/../main", "", "/main", "refs", "a//b"):
            self.assertEqual(self.asked(f"acme/tiny@{revision}", **place).returncode, 3, revision)
        (self.repo / "refs" / "main").unlink()
        result = self.asked("acme/tiny", **place)
        self.assertEqual(result.returncode, 3)
        self.assertIn(f"there is acme/tiny@{self.COMMIT};", result.stderr)
        self.assertIn("hf download acme/tiny --revision main", result.stderr)

    def test_reports_C6_a_path_is_no_repository(self):
        for name in ("./nothere", "../nothere", "not-/here", "/not/here", "a/b/c", "nothere",
                     "a/.b", "~/nothere"):
            result = self.asked(name)
            self.assertEqual(result.returncode, 3, name)
            self.assertNotIn("hf download", result.stderr)


cli_program.main()
