// A conversation in a file: everything comes back, and what is no conversation says which key is
// wrong.
#include "cli/saved_chat.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

cli::SavedChat some_chat() {
  cli::SavedChat chat{.system = "Be \"short\".\n", .thinking = false};
  chat.tools_json = {R"({"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}})"};
  chat.sampling = {
      .temperature = 0.3f, .top_p = 0.9f, .top_k = 7, .min_p = 0.01f, .seed = 1ull << 63};
  chat.sampling.logit_bias = {{.token = 12, .bias = -2.5f}};
  Message called{.role = Role::assistant, .reasoning = "Hm."};
  called.tool_calls = {{.id = "call_0", .name = "f", .arguments_json = R"({"x": "\u00e9"})"}};
  chat.messages = {{.role = Role::user, .content = "What?"},
                   called,
                   {.role = Role::tool, .content = "", .tool_call_id = "call_0"},
                   {.role = Role::assistant, .content = "Grüße.", .reasoning = "So."}};
  return chat;
}

TEST_CASE("a saved conversation comes back as it was") {
  const cli::SavedChat chat = some_chat();
  const std::string text = cli::saved_chat_json(chat);
  const cli::SavedChat back = cli::read_saved_chat(text, {.repetition_penalty = 9.0f});
  CHECK(cli::saved_chat_json(back) == text);
  CHECK(back.system == chat.system);
  CHECK(back.thinking == chat.thinking);
  CHECK(back.tools_json == chat.tools_json);
  CHECK(back.sampling.seed == chat.sampling.seed);
  CHECK(back.sampling.temperature == chat.sampling.temperature);
  CHECK(back.sampling.repetition_penalty == 1.0f);
  REQUIRE(back.sampling.logit_bias.size() == 1);
  CHECK(back.sampling.logit_bias[0].bias == -2.5f);
  REQUIRE(back.messages.size() == chat.messages.size());
  for (std::size_t i = 0; i < back.messages.size(); ++i) {
    const Message &got = back.messages[i], &want = chat.messages[i];
    CHECK(got.role == want.role);
    CHECK(got.content == want.content);
    CHECK(got.reasoning == want.reasoning);
    CHECK(got.tool_call_id == want.tool_call_id);
    REQUIRE(got.tool_calls.size() == want.tool_calls.size());
    for (std::size_t k = 0; k < got.tool_calls.size(); ++k) {
      CHECK(got.tool_calls[k].id == want.tool_calls[k].id);
      CHECK(got.tool_calls[k].arguments_json == want.tool_calls[k].arguments_json);
    }
  }
}

TEST_CASE("sampling that a file does not name is the model's own") {
  const cli::SavedChat chat = cli::read_saved_chat(
      R"({"dsv32_chat": 1, "messages": [], "sampling": {"top_k": 3}})", {.temperature = 0.7f});
  CHECK(chat.sampling.temperature == 0.7f);
  CHECK(chat.sampling.top_k == 3);
  CHECK(chat.thinking);
}

TEST_CASE("what is no saved conversation names what is wrong with it") {
  const auto refused = [](const std::string& text, const std::string& part) {
    INFO(text);
    try {
      cli::read_saved_chat(text, {});
      FAIL("it was read");
    } catch (const std::runtime_error& error) {
      INFO(error.what());
      CHECK(std::string(error.what()).find(part) != std::string::npos);
    }
  };
  const auto with = [](const std::string& rest) { return R"({"dsv32_chat": 1, )" + rest + "}"; };
  refused("", "no JSON object");
  refused("[]", "no JSON object");
  refused(R"({"messages": []})", "dsv32_chat");
  refused(R"({"dsv32_chat": 2, "messages": []})", "later version");
  refused(R"({"dsv32_chat": 1})", "messages");
  refused(with(R"("messages": [], "extra": 1)"), "extra");
  refused(with(R"("messages": [], "sampling": {"heat": 1})"), "sampling.heat");
  refused(with(R"("messages": [], "tools": {})"), "tools");
  refused(with(R"("messages": [{"role": "assistant", "content": "a"}])"), "messages[0].role");
  refused(
      with(R"("messages": [{"role": "user", "content": "a"}, {"role": "system", "content": ""}])"),
      "messages[1].role");
}

TEST_CASE("a folder of conversations: names, modes, and who may read") {
  const TempFolder temporary;
  const fs::path path = temporary.path() / "chats";
  const cli::ChatFolder folder(path);
  CHECK(folder.names().empty());
  folder.write("b", some_chat());
  folder.write("a.1", some_chat());
  folder.write("b", {});
  CHECK(folder.names() == std::vector<std::string>{"a.1", "b"});
  CHECK(folder.has("b"));
  CHECK_FALSE(folder.has("c"));
  const auto mode = [](const fs::path& file) {
    struct stat info {};
    REQUIRE(stat(file.c_str(), &info) == 0);
    return info.st_mode & 0777;
  };
  CHECK(mode(path) == 0700);
  CHECK(mode(folder.json("b")) == 0600);
  CHECK(std::distance(fs::directory_iterator(path), fs::directory_iterator()) == 2);
  for (const char* name : {"", ".", "..", ".a", "a/b", "a b", "\n", "\xC3\xA9"})
    CHECK_THROWS_AS(cli::ChatFolder::check_name(name), std::runtime_error);
  CHECK_THROWS_AS(cli::ChatFolder::check_name(std::string(65, 'a')), std::runtime_error);
  CHECK_NOTHROW(cli::ChatFolder::check_name("2026-11-30_a.b"));
  std::ofstream(temporary.path() / "file") << "x";
  CHECK_THROWS_AS(cli::ChatFolder(temporary.path() / "file"), std::runtime_error);
  CHECK_THROWS_AS(cli::ChatFolder(temporary.path() / "no" / "such"), std::runtime_error);
}

}  // namespace
}  // namespace dsv32::test
