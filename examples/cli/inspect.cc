// `dsv32 inspect`: what is in a checkpoint, what is wrong with it, whether it fits.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <map>
#include <memory>
#include <string_view>

#include "cli/cli.h"
#include "cli/output.h"

namespace cli {
namespace {

struct InspectCommand {
  ModelOptions model{};
  bool tensors = false;
  bool mtp = false;
};

// Which part of the model a tensor belongs to, by the first word that its name contains.
std::string part_of(const std::string& name, const dsv32::ModelConfig& config) {
  constexpr std::string_view kLayers = "model.layers.";
  if (name.starts_with(kLayers) &&
      std::atoi(name.c_str() + kLayers.size()) >= config.num_hidden_layers)
    return "mtp";
  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kParts = {{
      {".indexer.", "indexer"},
      {".self_attn.", "attention"},
      {".shared_experts.", "shared experts"},
      {".experts.", "routed experts"},
      {".mlp.gate.", "gate"},
      {".mlp.", "dense mlp"},
      {"embed_tokens", "embedding"},
      {"lm_head", "head"},
      {"norm", "norms"},
  }};
  for (const auto& [word, part] : kParts)
    if (name.find(word) != std::string::npos) return std::string(part);
  return "other";
}

Json config_json(const dsv32::ModelConfig& config) {
  return {{"model_type", config.model_type},
          {"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"num_hidden_layers", config.num_hidden_layers},
          {"num_nextn_predict_layers", config.num_nextn_predict_layers},
          {"first_k_dense_replace", config.first_k_dense_replace},
          {"max_position_embeddings", config.max_position_embeddings},
          {"num_attention_heads", config.num_attention_heads},
          {"q_lora_rank", config.q_lora_rank},
          {"kv_lora_rank", config.kv_lora_rank},
          {"qk_nope_head_dim", config.qk_nope_head_dim},
          {"qk_rope_head_dim", config.qk_rope_head_dim},
          {"v_head_dim", config.v_head_dim},
          {"index_n_heads", config.index_n_heads},
          {"index_head_dim", config.index_head_dim},
          {"index_topk", config.index_topk},
          {"n_routed_experts", config.n_routed_experts},
          {"n_shared_experts", config.n_shared_experts},
          {"num_experts_per_tok", config.num_experts_per_tok},
          {"n_group", config.n_group},
          {"topk_group", config.topk_group},
          {"moe_intermediate_size", config.moe_intermediate_size},
          {"routed_scaling_factor", config.routed_scaling_factor},
          {"rope_interleave", config.rope_interleave},
          {"rope_theta", config.rope_theta},
          {"rope_factor", config.rope_factor},
          {"attention_factor", config.attention_factor},
          {"truncate", config.truncate},
          {"weight_block_size", config.weight_block_size},
          {"bits", config.bits},
          {"group_size", config.group_size},
          {"ue8m0_scales", config.ue8m0_scales}};
}

Json tensor_json(const dsv32::TensorInfo& tensor) {
  return {{"name", tensor.name},
          {"dtype", tensor.dtype},
          {"shape", tensor.shape},
          {"bytes", tensor.data.size()},
          {"file", tensor.file.filename().string()}};
}

struct Bytes {
  Json by_part = Json::object();
  Json by_dtype = Json::object();
  std::size_t total = 0;
};

Bytes count_bytes(const dsv32::Checkpoint& checkpoint) {
  Bytes bytes;
  std::map<std::string, std::size_t> parts;
  std::map<std::string, std::size_t> dtypes;
  for (const dsv32::TensorInfo& tensor : checkpoint.tensors()) {
    parts[part_of(tensor.name, checkpoint.config())] += tensor.data.size();
    dtypes[tensor.dtype] += tensor.data.size();
    bytes.total += tensor.data.size();
  }
  for (const auto& [part, count] : parts) bytes.by_part[part] = count;
  for (const auto& [dtype, count] : dtypes) bytes.by_dtype[dtype] = count;
  return bytes;
}

Json plan_json(const dsv32::Checkpoint& checkpoint, const InspectCommand& command) {
  const dsv32::LoadOptions load = load_options(command.model);
  dsv32::PlanOptions options;
  options.device = load.backend.device;
  options.device_index = load.backend.device_index;
  options.numerics = load.numerics;
  options.kv_format = load.kv_format;
  options.indexer_keys = load.indexer_keys;
  options.access = load.access;
  options.kv_cache_tokens = load.kv_cache_tokens;
  options.max_batch_tokens = load.max_batch_tokens;
  options.num_threads = load.backend.num_threads;
  options.mtp = command.mtp;
  const dsv32::Plan plan = checkpoint.plan(options);
  return {{"kv_cache_tokens", options.kv_cache_tokens},
          {"weight_bytes", plan.weight_bytes},
          {"kv_cache_bytes", plan.kv_cache_bytes},
          {"activation_bytes", plan.activation_bytes},
          {"host_bytes", plan.host_bytes},
          {"device_bytes", plan.device_bytes},
          {"available_bytes", plan.available_bytes ? Json(*plan.available_bytes) : Json()},
          {"device_available_bytes",
           plan.device_available_bytes ? Json(*plan.device_available_bytes) : Json()},
          {"fits", plan.fits},
          {"reason", plan.reason}};
}

// 0.95 rather than the double next to its float.
double as_written(float value) {
  std::array<char, 32> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  double result = 0.0;
  std::from_chars(digits.data(), end, result);
  return result;
}

// generation_config.json and what else ends an answer.
Json generation_json(const dsv32::Checkpoint& checkpoint) {
  const dsv32::GenerationConfig generation = checkpoint.generation_config();
  const dsv32::SamplingParams& sampling = generation.sampling;
  std::vector<dsv32::TokenId> end_tokens = checkpoint.config().eos_token_ids;
  for (const dsv32::TokenId id : generation.eos_token_ids)
    if (std::find(end_tokens.begin(), end_tokens.end(), id) == end_tokens.end())
      end_tokens.push_back(id);
  Json result = {{"end_tokens", end_tokens},
                 {"temperature", as_written(sampling.temperature)},
                 {"top_p", as_written(sampling.top_p)},
                 {"top_k", sampling.top_k},
                 {"min_p", as_written(sampling.min_p)},
                 {"repetition_penalty", as_written(sampling.repetition_penalty)}};
  Json rest = Json::object();  // read, but left to who generates
  if (!generation.stop_strings.empty()) rest["stop_strings"] = generation.stop_strings;
  if (generation.max_new_tokens) rest["max_new_tokens"] = *generation.max_new_tokens;
  if (!generation.other_keys.empty()) rest["other_keys"] = generation.other_keys;
  result["not_applied"] = rest;
  return result;
}

Json inspect(const dsv32::Checkpoint& checkpoint, const InspectCommand& command) {
  const dsv32::Verify verify = load_options(command.model).verify;
  const Bytes bytes = count_bytes(checkpoint);
  Json problems = Json::array();
  for (const dsv32::Problem& problem : checkpoint.problems(verify))
    problems.push_back({{"code", dsv32::to_string(problem.code)}, {"message", problem.message}});
  Json generation;
  try {
    generation = generation_json(checkpoint);
  } catch (const dsv32::Error& error) {
    problems.push_back({{"code", dsv32::to_string(error.code())}, {"message", error.what()}});
  }
  Json result = {{"config", config_json(checkpoint.config())},
                 {"generation", generation},
                 {"tensor_count", checkpoint.tensors().size()},
                 {"bytes", bytes.total},
                 {"bytes_by_part", bytes.by_part},
                 {"bytes_by_dtype", bytes.by_dtype},
                 {"remarks", checkpoint.remarks()},
                 {"problems", problems}};
  if (problems.empty()) {
    result["fingerprint"] = checkpoint.fingerprint(verify);
    result["plan"] = plan_json(checkpoint, command);
  }
  if (command.tensors) {
    Json& tensors = result["tensors"] = Json::array();
    for (const dsv32::TensorInfo& tensor : checkpoint.tensors())
      tensors.push_back(tensor_json(tensor));
  }
  return result;
}

std::string row(const std::string& key, const std::string& value) {
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(), "  %-26.80s ", key.c_str());
  return text.data() + value + "\n";
}

std::string bytes_of(const Json& value) { return human_bytes(value.get<double>()); }

std::string as_text(const Json& report) {
  std::string text = "config\n";
  for (const auto& [key, value] : report["config"].items())
    text += row(key, value.is_string() ? value.get<std::string>() : one_line(value));
  if (report["generation"].is_object()) {
    text += "generation\n";
    for (const auto& [key, value] : report["generation"].items())
      if (key != "not_applied" || !value.empty()) text += row(key, one_line(value));
  }
  text += one_line(report["tensor_count"]) + " tensors, " + bytes_of(report["bytes"]) + "\n";
  for (const char* group : {"bytes_by_part", "bytes_by_dtype"})
    for (const auto& [key, value] : report[group].items()) text += row(key, bytes_of(value));
  if (report.contains("tensors"))
    for (const Json& tensor : report["tensors"])
      text += "  " + tensor["name"].get<std::string>() + "  " + tensor["dtype"].get<std::string>() +
              " " + one_line(tensor["shape"]) + "\n";
  if (report.contains("plan")) {
    const Json& plan = report["plan"];
    text += "to run it with " + one_line(plan["kv_cache_tokens"]) + " tokens of cache\n";
    for (const char* key :
         {"weight_bytes", "kv_cache_bytes", "activation_bytes", "available_bytes"})
      text += row(key, bytes_or_unknown(plan[key]));
    text += plan["fits"].get<bool>()
                ? std::string("  it fits\n")
                : "  it does not fit: " + plan["reason"].get<std::string>() + "\n";
  }
  for (const Json& remark : report["remarks"]) text += "note: " + remark.get<std::string>() + "\n";
  text += report["problems"].empty() ? "no problems\n" : "problems\n";
  for (const Json& problem : report["problems"])
    text += "  " + problem["code"].get<std::string>() + ": " +
            problem["message"].get<std::string>() + "\n";
  return text;
}

int run_inspect(InspectCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  Json report;
  try {
    report = inspect(open_checkpoint(take_model(command.model), command.model, terminal), command);
  } catch (const dsv32::Error& error) {  // without the advice to inspect it
    terminal.error(error.what());
    return error.code() == dsv32::ErrorCode::unsupported ? kBadModel : exit_code(error.code());
  }
  if (global.json)
    terminal.write(one_line(report) + "\n");
  else
    terminal.write_foreign(as_text(report));
  if (!report["problems"].empty()) return kBadModel;
  return report["plan"]["fits"].get<bool>() ? kOk : kDoesNotFit;
}

}  // namespace

void add_inspect(CLI::App& root, Context& context) {
  auto command = std::make_shared<InspectCommand>();
  CLI::App* app = root.add_subcommand(
      "inspect", "What is in a checkpoint, what is wrong with it (3), whether it fits (4)");
  add_model_name(*app, command->model);
  app->add_flag("--tensors", command->tensors, "List every tensor");
  app->add_flag("--mtp", command->mtp, "Plan with the MTP layer");
  add_load_options(*app, command->model);
  app->callback([command, &context] {
    context.run = [command, &context] { return run_inspect(*command, context.options); };
  });
}

}  // namespace cli
