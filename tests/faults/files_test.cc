// Files and the system: mappings, reads and folders that fail or change at the worst moment.
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"
#include "dsv32/session.h"

#include "tests/conformance/conformance.h"
#include "tests/faults/seams.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

constexpr int kShards = 5;

// The golden FP8 model cut into `kShards` files with an index.
void write_sharded(const fs::path& folder, const fs::path& source) {
  fs::create_directories(folder);
  fs::copy(source / "config.json", folder / "config.json");
  std::map<int, Tensors> parts;
  std::string map;
  int i = 0;
  for (const auto& [name, tensor] : tensors_of(source)) {
    const int part = i++ % kShards;
    parts[part][name] = tensor;
    map += (map.empty() ? "\"" : ",\"") + name + "\":\"" + std::to_string(part) + ".safetensors\"";
  }
  for (const auto& [number, part] : parts) {
    write_shard(folder / (std::to_string(number) + ".safetensors"), part);
  }
  write_text(folder / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
}

std::vector<float> logits_of(const Model& model) {
  Session session(model);
  std::vector<TokenId> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(i * 7 % 90);
  const auto row = session.append(tokens);
  return {row.begin(), row.end()};
}

Model load(const fs::path& folder, FileAccess access) {
  return Model::load(folder, {.kv_cache_tokens = 256, .access = access});
}

TEST_CASE("MM-05 a mapping that fails is out_of_memory, and a shard is one mapping") {
  const TempFolder folder;
  write_sharded(folder.path() / "m", golden_model("fp8"));
  const std::vector<float> want = logits_of(load(golden_model("fp8"), FileAccess::mmap));
  const int descriptors = open_descriptors();
  for (int k = 0; k < kShards; ++k) {
    seams = {.fail_map = k, .error = ENOMEM};
    check_error(ErrorCode::out_of_memory, std::to_string(k) + ".safetensors",
                [&] { load(folder.path() / "m", FileAccess::mmap); });
    CHECK(seams.maps == k + 1);
    CHECK(seams.unmaps == k);
    CHECK(open_descriptors() == descriptors);
  }
  seams = {.fail_map = 0, .error = EACCES};
  check_error(ErrorCode::io, "0.safetensors", [&] { load(folder.path() / "m", FileAccess::mmap); });
  seams = {};
  CHECK(logits_of(load(folder.path() / "m", FileAccess::mmap)) == want);
  CHECK(seams.maps == kShards);
  CHECK(seams.unmaps == kShards);
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("memory that the system does not give is out_of_memory, and none stays behind") {
  const int descriptors = open_descriptors();
  seams = {.error = ENOMEM, .fail_memory = true};
  check_error(ErrorCode::out_of_memory, "could not map",
              [&] { load(golden_model("fp8"), FileAccess::mmap); });
  CHECK(seams.maps == 1);
  CHECK(seams.unmaps == 1);
  CHECK(open_descriptors() == descriptors);
  seams = {};
}

TEST_CASE("MM-06 a read that fails is io, with file and offset") {
  const TempFolder folder;
  write_sharded(folder.path() / "m", golden_model("fp8"));
  const std::vector<float> want = logits_of(load(golden_model("fp8"), FileAccess::mmap));
  const int descriptors = open_descriptors();
  int k = 0;
  for (;; ++k) {
    seams = {.fail_read = k, .error = EIO};
    try {
      load(folder.path() / "m", FileAccess::read);
    } catch (const Error& error) {
      const std::string message = error.what();
      INFO(k << ": " << message);
      CHECK(error.code() == ErrorCode::io);
      CHECK(message.find(folder.path().filename().string()) != std::string::npos);
      CHECK(message.find("at byte ") != std::string::npos);
      CHECK(open_descriptors() == descriptors);
      continue;
    }
    break;
  }
  CHECK(k == 3 * kShards + 2);  // a header's size, the header, the rest; config.json and the index
  // Reads that bring a part, or are interrupted, are gone on with; a later one may fail, too.
  seams = {.short_reads = true};
  CHECK(logits_of(load(folder.path() / "m", FileAccess::read)) == want);
  seams = {.fail_read = seams.reads - 2, .error = EIO, .short_reads = true};
  const std::string message =
      check_error(ErrorCode::io, "at byte ", [&] { load(folder.path() / "m", FileAccess::read); });
  CHECK(message.find("at byte 0:") == std::string::npos);
  CHECK(open_descriptors() == descriptors);
  seams = {};
}

TEST_CASE("MM-11 a folder that is swapped while it is read stays the first one") {
  const TempFolder root;
  const fs::path model = root.path() / "m", other = root.path() / "other";
  const fs::path source = fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model";
  write_sharded(model, source);
  fs::copy(source / "tokenizer.json", model / "tokenizer.json");
  fs::create_directories(other);
  for (const auto& entry : fs::directory_iterator(model)) {  // the other one holds nothing of use
    write_text(other / entry.path().filename(), "no");
  }
  const std::vector<float> want = logits_of(load(source, FileAccess::mmap));
  for (const FileAccess access : {FileAccess::mmap, FileAccess::read}) {
    bool swapped = false;
    seams = {};
    seams.on_open = [&](const std::string& name) {
      if (swapped || name != "0.safetensors") return;
      swapped = true;
      fs::rename(model, root.path() / "moved");
      fs::create_directory_symlink(other, model);
    };
    const Model loaded = load(model, access);
    seams = {};
    CHECK(swapped);
    CHECK(logits_of(loaded) == want);
    CHECK(loaded.tokenizer().vocab_size() == 2048);
    fs::remove(model);
    fs::rename(root.path() / "moved", model);
  }
}

}  // namespace
}  // namespace dsv32::test
