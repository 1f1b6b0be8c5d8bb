// What the tests of saved sessions share: forms of a cache, a session in a file.
#ifndef DSV32_TESTS_MODEL_SAVED_SESSION_H_
#define DSV32_TESTS_MODEL_SAVED_SESSION_H_

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/conformance/conformance.h"
#include "tests/model/sessions.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {

namespace fs = std::filesystem;

struct Form {
  const char* name;
  Numerics numerics = Numerics::native;
  KvFormat kv_format = KvFormat::fp8;
  IndexerKeys keys = IndexerKeys::fp8;
  bool mtp = false;
};
inline LoadOptions options_of(const Form& form, std::size_t cache_tokens = 1024) {
  LoadOptions options;
  options.backend.num_threads = 1;
  options.numerics = form.numerics;
  options.kv_format = form.kv_format;
  options.indexer_keys = form.keys;
  options.mtp = form.mtp;
  options.kv_cache_tokens = cache_tokens;
  options.max_batch_tokens = 96;
  return options;
}

inline std::string bytes_of(const fs::path& file) { return conformance::read_file(file); }

// What it holds of a file.
inline Tokens tokens_in(const Model& model, const fs::path& file) {
  const Session session = Session::load(model, file);
  return {session.tokens().begin(), session.tokens().end()};
}
inline Bits logits_in(const Model& model, const fs::path& file) {
  const Session session = Session::load(model, file);
  return copy(session.logits());
}

// A session of 70 tokens in a file, and a Model for it.
class Saved {
 public:
  explicit Saved(const Form& form = {.name = "fp8", .mtp = true})
      : model(Model::load(golden(form.name), options_of(form, 512))) {
    Session session(model);
    session.append(some_tokens(70, 6));
    session.save(file());
    bytes = bytes_of(file());
  }
  fs::path file() const { return folder_.path() / "s.kv"; }
  void write(const std::string& changed) const {
    std::ofstream(file(), std::ios::binary) << changed;
  }
  Session load() const { return Session::load(model, file()); }

  Model model;
  std::string bytes;

 private:
  TempFolder folder_;
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_MODEL_SAVED_SESSION_H_
