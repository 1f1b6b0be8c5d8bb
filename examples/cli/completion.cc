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

// Inside single quotes; fish and zsh alike.
std::string quoted(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + result + "'";
}

std::string bash(const CLI::App& root) {
  std::string commands;
  std::string cases;
  for (const CLI::App* app : root.get_subcommands({})) {
    commands += app->get_name() + " ";
    cases += "    " + app->get_name() + ") words=\"" + words(*app) + words(root) + "\" ;;\n";
  }
  return "# bash completion for dsv32: source this, or put it into bash_completion.d\n"
         "_dsv32() {\n"
         "  local words current=\"${COMP_WORDS[COMP_CWORD]}\"\n"
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
  return "#compdef dsv32\n"
         "local -a commands options\n"
         "commands=(\n" +
         commands +
         ")\n"
         "if (( CURRENT == 2 )); then\n"
         "  _describe command commands\n"
         "  return\n"
         "fi\n"
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
    const bool takes_value = option->get_expected_max() > 0 && option->get_type_size_max() > 0;
    script += "complete -c dsv32" + condition + names + (takes_value ? " -r" : "") + " -d " +
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
