// Tools as local programs: the tools file, and running one of them.
#ifndef EXAMPLES_CLI_TOOLS_H_
#define EXAMPLES_CLI_TOOLS_H_

#include <chrono>
#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

namespace cli {

// The tools file is a JSON list of
//   {"type": "function",
//    "function": {"name": "get_weather", "description": "..", "parameters": {..JSON schema..}},
//    "command": ["./weather.sh", "--celsius"],
//    "timeout_s": 10}
// `type` and `function` are what the model reads. `command` is run without a shell; a program name
// with a slash is relative to the file's folder, one without is looked up in PATH. It gets the
// arguments as one JSON object on stdin; what it prints is the result. "timeout_s" may be left out.
struct Tool {
  std::string name{};
  std::string schema_json{};  // for Message::tools_json
  std::vector<std::string> command{};
  std::chrono::milliseconds timeout{10000};
};

// Throws std::runtime_error that names the file and the tool.
std::vector<Tool> load_tools(const std::filesystem::path& file);

// One whose program is not at hand: asked for, it says so.
Tool tool_of_schema(const std::string& schema_json);

struct ToolResult {
  bool ok = false;
  std::string text{};  // what it printed; else {"error": ".."}, which the model may read, too
};

// Never throws for what the program does: it fails, hangs, floods, dies. Its process group is
// killed when the time is up, `cancel` is requested, or it has printed more than 64 KiB; what it
// leaves behind in that group is killed when it ends.
ToolResult run_tool(const Tool& tool, const std::string& arguments_json, std::stop_token cancel);

// The process group of the tool that runs, if one does: for who is about to end the program. Also
// from a signal handler, on the thread that runs tools.
void kill_running_tool() noexcept;

// The tool of that name, or an error as its result.
ToolResult run_tool_by_name(const std::vector<Tool>& tools, const std::string& name,
                            const std::string& arguments_json, std::stop_token cancel);

}  // namespace cli

#endif  // EXAMPLES_CLI_TOOLS_H_
