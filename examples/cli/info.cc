// `dsv32 info`: this build, this machine, and how a model would run here.
#include <algorithm>
#include <cctype>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/output.h"

namespace cli {
namespace {

Json backend_json(const dsv32::BackendInfo& backend) {
  return {{"device", dsv32::to_string(backend.device)},
          {"device_index", backend.device_index},
          {"name", backend.name},
          {"memory_bytes", backend.memory_bytes > 0 ? Json(backend.memory_bytes) : Json()},
          {"kernel_sets", backend.kernel_sets}};
}

// A type's name for people; `config` says what the bytes of ours are.
std::string type_name(const std::string& dtype, const dsv32::ModelConfig& config) {
  if (dtype == "F8_E4M3") return "fp8";
  if (dtype == "I8" && config.bits == 8) return "int8";
  if (dtype == "U8" && config.bits == 4) return "int4";
  std::string name = dtype;
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

// Types of the matrices, the one with most bytes first: "int4, fp8, bf16".
std::vector<std::string> weight_types(const dsv32::Checkpoint& checkpoint) {
  std::map<std::string, std::size_t> bytes;
  for (const dsv32::TensorInfo& tensor : checkpoint.tensors()) {
    const bool scale = tensor.name.find("_scale") != std::string::npos;
    if (tensor.shape.size() >= 2 && !scale)
      bytes[type_name(tensor.dtype, checkpoint.config())] += tensor.data.size();
  }
  std::vector<std::string> types;
  for (const auto& [type, count] : bytes) types.push_back(type);
  std::stable_sort(types.begin(), types.end(),
                   [&](const std::string& a, const std::string& b) { return bytes[a] > bytes[b]; });
  return types;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

// From the files alone: nothing is loaded.
Json model_json(const std::filesystem::path& dir, const ModelOptions& options,
                const Terminal& terminal) {
  const dsv32::Checkpoint checkpoint = open_checkpoint(dir, options, terminal);
  const dsv32::ModelConfig& config = checkpoint.config();
  const auto tensors = checkpoint.tensors();
  const auto holds = [&](auto&& test) { return std::any_of(tensors.begin(), tensors.end(), test); };
  const bool indexer = holds([](const dsv32::TensorInfo& tensor) {
    return tensor.name.find(".indexer.") != std::string::npos;
  });
  const std::vector<std::string> types = weight_types(checkpoint);
  const bool fp8 = std::find(types.begin(), types.end(), "fp8") != types.end();
  const bool sparse = indexer && config.index_topk > 0;
  return {{"path", dir.string()},
          {"model_type", config.model_type},
          {"attention", sparse ? "sparse" : "dense"},
          {"index_topk", config.index_topk},
          {"layers", config.num_hidden_layers},
          {"weights", joined(types)},
          {"numerics", Json{{"native", fp8 ? "FP8 activations before FP8 weights, else BF16; FP8 "
                                             "indexer and latent"
                                           : "BF16 activations; FP8 indexer and latent"},
                            {"exact", "fp32 throughout"}}},
          {"max_position_embeddings", config.max_position_embeddings}};
}

// __VERSION__ has clang's name, but not gcc's.
constexpr const char* kCompiler =
#if defined(__clang__)
    __VERSION__;
#else
    "g++ " __VERSION__;
#endif

Json build_json() {
  Json backends = Json::array();
  for (const auto& backend : dsv32::available_backends()) backends.push_back(backend_json(backend));
  Json unavailable = Json::object();
  for (const dsv32::Device device : {dsv32::Device::cpu, dsv32::Device::cuda}) {
    if (const std::string reason = dsv32::unavailable_reason(device); !reason.empty())
      unavailable[std::string(dsv32::to_string(device))] = reason;
  }
  return {{"version", dsv32::version()},
          {"compiler", kCompiler},
          {"backends", backends},
          {"unavailable", unavailable}};
}

std::string as_text(const Json& info) {
  std::string text = "dsv32 " + info["version"].get<std::string>() + ", compiled by " +
                     info["compiler"].get<std::string>() + "\n";
  for (const Json& backend : info["backends"]) {
    const std::string device = backend["device"].get<std::string>();
    const int index = backend["device_index"].get<int>();
    text += device + (index > 0 ? ":" + std::to_string(index) : std::string()) + ": " +
            backend["name"].get<std::string>() + ", " + bytes_or_unknown(backend["memory_bytes"]) +
            ", kernels";
    for (const Json& set : backend["kernel_sets"]) text += " " + set.get<std::string>();
    text += "\n";
  }
  for (const auto& [device, reason] : info["unavailable"].items())
    text += device + ": not available: " + reason.get<std::string>() + "\n";
  if (!info.contains("model")) return text;
  const Json& model = info["model"];
  text += "model " + model["path"].get<std::string>() + "\n";
  const bool sparse = model["attention"] == "sparse";
  text += "  " + model["model_type"].get<std::string>() + ", " + one_line(model["layers"]) +
          " layers, weights " + model["weights"].get<std::string>() + "\n";
  text += sparse ? "  sparse attention: an indexer chooses " + one_line(model["index_topk"]) +
                       " tokens for each query\n"
                 : std::string("  dense attention: no indexer, every token is read\n");
  for (const auto& [key, value] : model["numerics"].items())
    text += "  numerics " + key + ": " + value.get<std::string>() + "\n";
  return text;
}

int run_info(ModelOptions& options, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  Json info = build_json();
  const char* default_model = std::getenv("DSV32_MODEL");
  const bool named = default_model != nullptr && *default_model != '\0';
  if (named || !options.model.empty() || !options.words.empty())
    info["model"] = model_json(take_model(options), options, terminal);
  if (global.json)
    terminal.write(one_line(info) + "\n");
  else
    terminal.write_foreign(as_text(info));
  return kOk;
}

}  // namespace

void add_info(CLI::App& root, Context& context) {
  auto options = std::make_shared<ModelOptions>();
  CLI::App* app = root.add_subcommand("info", "Version, machine, kernels; how a model would run");
  add_model_name(*app, *options);
  add_access(*app, *options);
  app->callback([options, &context] {
    context.run = [options, &context] { return run_info(*options, context.options); };
  });
}

}  // namespace cli
