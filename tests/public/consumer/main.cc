// An application: every header, designated initialisers, an error that crosses the border.
#include <cstdio>
#include <vector>

#include "dsv32/dsv32.h"

int main() {
  const dsv32::GenerateOptions generate{.max_tokens = 5};
  const dsv32::LoadOptions load{.backend = {.num_threads = 1}, .kv_cache_tokens = 64};
  const dsv32::Message messages[] = {{.role = dsv32::Role::user, .content = "Hello"}};
  const dsv32::Prompt prompt =
      dsv32::ChatTemplate().render(messages, dsv32::ThinkingMode::thinking);
  dsv32::Sampler sampler({.temperature = 0.0f});
  const std::vector<float> logits = {0.0f, 2.0f, 1.0f};
  try {
    (void)dsv32::Model::load("/nonexistent", load);
  } catch (const dsv32::Error& error) {
    const bool good = error.code() == dsv32::ErrorCode::not_found && prompt.in_reasoning &&
                      sampler.sample(logits).token == 1 && generate.max_tokens == 5 &&
                      !dsv32::available_backends().empty();
    std::printf("%s\n", error.what());
    return good ? 0 : 1;
  }
  return 1;
}
