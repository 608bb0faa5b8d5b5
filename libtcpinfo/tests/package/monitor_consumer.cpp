// SPDX-License-Identifier: BSD-2-Clause
#include <boost/asio/io_context.hpp>
#include <tcpinfo/monitor.hpp>
#include <tcpinfo/tcpinfo.hpp>

int main() {
  boost::asio::io_context io;
  tcpinfo::Monitor monitor(io, std::make_unique<tcpinfo::InetDiagSource>(tcpinfo::InetDiagOptions{}));
}
