// Tools as local programs.
#include "cli/tools.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <optional>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "cli/json_text.h"
#include "cli/text_input.h"

extern char** environ;

namespace cli {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxOutput = 64U << 10;
constexpr double kMaxTimeout = 3600;
constexpr int kPollMs = 50;  // how soon a cancelled tool is killed

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const noexcept { return fd_; }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

ToolResult failed(const std::string& why) {
  return {.ok = false,
          .text = Json{{"error", why}}.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

// A file in memory: unlike a pipe it never blocks the writer, nor kills it when no one reads.
bool write_input(const Fd& fd, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::write(fd.get(), text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return ::lseek(fd.get(), 0, SEEK_SET) == 0;
}

// The group of the tool that runs; 0 = none. Where signals that end the program have handlers, they
// are held back while the lock is.
std::mutex g_group_mutex;
pid_t g_group = 0;

class Held {
 public:
  Held() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before_);
    g_group_mutex.lock();
  }
  ~Held() {
    g_group_mutex.unlock();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  sigset_t before_{};
};

// In a process group of its own, with signals as a program expects them. Returns an errno.
int spawn(const std::vector<std::string>& command, int in, int out, pid_t& pid) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  int error = 0;
  {
    const Held held;
    error = posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
    if (error == 0) g_group = pid;
  }
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

// Reads until the program closes its output; "" or why it was given up.
std::string read_output(int fd, Clock::time_point deadline, const std::stop_token& cancel,
                        std::string& text) {
  std::array<char, 4096> buffer{};
  for (;;) {
    if (cancel.stop_requested()) return "stopped";
    if (Clock::now() >= deadline) return "no answer in time";
    pollfd poll_fd = {.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&poll_fd, 1, kPollMs) <= 0) continue;
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return "";
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > kMaxOutput) return "more than 64 KiB of output";
  }
}

// Its number is the group's as long as nobody has waited for it. Returns its status, if it is
// known.
std::optional<int> end_group(pid_t pid) {
  const Held held;
  int status = 0;
  ::kill(-pid, SIGKILL);
  pid_t done = 0;
  while ((done = ::waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
  }
  g_group = 0;
  return done == pid ? std::optional(status) : std::nullopt;
}

// The exit status, waiting no longer than the deadline; "" or what was wrong.
std::string finish(pid_t pid, Clock::time_point deadline, const std::stop_token& cancel) {
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0) {
    if (cancel.stop_requested() || Clock::now() >= deadline) {
      end_group(pid);
      return cancel.stop_requested() ? "stopped" : "no end in time";
    }
    ::poll(nullptr, 0, 2);
  }
  const std::optional<int> ended = end_group(pid);
  if (!ended) return "lost";
  const int status = *ended;
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  const int code = WEXITSTATUS(status);
  return code == 0 ? "" : "exit status " + std::to_string(code);
}

Tool parse_tool(const Json& entry, const std::filesystem::path& folder) {
  const auto fail = [](const std::string& what) { throw std::runtime_error(what); };
  if (!entry.is_object()) fail("is not an object");
  const auto function = entry.find("function");
  if (function == entry.end() || !function->is_object()) fail("has no \"function\"");
  const auto name = function->find("name");
  if (name == function->end() || !name->is_string()) fail("has no function name");
  const auto command = entry.find("command");
  const bool words = command != entry.end() && command->is_array() && !command->empty() &&
                     std::all_of(command->begin(), command->end(), [](const Json& word) {
                       return word.is_string() && !word.get_ref<const std::string&>().empty();
                     });
  if (!words) fail("has no \"command\", a list of words");

  Tool tool;
  tool.name = name->get<std::string>();
  tool.schema_json = Json{{"type", "function"}, {"function", *function}}.dump();
  tool.command = command->get<std::vector<std::string>>();
  if (tool.command[0].find('/') != std::string::npos)
    tool.command[0] = (folder / tool.command[0]).lexically_normal().string();
  if (const auto timeout = entry.find("timeout_s"); timeout != entry.end()) {
    if (!timeout->is_number() || *timeout <= 0 || *timeout > kMaxTimeout)
      fail("\"timeout_s\" must be above 0 and at most 3600");
    tool.timeout = std::chrono::milliseconds(static_cast<int>(timeout->get<double>() * 1000));
  }
  return tool;
}

}  // namespace

Tool tool_of_schema(const std::string& schema_json) {
  Tool tool{.schema_json = schema_json};
  const Json schema = parse_json(schema_json).value_or(Json::object());
  const Json& function = schema.contains("function") ? schema["function"] : schema;
  if (function.is_object() && function.contains("name") && function["name"].is_string())
    tool.name = function["name"].get<std::string>();
  return tool;
}

std::vector<Tool> load_tools(const std::filesystem::path& file) {
  const Json list = parse_json(read_file(file.string())).value_or(Json());
  if (!list.is_array())
    throw std::runtime_error("tools file '" + file.string() + "' is not a JSON list");
  std::vector<Tool> tools;
  for (const Json& entry : list) {
    try {
      tools.push_back(parse_tool(entry, std::filesystem::absolute(file).parent_path()));
    } catch (const std::exception& error) {
      throw std::runtime_error("tools file '" + file.string() + "': entry " +
                               std::to_string(tools.size() + 1) + " " + error.what());
    }
  }
  return tools;
}

ToolResult run_tool(const Tool& tool, const std::string& arguments_json, std::stop_token cancel) {
  const Fd input(::memfd_create("arguments", MFD_CLOEXEC));
  int ends[2] = {-1, -1};
  if (input.get() < 0 || !write_input(input, arguments_json) || ::pipe2(ends, O_CLOEXEC) != 0)
    return failed(std::string("cannot start: ") + std::strerror(errno));
  const Fd output(ends[0]);
  Fd child_end(ends[1]);
  pid_t pid = 0;
  if (const int error = spawn(tool.command, input.get(), child_end.get(), pid); error != 0)
    return failed("cannot run " + tool.command[0] + ": " + std::strerror(error));
  child_end.reset();

  const auto deadline = Clock::now() + tool.timeout;
  std::string text;
  std::string trouble = read_output(output.get(), deadline, cancel, text);
  if (!trouble.empty()) ::kill(-pid, SIGKILL);
  const std::string ending = finish(pid, deadline, cancel);
  if (trouble.empty()) trouble = ending;
  if (!trouble.empty()) return failed(tool.name + ": " + trouble);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return {.ok = true, .text = text};
}

void kill_running_tool() noexcept {
  const Held held;
  if (g_group > 0) ::kill(-g_group, SIGKILL);
}

ToolResult run_tool_by_name(const std::vector<Tool>& tools, const std::string& name,
                            const std::string& arguments_json, std::stop_token cancel) {
  for (const Tool& tool : tools)
    if (tool.name == name)
      return tool.command.empty() ? failed(name + ": its program is not at hand (see --tools)")
                                  : run_tool(tool, arguments_json, std::move(cancel));
  return failed("there is no tool " + name);
}

}  // namespace cli
