// A server's heart: one thread steps the engine, any other submits and cancels meanwhile. Each line
// of stdin is a question, numbered from 0; "!2" takes number 2 back.
#include <cstdlib>
#include <iostream>
#include <thread>

#include "dsv32/dsv32.h"

int main(int argc, char** argv) try {
  if (argc != 2) return std::cerr << "usage: " << argv[0] << " MODEL_DIR\n", 2;
  const dsv32::Model model = dsv32::Model::load(argv[1]);
  dsv32::Engine engine(model);
  const std::jthread server([&](const std::stop_token& stop) {
    try {
      while (!stop.stop_requested() || !engine.idle())
        for (const dsv32::RequestUpdate& update : engine.step(std::chrono::milliseconds(100)))
          std::cout << update.tag << ' ' << to_string(update.finish_reason) << ": " << update.text
                    << std::endl;        // a server sends it to the client that `tag` means
    } catch (const std::exception& e) {  // the device is lost, or all memory
      std::cerr << e.what() << std::endl;
      std::_Exit(1);
    }
  });
  std::vector<dsv32::RequestId> ids;
  for (std::string line; std::getline(std::cin, line);) try {
      if (line.starts_with('!')) {
        engine.cancel(ids.at(std::strtoul(line.c_str() + 1, nullptr, 10)));
        continue;
      }
      const dsv32::Message question[] = {{.content = line}};
      const auto prompt = model.chat_template().render(question, dsv32::ThinkingMode::chat);
      ids.push_back(engine.submit({.prompt = model.tokenizer().encode(prompt), .tag = ids.size()}));
    } catch (const std::exception& e) {  // this line's: too long, too many wait, no such number
      std::cerr << e.what() << std::endl;
    }
} catch (const dsv32::Error& e) {
  return std::cerr << e.what() << '\n', 1;
}
