// Folders of files that are not what they should be: named as what they are, or usable and said so.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"

#include "tests/conformance/conformance.h"
#include "tests/model/reports_C11.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

// A golden checkpoint in one file, to spoil.
class Copy {
 public:
  explicit Copy(const std::string& name = "fp8", const std::function<void(Tensors&)>& change = {}) {
    Tensors tensors = tensors_of(golden_model(name));
    config = conformance::read_file(golden_model(name) / "config.json");
    if (change) change(tensors);
    write_shard(path() / "model.safetensors", tensors);
    write_config();
  }
  void replace(const std::string& from, const std::string& to) {
    const std::size_t at = config.find(from);
    REQUIRE(at != std::string::npos);
    config.replace(at, from.size(), to);
    write_config();
  }
  // Takes a block of config.json out.
  void drop(const std::string& key) {
    const std::size_t at = config.find("\"" + key + "\":"), end = config.find('}', at) + 1;
    REQUIRE(at != std::string::npos);
    const std::size_t comma = config.rfind(',', at);
    config.erase(comma, end - comma);
    write_config();
  }
  void write_config() { write_text(path() / "config.json", config); }
  const fs::path& path() const { return folder_.path(); }
  Checkpoint open() const { return Checkpoint::open(path()); }
  Model load(Log* log = nullptr, bool mtp = false) const {
    LoadOptions options{.backend = {.num_threads = 1}, .kv_cache_tokens = 256, .mtp = mtp};
    if (log) options.log = log->sink();
    return Model::load(path(), options);
  }

  std::string config;

 private:
  TempFolder folder_;
};

std::string only_problem(const Copy& copy, ErrorCode code, Verify verify = Verify::scales) {
  const std::vector<Problem> problems = copy.open().problems(verify);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].code == code);
  CHECK(problems[0].message.size() <= 512);
  return problems[0].message;
}

bool holds(const std::string& text, const Strings& parts) {
  INFO(text);
  for (const std::string& part : parts) {
    INFO(part);
    CHECK(text.find(part) != std::string::npos);
  }
  return true;
}

// ---- what config.json lacks

TEST_CASE("reports_W7 FP8 weights without quantization_config are refused, naming the key") {
  Copy copy;
  CHECK(copy.open().problems().empty());
  copy.drop("quantization_config");
  holds(only_problem(copy, ErrorCode::mismatch), {"F8_E4M3", "\"quantization_config\""});
  check_error(ErrorCode::mismatch, "quantization_config", [&] { copy.load(); });
  CHECK(Copy("bf16").open().problems().empty());
}

TEST_CASE("reports_C2 a checkpoint without its MTP layer is usable without MTP") {
  const Copy copy("fp8", [](Tensors& tensors) {
    std::erase_if(tensors,
                  [](const auto& item) { return item.first.starts_with("model.layers.3."); });
  });
  const Checkpoint checkpoint = copy.open();
  CHECK(checkpoint.config().num_nextn_predict_layers == 0);
  CHECK(checkpoint.problems(Verify::all).empty());
  CHECK(checkpoint.plan().weight_bytes > 0);
  REQUIRE(checkpoint.remarks().size() == 1);
  holds(checkpoint.remarks()[0], {"MTP layer", "num_nextn_predict_layers"});
  Log log;
  const Model model = copy.load(&log);
  CHECK(log.warnings == checkpoint.remarks());
  CHECK(run(model, 40) == run(load("fp8", Numerics::native, 256), 40));
  check_error(ErrorCode::unsupported, "mtp", [&] { copy.load(nullptr, true); });
  // A part of the layer is a fault.
  const Copy part("fp8", [](Tensors& tensors) { tensors.erase("model.layers.3.enorm.weight"); });
  holds(only_problem(part, ErrorCode::mismatch), {"1 tensors are missing", "enorm"});
}

// ---- W8

TEST_CASE("reports_W8 Verify::all finds a value that is no number in every tensor") {
  const Tensors all = tensors_of(golden_model("fp8"));
  std::size_t number = 0;
  for (const auto& [name, tensor] : all) {
    if (kSanitized && number++ % 5 != 0) continue;
    INFO(name << " " << tensor.dtype);
    const Copy copy("fp8", [&, &key = name](Tensors& tensors) {
      std::string& data = tensors.at(key).data;
      const std::string& dtype = tensors.at(key).dtype;
      const std::uint32_t nan = 0x7FC00000;
      if (dtype == "F8_E4M3") data.back() = '\x7F';
      if (dtype == "BF16") std::memcpy(data.data() + data.size() - 2, "\xC0\x7F", 2);
      if (dtype == "F32") std::memcpy(data.data() + data.size() - 4, &nan, 4);
    });
    const std::string message = only_problem(copy, ErrorCode::bad_format, Verify::all);
    CHECK(message.find(name) != std::string::npos);
  }
}

// ---- other formats

Strings names_with(const Tensors& tensors, const std::string& dtype) {
  Strings names;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.dtype == dtype) names.push_back(name);
  }
  return names;
}

// ModelOpt's NVFP4: two values a byte, a scale per 16, one for the matrix.
void make_nvfp4(Tensors& tensors) {
  for (const std::string& name : names_with(tensors, "F8_E4M3")) {
    const auto rows = static_cast<std::size_t>(tensors[name].shape[0]),
               cols = static_cast<std::size_t>(tensors[name].shape[1]);
    const std::string stem = name.substr(0, name.size() - 6);
    const auto signed_rows = static_cast<std::int64_t>(rows);
    tensors.erase(name + "_scale_inv");
    tensors[name] = {"U8",
                     {signed_rows, static_cast<std::int64_t>(cols / 2)},
                     std::string(rows * (cols / 2), '\0')};
    tensors[stem + "weight_scale"] = {"F8_E4M3",
                                      {signed_rows, static_cast<std::int64_t>(cols / 16)},
                                      std::string(rows * (cols / 16), '\x38')};
    tensors[stem + "weight_scale_2"] = {"F32", {}, std::string(4, '\0')};
    tensors[stem + "input_scale"] = {"F32", {}, std::string(4, '\0')};
  }
}

TEST_CASE("reports_C3 tensors of another format are named, with what is supported") {
  for (const bool block_left : {true, false}) {
    Copy copy("fp8", make_nvfp4);
    if (!block_left) copy.drop("quantization_config");
    const std::string message = only_problem(copy, ErrorCode::unsupported);
    holds(message, {"NVFP4", "weight_scale_2", "supported are BF16"});
    CHECK(message.find("missing") == std::string::npos);
    check_error(ErrorCode::unsupported, "NVFP4", [&] { copy.load(); });
  }
  const Copy compressed("fp8", [](Tensors& tensors) {
    for (const std::string& name : names_with(tensors, "F8_E4M3")) {
      auto node = tensors.extract(name + "_scale_inv");
      node.key() = name + "_scale";
      tensors.insert(std::move(node));
    }
  });
  holds(only_problem(compressed, ErrorCode::unsupported), {"compressed-tensors", "weight_scale"});
  const Copy awq("fp8", [](Tensors& tensors) {
    const std::string name = names_with(tensors, "F8_E4M3").front();
    auto node = tensors.extract(name);
    node.key() = name.substr(0, name.size() - 6) + "qweight";
    tensors.insert(std::move(node));
  });
  holds(only_problem(awq, ErrorCode::unsupported), {"AWQ", "qweight"});
}

// transformers' names, gate rows before up rows, in FP8.
TEST_CASE("reports_C3 fused experts in FP8 are named") {
  const Copy copy("fp8", [](Tensors& tensors) {
    for (const int layer : {1, 2}) {
      const std::string p = "model.layers." + std::to_string(layer) + ".mlp.experts.";
      Tensor both{"F8_E4M3", {8, 96, 128}, {}}, down{"F8_E4M3", {8, 128, 48}, {}};
      for (int e = 0; e < 8; ++e) {
        const std::string expert = p + std::to_string(e) + ".";
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
          const std::string name = expert + part + ".weight";
          (part[0] == 'd' ? down : both).data += tensors.at(name).data;
          tensors.erase(name);
          tensors.erase(name + "_scale_inv");
        }
      }
      tensors[p + "gate_up_proj"] = both;
      tensors[p + "down_proj"] = down;
      tensors[p + "gate_up_proj_scale_inv"] = {"F32", {8, 1, 1}, std::string(32, '\0')};
      tensors[p + "down_proj_scale_inv"] = {"F32", {8, 1, 1}, std::string(32, '\0')};
    }
  });
  const std::string message = only_problem(copy, ErrorCode::unsupported);
  holds(message, {"fused experts in FP8", "gate_up_proj"});
  CHECK(message.find("has dtype") == std::string::npos);
}

// ---- other files

const std::string kPointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') +
    "\nsize 9138680\n";

TEST_CASE("reports_C4 files of another kind are named as what they are, with the remedy") {
  const std::pair<std::string, Strings> kinds[] = {
      {kPointer, {"git LFS pointer", "git lfs pull"}},
      {"<!DOCTYPE html>\n<html><body>404</body></html>", {"web page", "download it again"}},
      {"\n <HTML lang=\"en\"></HTML>", {"web page"}},
      {"<?xml version=\"1.0\"?><Error>AccessDenied</Error>", {"web page"}},
      {std::string("PK\x03\x04", 4) + std::string(200, '\1'), {"zip archive", "safetensors"}},
      {"\x80\x02}q\1X" + std::string(200, '\1'), {"pickle", "convert"}},
      {"\x80\x04\x95" + std::string(200, '\1'), {"pickle"}},
      {"GGUF" + std::string(200, '\1'), {"GGUF"}},
  };
  for (const auto& [content, parts] : kinds) {
    for (const char* file : {"config.json", "model.safetensors", "model.safetensors.index.json",
                             "tokenizer.json", "generation_config.json"}) {
      INFO(file << ": " << content.substr(0, 20));
      const Copy copy;
      write_text(copy.path() / file, content);
      std::string message = check_error(ErrorCode::bad_format, file, [&] { copy.load(); });
      holds(message, parts);
      const std::string name = file;
      if (name != "tokenizer.json" && name != "generation_config.json") continue;
      CHECK(only_problem(copy, ErrorCode::bad_format) == message);  // inspect reads it, too
    }
  }
}

TEST_CASE("reports_C4 problems() reads all that a load reads") {
  const auto same_as_load = [](const std::string& file, const std::string& text) {
    INFO(file << " " << text);
    const Copy copy;
    write_text(copy.path() / file, text);
    const std::vector<Problem> problems = copy.open().problems();
    REQUIRE(problems.size() == 1);
    check_error(problems[0].code, problems[0].message, [&] { copy.load(); });
  };
  for (const char* text : {"{\"top_p\": 2}", "{", "[]", "{\"temperature\": -1}"})
    same_as_load("generation_config.json", text);
  for (const char* text : {"{", "{}", "[]"}) same_as_load("tokenizer.json", text);
  const Copy other;  // another model's
  fs::copy(fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model/tokenizer.json", other.path());
  holds(only_problem(other, ErrorCode::mismatch), {"tokenizer.json has", "vocabulary"});
}

// ---- shards

// The golden checkpoint in `count` files of the official names, with an index.
Strings write_shards(const fs::path& folder, std::size_t count, bool index) {
  fs::remove(folder / "model.safetensors");
  const Tensors all = tensors_of(golden_model("fp8"));
  std::vector<Tensors> parts(count);
  Strings files;
  for (std::size_t i = 0; i < count; ++i)
    files.push_back("model-0000" + std::to_string(i + 1) + "-of-00000" + std::to_string(count) +
                    ".safetensors");
  std::string map;
  std::size_t i = 0;
  for (const auto& [name, tensor] : all) {
    parts[i % count][name] = tensor;
    map += (map.empty() ? "\"" : ",\"") + name + "\":\"" + files[i++ % count] + "\"";
  }
  for (i = 0; i < count; ++i) write_shard(folder / files[i], parts[i]);
  if (index)
    write_text(folder / "model.safetensors.index.json",
               "{\"metadata\":{},\"weight_map\":{" + map + "}}");
  return files;
}

TEST_CASE("reports_C5 missing shards: how many of how many") {
  for (const bool index : {true, false}) {
    const Copy copy;
    const Strings files = write_shards(copy.path(), 4, index);
    CHECK(copy.open().problems().empty());
    CHECK(copy.open().remarks().empty());
    fs::remove(copy.path() / files[1]);
    fs::remove(copy.path() / files[2]);
    const std::string message =
        check_error(ErrorCode::not_found, "2 of the 4 files", [&] { copy.open(); });
    if (index) holds(message, {files[1], files[2]});
  }
}

TEST_CASE("reports_C5 a truncated shard: its size against what the header calls for") {
  const Copy copy;
  const Strings files = write_shards(copy.path(), 4, true);
  const fs::path file = copy.path() / files[2];
  const std::uintmax_t size = fs::file_size(file);
  fs::resize_file(file, size - 100);
  holds(check_error(ErrorCode::bad_format, files[2], [&] { copy.open(); }),
        {"calls for", "100 are missing"});
  fs::resize_file(file, 100);  // within the header
  holds(check_error(ErrorCode::bad_format, files[2], [&] { copy.open(); }), {"in a file of 100"});
}

TEST_CASE("reports_C10 files that are not read are one line") {
  const auto one_remark = [](const Copy& copy, const Strings& parts) {
    const Strings remarks = copy.open().remarks();
    REQUIRE(remarks.size() == 1);
    holds(remarks[0], parts);
    Log log;
    copy.load(&log);
    CHECK(log.warnings == remarks);
  };
  const Tensors stray = {{"x", {"BF16", {2, 2}, std::string(8, '\0')}}};
  Copy indexed;
  write_shards(indexed.path(), 2, true);
  CHECK(indexed.open().remarks().empty());
  write_shard(indexed.path() / "consolidated.safetensors", stray);
  one_remark(indexed, {"not read", "consolidated.safetensors", "index.json does not name"});
  write_shard(indexed.path() / "model.safetensors", stray);  // an index that disagrees with it
  write_text(indexed.path() / "model.fp32.safetensors.index.json", "{}");  // two indexes
  one_remark(indexed, {"\"consolidated.safetensors\"", "\"model.safetensors\"",
                       "model.fp32.safetensors.index.json"});
  Copy single;
  write_shard(single.path() / "answers.safetensors", stray);  // nobody would take it for a part
  CHECK(single.open().remarks().empty());
  write_shard(single.path() / "model-00001-of-000002.safetensors", stray);
  one_remark(single, {"model-00001-of-000002.safetensors", "model.safetensors holds the model"});
  Copy hidden;
  write_shards(hidden.path(), 2, false);
  write_text(hidden.path() / "._model-00001-of-000002.safetensors", "Mac OS X");
  CHECK(hidden.open().remarks().empty());
}

TEST_CASE("reports_C10 an index that leaves tensors out is one line, and they count") {
  const Copy copy;
  const std::string index = "{\"weight_map\":{\"lm_head.weight\":\"model.safetensors\"}}";
  write_text(copy.path() / "model.safetensors.index.json", index);
  const Strings remarks = copy.open().remarks();
  REQUIRE(remarks.size() == 1);
  holds(remarks[0], {"leaves out", "of the", "tensors"});
  CHECK(copy.open().problems().empty());
}

TEST_CASE("reports_W9 an unknown Verify is refused wherever one is taken") {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("fp8"));
  const auto nine = static_cast<Verify>(9);
  for (const auto& call :
       std::vector<std::function<void()>>{[&] { static_cast<void>(checkpoint.problems(nine)); },
                                          [&] { static_cast<void>(checkpoint.fingerprint(nine)); }})
    check_error(ErrorCode::invalid_argument, "verify is 9", call);
}

}  // namespace
}  // namespace dsv32::test
