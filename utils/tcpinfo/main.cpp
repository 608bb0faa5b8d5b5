// SPDX-License-Identifier: BSD-2-Clause
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "command.hpp"
#include "output.hpp"
#include "units.hpp"

namespace cli {

void (*sigpipe_at_start)(int) = SIG_DFL;

Exit exit_code(const tcpinfo::Error& error) noexcept {
  const auto& code = error.code();
  if (code.category() == tcpinfo::error_category()) {
    switch (static_cast<tcpinfo::Errc>(code.value())) {
      case tcpinfo::Errc::kNoBtf:
        return kNotHere;
      case tcpinfo::Errc::kInvalidFilter:
      case tcpinfo::Errc::kInvalidTrigger:
      case tcpinfo::Errc::kInvalidOption:
      case tcpinfo::Errc::kAmbiguousUnit:
        return kUsage;
      default:
        return kFailed;
    }
  }
  switch (code.value()) {
    case EPERM:
    case EACCES:
    case ENOSYS:
    case ENODEV:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
      return kNotHere;
    default:
      return kFailed;
  }
}

namespace {

int complain(Exit code, std::string_view sentence) {
  fmt::print(stderr, "tcpinfo: {}\n", sentence);
  return code;
}

Exit parse_and_run(int argc, char** argv) {
  CLI::App app("Watches TCP connections through eBPF and netlink.", "tcpinfo");
  app.set_version_flag("--version", "tcpinfo " TCPINFO_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(28);
  app.footer(
      "Examples:\n"
      "  tcpinfo doctor                       what works on this machine, and what to do about the rest\n"
      "  tcpinfo watch                        every TCP connection, those included that are open already\n"
      "  tcpinfo watch --mode close | jq .    one line with the final totals a connection\n"
      "  tcpinfo run -o curl.jsonl -- curl -O http://example.org/file   every connection of one command\n"
      "  tcpinfo record -o day.zst            the same into a file, for later\n"
      "  tcpinfo replay day.zst               what was recorded\n"
      "  tcpinfo snapshot                     every TCP socket as it is now\n"
      "  tcpinfo fields                       what the names in the output mean\n"
      "\n"
      "Exit codes: 0 ok, 1 failed, 2 usage, 77 not possible here (the message says what is missing).");

  Command chosen;
  add_watch(app, chosen);
  add_record(app, chosen);
  add_replay(app, chosen);
  add_snapshot(app, chosen);
  add_fields(app, chosen);
  add_doctor(app, chosen);
  add_unpin(app, chosen);
  // CLI11 would take some of a command's words apart.
  std::vector<std::string> words;
  if (argc > 1 && argv[1] == std::string_view("run")) {
    char** const end = std::find(argv, argv + argc, std::string_view("--"));
    if (end != argv + argc) words.assign(end + 1, argv + argc);
    argc = static_cast<int>(end - argv);
  }
  add_run(app, chosen, words);
  // CLI11 would say of an unknown subcommand only that one is required.
  if (argc > 1 && argv[1][0] != '-') {
    std::vector<std::string> names;
    for (const auto* sub : app.get_subcommands({})) names.push_back(sub->get_name());
    choose("subcommand", argv[1], std::vector<std::string_view>(names.begin(), names.end()));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    Output::standard().write(app.help());
    return kOk;
  } catch (const CLI::CallForVersion& version) {
    Output::standard().write(std::string(version.what()) + '\n');
    return kOk;
  } catch (const CLI::ParseError& error) {
    std::string command = "tcpinfo";
    for (const auto* sub : app.get_subcommands()) command += " " + sub->get_name();
    usage_error(fmt::format("{} (see {} --help)", error.what(), command));
  }
  return chosen();
}

}  // namespace
}  // namespace cli

int main(int argc, char** argv) {
  // A reader that went away is told by EPIPE, where it can be handled.
  cli::sigpipe_at_start = std::signal(SIGPIPE, SIG_IGN);
  try {
    return cli::parse_and_run(argc, argv);
  } catch (const cli::OutputClosed&) {
    return cli::kOk;
  } catch (const cli::Failure& failure) {
    return cli::complain(failure.code(), failure.what());
  } catch (const tcpinfo::Error& error) {
    return cli::complain(cli::exit_code(error), error.what());
  } catch (const std::exception& error) {
    return cli::complain(cli::kFailed, error.what());
  }
}
