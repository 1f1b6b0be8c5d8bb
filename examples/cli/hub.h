// The Hugging Face cache of whoever runs the program.
#ifndef EXAMPLES_CLI_HUB_H_
#define EXAMPLES_CLI_HUB_H_

#include <filesystem>

namespace cli {

// HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, or the one in
// ~/.cache: the first that is set, with "~" and "$NAME" in it put in, as Hugging Face's own tools
// do.
std::filesystem::path hub_cache();

}  // namespace cli

#endif  // EXAMPLES_CLI_HUB_H_
