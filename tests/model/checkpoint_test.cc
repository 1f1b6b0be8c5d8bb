// Checkpoints on disk: the attacks IX, MM and DT on the golden FP8 model's files.
#include "dsv32/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "dsv32/model.h"
#include "dsv32/session.h"

#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;
const fs::path kGolden = fs::path(DSV32_SOURCE_DIR) / "tests/golden/model/fp8";

std::string config() { return conformance::read_file(kGolden / "config.json"); }

std::vector<float> logits_of(const fs::path& folder) {
  Session session(Model::load(folder, {.kv_cache_tokens = 256}));
  std::vector<TokenId> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(i * 7 % 90);
  const auto row = session.append(tokens);
  return {row.begin(), row.end()};
}

// A checkpoint in one file, with `change` applied.
template <class Change>
std::string load_error(ErrorCode code, const std::string& part, Change&& change) {
  const TempFolder folder;
  Tensors tensors = tensors_of(kGolden);
  change(tensors);
  write_shard(folder.path() / "model.safetensors", tensors);
  write_text(folder.path() / "config.json", config());
  return check_error(code, part, [&] { Model::load(folder.path(), {.kv_cache_tokens = 256}); });
}

std::string first_with(const Tensors& tensors, const std::string& part) {
  for (const auto& [name, t] : tensors) {
    if (name.find(part) != std::string::npos) return name;
  }
  FAIL("no tensor " + part);
  return {};
}

TEST_CASE("shards in any cut, with odd names, with or without index give the same bits") {
  const std::vector<float> want = logits_of(kGolden);
  const Tensors all = tensors_of(kGolden);
  const TempFolder folder;
  write_text(folder.path() / "config.json", config());
  std::map<int, Tensors> parts;
  int i = 0;
  for (const auto& [name, t] : all) parts[i++ % 3][name] = t;  // scales apart from weights
  std::string map;
  for (const auto& [number, part] : parts) {
    const std::string file = "part " + std::to_string(number) + "-odd.name.safetensors";
    write_shard(folder.path() / file, part);
    for (const auto& [name, t] : part) {
      if (name.find("scale_inv") != std::string::npos) continue;  // an incomplete index
      map += (map.empty() ? "\"" : ",\"") + name + "\":\"" + file + "\"";
    }
  }
  CHECK(logits_of(folder.path()) == want);
  write_text(folder.path() / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  CHECK(logits_of(folder.path()) == want);
}

TEST_CASE("IX-02 IX-03 IX-08 IX-09 IX-13 indexes that lie") {
  const TempFolder folder;
  const Tensors all = tensors_of(kGolden);
  write_text(folder.path() / "config.json", config());
  write_shard(folder.path() / "a.safetensors", all);
  const fs::path index = folder.path() / "model.safetensors.index.json";
  const std::string name = all.begin()->first;
  const auto refused = [&](const std::string& text) {
    INFO(text.substr(0, 100));
    write_text(index, text);
    CHECK_THROWS_AS(Checkpoint::open(folder.path()), Error);
  };
  const auto map = [](const std::string& tensor, const std::string& file) {
    return "{\"weight_map\":{\"" + tensor + "\":\"" + file + "\"}}";
  };
  refused(map("no.such.tensor", "a.safetensors"));
  refused(map(name, "b.safetensors"));
  refused(map(name, "../a.safetensors"));
  refused(map(name, "/etc/passwd"));
  refused(map(name, ""));
  refused(map(name, "a.safetensors\\u0000.x"));
  for (const char* text :
       {"", "[]", "{}", "{\"weight_map\":[]}", "{\"weight_map\":{\"a\":1}}",
        "{\"weight_map\":{\"a\":{\"b\":\"c\"}}}", "{\"weight_map\":{\"a\":\"x\",\"a\":\"x\"}}"}) {
    refused(text);
  }
  refused("{\"weight_map\":" + std::string(200000, '['));
  for (const char* size : {"0", "-1", "18446744073709551616", "\"x\"", "1e300"}) {
    write_text(index, std::string("{\"metadata\":{\"total_size\":") + size +
                          "},\"weight_map\":{\"" + name + "\":\"a.safetensors\"}}");
    CHECK_NOTHROW(Checkpoint::open(folder.path()));
  }
  write_shard(folder.path() / "b.safetensors", {{name, all.begin()->second}});
  fs::remove(index);
  check_error(ErrorCode::mismatch, "", [&] { Checkpoint::open(folder.path()); });
}

TEST_CASE("IX-06 IX-07 links load, what is no file does not block") {
  const TempFolder folder;
  fs::create_symlink(kGolden / "config.json", folder.path() / "config.json");
  const fs::path file = folder.path() / "model.safetensors";
  fs::create_symlink(kGolden / "model.safetensors", file);
  CHECK(logits_of(folder.path()) == logits_of(kGolden));
  fs::remove(file);
  REQUIRE(mkfifo(file.c_str(), 0600) == 0);
  check_error(ErrorCode::io, "model.safetensors", [&] { Checkpoint::open(folder.path()); });
  fs::remove(file);
  fs::create_symlink("model.safetensors", file);  // a loop
  CHECK_THROWS_AS(Checkpoint::open(folder.path()), Error);
  fs::remove(file);
  fs::create_directory(file);
  CHECK_THROWS_AS(Checkpoint::open(folder.path()), Error);
  fs::remove(file);
  fs::create_symlink("/dev/zero", file);
  CHECK_THROWS_AS(Checkpoint::open(folder.path()), Error);
}

TEST_CASE("MM-03 MM-04 MM-08 files that change under an open model") {
  const TempFolder folder;
  fs::copy(kGolden / "config.json", folder.path() / "config.json");
  const fs::path file = folder.path() / "model.safetensors";
  fs::copy(kGolden / "model.safetensors", file);
  fs::permissions(file, fs::perms::owner_read);
  const std::string before = conformance::read_file(file);
  const Model model = Model::load(folder.path(), {.kv_cache_tokens = 256});
  Session session(model);
  const auto first = session.append(std::vector<TokenId>{1, 2, 3});
  const std::vector<float> want(first.begin(), first.end());
  CHECK(conformance::read_file(file) == before);
  fs::remove(file);  // the old file goes on being used
  write_text(file, "gone");
  Session again(model);
  const auto second = again.append(std::vector<TokenId>{1, 2, 3});
  CHECK(std::vector<float>(second.begin(), second.end()) == want);
}

TEST_CASE("DT-09 DT-11 DT-14 DT-16 tensors that are missing or misshaped, by name") {
  const Tensors all = tensors_of(kGolden);
  const std::string q_a = first_with(all, "q_a_proj.weight");
  load_error(ErrorCode::mismatch, q_a,
             [&](Tensors& t) { std::swap(t[q_a].shape[0], t[q_a].shape[1]); });
  load_error(ErrorCode::mismatch, q_a,
             [&](Tensors& t) { t[q_a].shape = {t[q_a].shape[0] * t[q_a].shape[1]}; });
  const std::string scale = first_with(all, "o_proj.weight_scale_inv");
  load_error(ErrorCode::mismatch, scale, [&](Tensors& t) {
    t[scale].shape[0] -= 1;
    t[scale].data.resize(t[scale].data.size() - 4 * static_cast<std::size_t>(t[scale].shape[1]));
  });
  load_error(ErrorCode::mismatch, "lm_head.weight", [](Tensors& t) { t.erase("lm_head.weight"); });
  const std::string expert = first_with(all, "experts.1.down_proj.weight");
  load_error(ErrorCode::mismatch, expert, [&](Tensors& t) { t.erase(expert); });
  load_error(ErrorCode::mismatch, "embed_tokens", [](Tensors& t) {
    Tensor& e = t["model.embed_tokens.weight"];
    e.shape[0] -= 1;
    e.data.resize(e.data.size() / static_cast<std::size_t>(e.shape[0] + 1) *
                  static_cast<std::size_t>(e.shape[0]));
  });
  load_error(ErrorCode::mismatch, "are missing", [](Tensors& t) {
    t = Tensors{{"x", {"F32", {1}, std::string(4, '\0')}}};
  });
  load_error(ErrorCode::mismatch, q_a, [&](Tensors& t) { t[q_a].dtype = "U8"; });
}

TEST_CASE("DT-12 scales and biases that are no numbers") {
  const Tensors all = tensors_of(kGolden);
  const std::string scale = first_with(all, "o_proj.weight_scale_inv");
  const auto put = [&](const std::string& name, float value) {
    return [name, value](Tensors& t) { std::memcpy(t[name].data.data(), &value, 4); };
  };
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), inf, -inf, -1.0f}) {
    load_error(ErrorCode::bad_format, scale, put(scale, bad));
  }
  const std::string bias = first_with(all, "e_score_correction_bias");
  for (const float bad : {std::nanf(""), inf}) {
    load_error(ErrorCode::bad_format, bias, put(bias, bad));
  }
}

TEST_CASE("DT-13 weights that are no numbers load, and the row says so") {
  const TempFolder folder;
  Tensors tensors = tensors_of(kGolden);
  Tensor& head = tensors["lm_head.weight"];
  const std::uint16_t nan = 0x7FC0;
  for (std::size_t i = 0; i + 1 < head.data.size(); i += 2) {
    std::memcpy(head.data.data() + i, &nan, 2);
  }
  write_shard(folder.path() / "model.safetensors", tensors);
  write_text(folder.path() / "config.json", config());
  CHECK(!Checkpoint::open(folder.path()).problems(Verify::all).empty());
  Session session(Model::load(folder.path(), {.kv_cache_tokens = 256}));
  CHECK(std::isnan(session.append(1)[0]));
  GenerateOptions options;
  options.max_tokens = 3;
  check_error(ErrorCode::numeric, "", [&] { session.generate(std::vector<TokenId>{1}, options); });
}

TEST_CASE("DT-15 DT-17 unknown tensors") {
  for (const char* name : {"model.layers.62.x.weight", "model.layers.1e1.mlp.up_proj.weight",
                           "model.layers.1.mlp.experts.-1.up_proj.weight",
                           "model.layers.1.mlp.experts.007.up_proj.weight", "extra"}) {
    INFO(name);
    const TempFolder folder;
    Tensors tensors = tensors_of(kGolden);
    tensors[name] = {"F32", {1}, std::string(4, '\0')};
    write_shard(folder.path() / "model.safetensors", tensors);
    write_text(folder.path() / "config.json", config());
    const auto problems = Checkpoint::open(folder.path()).problems();
    CHECK(std::any_of(problems.begin(), problems.end(), [&](const Problem& problem) {
      return problem.message.find(name) != std::string::npos;
    }));
  }
}

TEST_CASE("a model that does not fit is refused with both figures") {
  check_error(ErrorCode::out_of_memory, "needs",
              [] { Model::load(kGolden, {.kv_cache_tokens = std::size_t{1} << 35}); });
}

TEST_CASE("the fingerprint sees names, shapes and scales") {
  const TempFolder folder;
  Tensors tensors = tensors_of(kGolden);
  write_text(folder.path() / "config.json", config());
  write_shard(folder.path() / "model.safetensors", tensors);
  const std::string print = Checkpoint::open(folder.path()).fingerprint();
  CHECK(print == Checkpoint::open(kGolden).fingerprint());
  Tensor& scale = tensors[first_with(tensors, "scale_inv")];
  scale.data[3] = static_cast<char>(scale.data[3] ^ 1);
  write_shard(folder.path() / "model.safetensors", tensors);
  CHECK(print != Checkpoint::open(folder.path()).fingerprint());
}

}  // namespace
}  // namespace dsv32::test
