// Completion scripts, generated from the options that the parser knows.
#include "cli/cli.h"

namespace cli {
namespace {

// "-m", "--model": as they are typed.
std::vector<std::string> spellings(const CLI::Option& option) {
  std::vector<std::string> result;
  for (const std::string& name : option.get_lnames()) result.push_back("--" + name);
  for (const std::string& name : option.get_snames()) result.push_back("-" + name);
  return result;
}

std::string words(const CLI::App& app) {
  std::string result;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& spelling : spellings(*option)) result += spelling + " ";
  return result;
}

// What may follow an option: nothing of its own, one of some words, a path, or what only the user
// knows.
struct Value {
  bool taken = false;
  bool path = false;
  std::string choices{};  // separated by blanks
};

Value value_of(const CLI::Option& option) {
  Value value{.taken = option.get_expected_max() > 0 && option.get_type_size_max() > 0};
  const std::string type = option.get_type_name();  // "FILE", "TEXT:{a,b}", "INT in [0 - 4]"
  const std::size_t open = type.find(":{"), close = type.find('}');
  if (open != std::string::npos && close != std::string::npos) {
    value.choices = type.substr(open + 2, close - open - 2);
    for (char& c : value.choices) c = c == ',' ? ' ' : c;
  }
  value.path = type == "FILE" || type == "FOLDER" || type == "MODEL";
  return value;
}

// Inside single quotes; fish and zsh alike.
std::string quoted(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + result + "'";
}

// A shell's `case` over "COMMAND OPTION": `choose` makes its command for the words, paths get
// `files`, the rest `nothing`.
template <typename Choose>
std::string value_cases(const CLI::App& root, const Choose& choose, const std::string& files,
                        const std::string& nothing) {
  std::string cases;
  const auto add = [&](const CLI::App& app, const std::string& command) {
    for (const CLI::Option* option : app.get_options()) {
      const Value value = value_of(*option);
      if (!value.taken) continue;
      std::string patterns;
      for (const std::string& spelling : spellings(*option))
        patterns += (patterns.empty() ? "" : "|") + command + "' " + spelling + "'";
      if (patterns.empty()) continue;
      cases += "    " + patterns + ") " +
               (!value.choices.empty() ? choose(value.choices)
                : value.path           ? files
                                       : nothing) +
               " ;;\n";
    }
  };
  for (const CLI::App* app : root.get_subcommands({})) add(*app, app->get_name());
  add(root, "*");  // behind any subcommand
  return cases;
}

std::string bash(const CLI::App& root) {
  std::string commands;
  std::string cases;
  for (const CLI::App* app : root.get_subcommands({})) {
    commands += app->get_name() + " ";
    cases += "    " + app->get_name() + ") words=\"" + words(*app) + words(root) + "\" ;;\n";
  }
  const auto choose = [](const std::string& choices) {
    return "mapfile -t COMPREPLY < <(compgen -W \"" + choices + "\" -- \"$current\"); return";
  };
  return "# bash completion for dsv32: source this, or put it into bash_completion.d\n"
         "_dsv32() {\n"
         "  local words current=\"${COMP_WORDS[COMP_CWORD]}\" "
         "before=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
         "  COMPREPLY=()\n"
         "  case \"${COMP_WORDS[1]} $before\" in\n" +
         value_cases(root, choose, "mapfile -t COMPREPLY < <(compgen -f -- \"$current\"); return",
                     "return") +
         "  esac\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases + "    *) words=\"" + commands + words(root) +
         "\" ;;\n"
         "  esac\n"
         "  if [[ $current == -* || $COMP_CWORD -eq 1 ]]; then\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
         "  else\n"
         "    mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
         "  fi\n"
         "}\n"
         "complete -o filenames -F _dsv32 dsv32\n";
}

std::string zsh(const CLI::App& root) {
  std::string commands;
  std::string cases;
  for (const CLI::App* app : root.get_subcommands({})) {
    commands += "    " + quoted(app->get_name() + ":" + app->get_description()) + "\n";
    cases += "  " + app->get_name() + ") options=(" + words(*app) + words(root) + ") ;;\n";
  }
  const auto choose = [](const std::string& choices) {
    return "compadd -- " + choices + "; return";
  };
  return "#compdef dsv32\n"
         "local -a commands options\n"
         "commands=(\n" +
         commands +
         ")\n"
         "if (( CURRENT == 2 )); then\n"
         "  _describe command commands\n"
         "  return\n"
         "fi\n"
         "case \"$words[2] $words[CURRENT-1]\" in\n" +
         value_cases(root, choose, "_files; return", "return") +
         "esac\n"
         "case \"$words[2]\" in\n" +
         cases +
         "esac\n"
         "if [[ $PREFIX == -* ]]; then compadd -- $options; else _files; fi\n";
}

void fish_options(const CLI::App& app, const std::string& condition, std::string& script) {
  for (const CLI::Option* option : app.get_options()) {
    std::string names;
    for (const std::string& name : option->get_lnames()) names += " -l " + name;
    for (const std::string& name : option->get_snames()) names += " -s " + name;
    if (names.empty()) continue;
    const Value value = value_of(*option);
    std::string what;  // -r: a value; -x: a value, and no files
    if (value.taken) what = value.path ? " -r -F" : " -x";
    if (!value.choices.empty()) what += " -a " + quoted(value.choices);
    script += "complete -c dsv32" + condition + names + what + " -d " +
              quoted(option->get_description()) + "\n";
  }
}

std::string fish(const CLI::App& root) {
  std::string script = "# fish completion for dsv32\n";
  fish_options(root, "", script);
  for (const CLI::App* app : root.get_subcommands({})) {
    script += "complete -c dsv32 -n __fish_use_subcommand -a " + app->get_name() + " -d " +
              quoted(app->get_description()) + "\n";
    fish_options(*app, " -n '__fish_seen_subcommand_from " + app->get_name() + "'", script);
  }
  return script;
}

}  // namespace

std::string completion(const CLI::App& root, const std::string& shell) {
  if (shell == "bash") return bash(root);
  return shell == "zsh" ? zsh(root) : fish(root);
}

}  // namespace cli
