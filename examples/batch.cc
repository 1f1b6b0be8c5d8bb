// Many questions at once: the engine runs them in common passes; each answer is printed as it ends.
#include <cstdio>

#include "dsv32/dsv32.h"

int main(int argc, char** argv) try {
  if (argc < 3) return std::fprintf(stderr, "usage: %s MODEL_DIR QUESTION...\n", argv[0]), 2;
  const dsv32::Model model = dsv32::Model::load(argv[1]);
  dsv32::Engine engine(model);
  std::vector<std::string> answers(static_cast<std::size_t>(argc));
  for (std::size_t i = 2; i < answers.size(); ++i) {
    const dsv32::Message question[] = {{.content = argv[i]}};
    const auto prompt = model.chat_template().render(question, dsv32::ThinkingMode::chat);
    engine.submit({.prompt = model.tokenizer().encode(prompt), .tag = i});
  }
  while (!engine.idle()) {
    for (const dsv32::RequestUpdate& update : engine.step()) {
      answers[update.tag] += update.text;
      if (update.error) std::rethrow_exception(update.error);
      if (update.finish_reason != dsv32::FinishReason::none)
        std::printf("%s\n  %s\n", argv[update.tag], answers[update.tag].c_str());
    }
  }
} catch (const dsv32::Error& e) {
  return std::fprintf(stderr, "%s\n", e.what()), 1;
}
