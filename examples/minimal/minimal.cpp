// SPDX-License-Identifier: BSD-2-Clause
// Watches a connection that it makes to itself, and prints what the kernel tells about both of its ends.
#include <iostream>

#include <boost/asio.hpp>
#include <tcpinfo/format.hpp>
#include <tcpinfo/tcpinfo.hpp>

int main() try {
  using boost::asio::ip::tcp;
  boost::asio::io_context io;
  tcp::acceptor listener(io, {boost::asio::ip::address_v4::loopback(), 0});

  tcpinfo::SockopsOptions options;
  options.cgroup = tcpinfo::own_cgroup();
  options.filter = tcpinfo::Filter::parse(fmt::format("port == {}", listener.local_endpoint().port()));
  tcpinfo::SockopsSource source(options);

  tcp::socket client(io);
  client.connect(listener.local_endpoint());
  tcp::socket server = listener.accept();
  boost::asio::write(client, boost::asio::buffer("hello", 5));
  client.close();
  server.close();

  for (int open = 2; open > 0;)  // both ends
    source.drain([&](const tcpinfo::Record& record) {
      std::cout << fmt::format("{}\n", record);
      open -= record.event() == TCPINFO_EVENT_CLOSE;
    });
} catch (const std::exception& error) {
  std::cerr << "minimal: " << error.what() << '\n';
  return 1;
}
