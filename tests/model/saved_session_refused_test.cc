// Session::load of what is damaged, hostile or of another model: refused, and nothing is kept of
// it.
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include "lib/base/hash.h"
#include "tests/model/saved_session.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

TEST_CASE("SV-04 any changed byte and any cut is refused, and nothing is kept of it") {
  const Saved saved;
  const auto free = saved.model.free_cache_tokens();
  const std::size_t step = is_slow() ? 97 : 13;
  std::size_t taken = 0;
  const auto try_it = [&](const std::string& bytes) {
    saved.write(bytes);
    try {
      saved.load();
      ++taken;
    } catch (const Error& error) {
      const bool known =
          error.code() == ErrorCode::bad_format || error.code() == ErrorCode::unsupported;
      CHECK(known);
    }
  };
  for (std::size_t i = 0; i < saved.bytes.size(); i += i < 2000 ? 1 : step) {
    std::string changed = saved.bytes;
    changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
    try_it(changed);
  }
  for (std::size_t size = 0; size < saved.bytes.size(); size += size < 200 ? 1 : 10 * step)
    try_it(saved.bytes.substr(0, size));
  try_it(saved.bytes + '\0');
  CHECK(taken == 0);
  CHECK(saved.model.free_cache_tokens() == free);
  saved.write(saved.bytes);
  CHECK(tokens_in(saved.model, saved.file()).size() == 70);
}

// The file with `change` applied to its head, whose checksum is made right again.
template <class Change>
std::string with_head(const std::string& bytes, Change change) {
  std::uint32_t text_bytes = 0;
  std::memcpy(&text_bytes, bytes.data() + 16, sizeof text_bytes);
  std::string changed = bytes;
  change(changed);
  const std::size_t end = 40 + text_bytes;
  Hash hash;
  hash.add(std::as_bytes(std::span(changed).first(end)));
  const std::uint64_t value = hash.value();
  std::memcpy(changed.data() + end, &value, sizeof value);
  return changed;
}

template <class T>
void put(std::string& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

TEST_CASE("SV-06 another version, byte order or kind of file") {
  const Saved saved;
  const auto refused = [&](ErrorCode code, const std::string& part, const std::string& bytes) {
    saved.write(bytes);
    check_error(code, part, [&] { saved.load(); });
  };
  refused(ErrorCode::unsupported, "has version 2 of the format, this library reads version 1",
          with_head(saved.bytes, [](std::string& b) { put(b, 12, std::uint32_t{2}); }));
  refused(ErrorCode::unsupported, "byte order",
          with_head(saved.bytes, [](std::string& b) { put(b, 8, std::uint32_t{0x04030201}); }));
  refused(ErrorCode::bad_format, "no saved session",
          with_head(saved.bytes, [](std::string& b) { b[0] = 'D'; }));
  refused(ErrorCode::bad_format, "no saved session", "{\"messages\": []}");
  refused(ErrorCode::bad_format, "ends at byte 0", "");
}

TEST_CASE("SV-13 counts that nothing bears out take nothing") {
  const Saved saved;
  const auto free = saved.model.free_cache_tokens();
  const auto most = static_cast<std::uint64_t>(saved.model.config().max_position_embeddings);
  const auto refused = [&](ErrorCode code, std::size_t at, std::uint64_t value) {
    saved.write(with_head(saved.bytes, [&](std::string& b) { put(b, at, value); }));
    check_error(code, "s.kv", [&] { saved.load(); });
    CHECK(saved.model.free_cache_tokens() == free);
  };
  for (const std::uint64_t tokens :
       {most + 1, std::uint64_t{1} << 40, std::numeric_limits<std::uint64_t>::max()})
    refused(ErrorCode::context_length, 24, tokens);
  for (const std::uint64_t tokens : {std::uint64_t{0}, std::uint64_t{69}, std::uint64_t{71}, most})
    refused(ErrorCode::bad_format, 24, tokens);
  for (const std::uint64_t page :
       {std::uint64_t{0}, std::uint64_t{1} << 58, std::numeric_limits<std::uint64_t>::max()})
    refused(ErrorCode::mismatch, 32, page);
  saved.write(
      with_head(saved.bytes, [](std::string& b) { put(b, 16, 0xFFFFFFF0u); }).substr(0, 40));
  check_error(ErrorCode::bad_format, "description", [&] { saved.load(); });
  // A sparse file of a terabyte that says it is a session.
  saved.write(saved.bytes);
  fs::resize_file(saved.file(), std::uintmax_t{1} << 40);
  check_error(ErrorCode::bad_format, "1099511627776 bytes", [&] { saved.load(); });
}

TEST_CASE("SV-07 ids that are not in the vocabulary are refused, whatever the checksum says") {
  const Saved saved;
  std::uint32_t text_bytes = 0;
  std::memcpy(&text_bytes, saved.bytes.data() + 16, sizeof text_bytes);
  const std::size_t ids = 40 + text_bytes + 8;
  for (const TokenId id : {-1, saved.model.config().vocab_size}) {
    std::string changed = saved.bytes;
    put(changed, ids + 4 * 33, id);
    Hash hash;
    hash.add(std::as_bytes(std::span(changed).first(changed.size() - 8)));
    put(changed, changed.size() - 8, hash.value());
    saved.write(changed);
    check_error(ErrorCode::bad_format, "token " + std::to_string(id), [&] { saved.load(); });
  }
}

// The golden FP8 checkpoint, changed.
class Changed {
 public:
  Changed(const std::string& before, const std::string& after, bool other_weight = false) {
    std::string config = bytes_of(golden_model("fp8") / "config.json");
    const std::size_t at = config.find(before);
    REQUIRE(at != std::string::npos);
    write_text(path() / "config.json", config.replace(at, before.size(), after));
    Tensors tensors = tensors_of(golden_model("fp8"));
    char& byte = tensors.at("model.layers.1.self_attn.q_a_proj.weight").data[5];
    if (other_weight) byte = static_cast<char>(byte ^ 1);
    write_shard(path() / "model.safetensors", tensors);
  }
  const fs::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

TEST_CASE("SV-03 a file of another model, numerics or page format is refused with what differs") {
  const Saved saved({.name = "fp8"});
  const auto refused = [&](const std::string& part, const fs::path& folder, const Form& form = {}) {
    const Model model = Model::load(folder, options_of(form));
    const auto free = model.free_cache_tokens();
    check_error(ErrorCode::mismatch, part, [&] { Session::load(model, saved.file()); });
    CHECK(model.free_cache_tokens() == free);
  };
  const fs::path same = golden_model("fp8");
  refused("\"numerics\" was \"native\", is \"exact\"", same,
          {.name = "", .numerics = Numerics::exact, .kv_format = KvFormat::fp8});
  refused("\"kv_format\" was \"fp8\", is \"bf16\"", same,
          {.name = "", .kv_format = KvFormat::bf16});
  refused("\"indexer_keys\" was \"fp8\", is \"int8\"", same,
          {.name = "", .keys = IndexerKeys::int8});
  refused("\"mtp\" was \"off\", is \"on\"", same, {.name = "", .mtp = true});
  refused("\"rope_theta\" was \"10000\", is \"10001\"",
          Changed("\"rope_theta\": 10000", "\"rope_theta\": 10001").path());
  refused("\"index_topk\" was \"16\", is \"17\"",
          Changed("\"index_topk\": 16", "\"index_topk\": 17").path());
  refused("\"weights\"", Changed("{", "{", true).path());
  refused("s.kv", golden_model("bf16"));
}

TEST_CASE("how config.json is written, and the longest context, are no other model") {
  const Saved saved({.name = "fp8"});
  const Changed longer("\"max_position_embeddings\": ", "\n\n  \"max_position_embeddings\": 1");
  const Model model = Model::load(longer.path(), options_of({}));
  CHECK(model.config().max_position_embeddings > saved.model.config().max_position_embeddings);
  CHECK(equal(logits_in(saved.model, saved.file()), logits_in(model, saved.file())));
}

TEST_CASE("SV-03 with Verify::all on both sides every byte of the weights counts") {
  const TempFolder folder;
  const fs::path file = folder.path() / "s.kv";
  // A byte in the middle of a large tensor, where no sample is.
  Tensors tensors = tensors_of(golden_model("fp8"));
  auto& data = tensors.at("lm_head.weight").data;
  REQUIRE(data.size() > 16384);
  fs::copy(golden_model("fp8") / "config.json", folder.path());
  data[3000] = static_cast<char>(data[3000] ^ 1);
  write_shard(folder.path() / "model.safetensors", tensors);
  const auto options = [](Verify verify) {
    LoadOptions all = options_of({});
    all.verify = verify;
    return all;
  };
  const auto load = [&](const fs::path& from, Verify verify) {
    return Model::load(from, options(verify));
  };
  const fs::path same = golden_model("fp8");
  for (const Verify verify : {Verify::headers, Verify::scales, Verify::all}) {
    Session session(load(same, verify));
    session.append(some_tokens(20, 7));
    session.save(file);
    CHECK_NOTHROW(Session::load(load(same, Verify::all), file));
    CHECK_NOTHROW(Session::load(load(same, Verify::scales), file));
    if (verify == Verify::all) {
      check_error(ErrorCode::mismatch, "all_weights",
                  [&] { Session::load(load(folder.path(), Verify::all), file); });
    } else {
      CHECK_NOTHROW(Session::load(load(folder.path(), Verify::all), file));
    }
  }
}

TEST_CASE("SV-12 a pool or a context that is too small keeps nothing") {
  const Saved saved;
  LoadOptions options = options_of({.name = "fp8", .mtp = true}, 128);
  const Model model = Model::load(golden("fp8"), options);
  {
    Session other(model);
    other.append(some_tokens(10, 8));
    check_error(ErrorCode::capacity, "", [&] { Session::load(model, saved.file()); });
    CHECK(model.free_cache_tokens() == 64);
  }
  CHECK(tokens_in(model, saved.file()).size() == 70);
  const Changed shorter("\"max_position_embeddings\": ",
                        "\"max_position_embeddings\": 64, \"x\": ");
  const Model small = Model::load(shorter.path(), options);
  REQUIRE(small.config().max_position_embeddings == 64);
  check_error(ErrorCode::context_length, "70 tokens", [&] { Session::load(small, saved.file()); });
}

}  // namespace
}  // namespace dsv32::test
