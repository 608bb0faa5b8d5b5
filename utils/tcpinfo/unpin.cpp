// SPDX-License-Identifier: BSD-2-Clause
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"

namespace cli {

void add_unpin(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("unpin", "Remove what --pin and --pin-link left");
  auto directory = std::make_shared<std::string>();
  command->add_option("directory", *directory, "As --pin was given it")->type_name("DIR")->required();
  command->footer(
      "Example:\n"
      "  tcpinfo unpin /sys/fs/bpf/web\n"
      "\n"
      "What the ring buffers still hold is lost; tcpinfo watch --pin DIR with the same options prints it first. A\n"
      "program that was left attached is detached.");
  command->callback([directory, &chosen] {
    chosen = [directory] {
      tcpinfo::unpin(*directory);
      return kOk;
    };
  });
}

}  // namespace cli
