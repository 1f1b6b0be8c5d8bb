// Prefill here, decode there: one process reads the prompt and saves what it computed into a pipe,
// another loads that and answers, with the bits that the first one would have had. In place of the
// pipe a file or a socket will do, in place of the second process another machine.
#include <iostream>
#include <sys/wait.h>
#include <unistd.h>

#include "dsv32/dsv32.h"

namespace {

std::string file_of(int fd) { return "/dev/fd/" + std::to_string(fd); }

// 0, and the answer on stdout.
int answer(const char* model_dir, const std::vector<dsv32::TokenId>& prompt, int from) {
  const dsv32::Model model = dsv32::Model::load(model_dir);
  dsv32::Session session = dsv32::Session::load(model, file_of(from));
  const dsv32::SamplingParams greedy{.temperature = 0.0f};
  const dsv32::Generation out = session.generate(prompt, {.sampling = greedy, .max_tokens = 400});
  std::cerr << "decode:  " << out.usage.cached_tokens << " of " << prompt.size()
            << " prompt tokens came computed\n";
  std::cout << out.text << std::endl;
  return 0;
}

int prefill(const char* model_dir, const std::vector<dsv32::TokenId>& prompt, int to) {
  dsv32::Session session(dsv32::Model::load(model_dir));
  session.append(prompt);
  std::cerr << "prefill: " << prompt.size() << " tokens\n";
  session.save(file_of(to));
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) return std::cerr << "usage: " << argv[0] << " MODEL_DIR QUESTION\n", 2;
  const auto tokenizer = dsv32::Tokenizer::load(std::string(argv[1]) + "/tokenizer.json");
  const dsv32::Message question[] = {{.content = argv[2]}};
  const auto prompt =
      tokenizer.encode(dsv32::ChatTemplate().render(question, dsv32::ThinkingMode::thinking));
  int ends[2];
  if (pipe(ends) != 0) return std::cerr << "no pipe\n", 1;
  const pid_t other = fork();  // before a Model is loaded: each process has its own
  if (other < 0) return std::cerr << "no second process\n", 1;
  const bool decodes = other == 0;
  close(ends[decodes ? 1 : 0]);
  if (decodes) return answer(argv[1], prompt, ends[0]);
  prefill(argv[1], prompt, ends[1]);
  close(ends[1]);
  int status = 0;
  waitpid(other, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
} catch (const std::exception& e) {
  return std::cerr << e.what() << '\n', 1;
}
