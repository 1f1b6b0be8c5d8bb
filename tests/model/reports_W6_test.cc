// A model whose tokenizer lacks a marker of its chat format, and chats that ask nothing.
#include <filesystem>
#include <string>

#include "dsv32/chat.h"
#include "dsv32/model.h"

#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

// The bundled model with `marker` spelt otherwise in its tokenizer.
Model model_without(const std::string& marker, const TempFolder& folder) {
  const std::filesystem::path bundled = std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model";
  for (const auto& entry : std::filesystem::directory_iterator(bundled)) {
    const std::filesystem::path name = entry.path().filename();
    if (name != "tokenizer.json" && entry.is_regular_file()) {
      std::filesystem::create_symlink(entry.path(), folder.path() / name);
    }
  }
  std::string text = conformance::read_file(bundled / "tokenizer.json");
  const std::size_t at = text.find("\"" + marker + "\"");
  REQUIRE(at != std::string::npos);
  for (std::size_t i = at; i != std::string::npos; i = text.find("\"" + marker + "\"", i)) {
    text.replace(i, marker.size() + 2, "\"[" + std::to_string(marker.size()) + "]\"");
  }
  write_text(folder.path() / "tokenizer.json", text);
  return Model::load(folder.path(), {.kv_cache_tokens = 512});
}

TEST_CASE("reports_W6 a chat with a tokenizer that lacks a marker is refused") {
  for (const char* marker : {"<｜User｜>", "</think>", "<｜end▁of▁sentence｜>"}) {
    const TempFolder folder;
    const Model model = model_without(marker, folder);
    check_error(ErrorCode::mismatch, marker, [&] { model.chat_template(); });
    Session session(model);
    const std::vector<Message> messages = {{.content = "Hi"}};
    check_error(ErrorCode::mismatch, marker, [&] { chat(session, messages, ThinkingMode::chat); });
  }
}

TEST_CASE("reports_T4 chat refuses a history, which leaves no room for an answer") {
  const Model model =
      Model::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model", {.kv_cache_tokens = 512});
  Session session(model);
  const std::vector<Message> messages = {{.content = "Hi"}};
  ChatOptions options;
  options.render.add_generation_prompt = false;
  check_error(ErrorCode::invalid_argument, "add_generation_prompt",
              [&] { chat(session, messages, ThinkingMode::chat, options); });
  CHECK(session.tokens().empty());
}

}  // namespace
}  // namespace dsv32::test
