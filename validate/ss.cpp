// SPDX-License-Identifier: BSD-2-Clause
#include "ss.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "files.hpp"

namespace validation {
namespace {

using tcpinfo::Field;

/// What ss calls a whole number of tcp_info (iproute2 v6.1 misc/ss.c tcp_stats_print()).
struct Name {
  std::string_view ss;
  Field field;
  /// Where it is not printed it is 0, in kernels that tell of bytes_sent: ss leaves out every 0, and those have it too.
  bool zero_is_hidden = false;
};

constexpr std::array kNames{
    Name{"mss", Field::snd_mss},
    Name{"pmtu", Field::pmtu},
    Name{"rcvmss", Field::rcv_mss},
    Name{"advmss", Field::advmss},
    Name{"cwnd", Field::snd_cwnd},
    Name{"bytes_sent", Field::bytes_sent, true},
    Name{"bytes_retrans", Field::bytes_retrans, true},
    Name{"bytes_acked", Field::bytes_acked, true},
    Name{"bytes_received", Field::bytes_received, true},
    Name{"segs_out", Field::segs_out, true},
    Name{"segs_in", Field::segs_in, true},
    Name{"data_segs_out", Field::data_segs_out, true},
    Name{"data_segs_in", Field::data_segs_in, true},
    Name{"delivered", Field::delivered, true},
    Name{"delivered_ce", Field::delivered_ce, true},
    Name{"unacked", Field::unacked, true},
    Name{"lost", Field::lost, true},
    Name{"sacked", Field::sacked, true},
    Name{"dsack_dups", Field::dsack_dups, true},
    Name{"reord_seen", Field::reord_seen, true},
    Name{"notsent", Field::notsent_bytes, true},
    Name{"rcv_space", Field::rcv_space},
    Name{"rcv_ssthresh", Field::rcv_ssthresh},
    Name{"snd_wnd", Field::snd_wnd},
};

constexpr std::array kStates{"ESTAB",  "SYN-SENT",   "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT",
                             "UNCONN", "CLOSE-WAIT", "LAST-ACK", "LISTEN",     "CLOSING"};

template <class T>
std::optional<T> whole(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

/// "13.336" ms as microseconds. ss prints six digits at most: of a second and more the last ones are lost.
std::optional<std::uint64_t> microseconds(std::string_view text) {
  double ms = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
  if (error != std::errc{} || end != text.data() + text.size() || ms < 0 || ms >= 1000) return std::nullopt;
  return static_cast<std::uint64_t>(std::llround(ms * 1000));
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const auto begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    const auto end = std::min(line.find_first_of(" \t\r"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

class Parser {
 public:
  Parser(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  SsCapture operator()() {
    while (next_line()) {
      if (words_.empty()) continue;
      if (const auto time = time_of(line_); time && words_.size() == 1)
        begin_capture(*time);
      else if (words_.front() == "State" || words_.front() == "Netid")
        continue;
      else if (line_.front() == ' ' || line_.front() == '\t')
        read_figures(0);
      else
        begin_socket();
    }
    if (captures_ < 2) refuse("it needs two times at least, each before what ss printed: date +%s.%N; ss -tinO");
    finish();
    return std::move(capture_);
  }

 private:
  [[noreturn]] void refuse(std::string expected) const {
    throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kMalformed),
                         fmt::format("read what ss printed, {} line {}", name_, number_), std::move(expected));
  }

  bool next_line() {
    if (text_.empty()) return false;
    const auto end = std::min(text_.find('\n'), text_.size());
    line_ = text_.substr(0, end);
    text_.remove_prefix(std::min(end + 1, text_.size()));
    ++number_;
    words_ = words_of(line_);
    return true;
  }

  /// "1795258987.612149252", as ns.
  static std::optional<std::uint64_t> time_of(std::string_view line) {
    const auto dot = line.find('.');
    if (dot == std::string_view::npos || line.size() - dot - 1 != 9) return std::nullopt;
    const auto seconds = whole<std::uint64_t>(line.substr(0, dot)), ns = whole<std::uint64_t>(line.substr(dot + 1));
    return seconds && ns ? std::optional(*seconds * 1'000'000'000 + *ns) : std::nullopt;
  }

  // What was printed since the time before was read before this one.
  void begin_capture(std::uint64_t time) {
    if (captures_++ > 0 && time <= time_) refuse("its time is not after the one before");
    for (auto& record : pending_) {
      tcpinfo::set_number(record, Field::time_ns, time);
      capture_.records.push_back(record);
    }
    pending_.clear();
    time_ = time;
  }

  void begin_socket() {
    if (captures_ == 0) refuse("expected a time first, as of date +%s.%N");
    if (words_.front() == "tcp") words_.erase(words_.begin());
    const auto state = std::find(kStates.begin(), kStates.end(), words_.empty() ? std::string_view() : words_.front());
    if (state == kStates.end())
      refuse(fmt::format("expected a time or a socket's state as ESTAB, not \"{}\"; print with ss -tin or ss -tinO",
                         words_.empty() ? line_ : words_.front()));
    if (words_.size() < 5) refuse("it is cut off: expected state, two queues and two addresses");
    auto record = tcpinfo::make_record();
    tcpinfo::set_number(record, Field::source, TCPINFO_SOURCE_INET_DIAG);
    tcpinfo::set_number(record, Field::event, TCPINFO_EVENT_SAMPLE);
    tcpinfo::set_number(record, Field::state, static_cast<std::uint64_t>(state - kStates.begin()) + 1);
    tcpinfo::set_number(record, Field::sequence, static_cast<std::uint64_t>(captures_ - 1));
    pending_.push_back(record);
    if (*state == std::string_view("LISTEN")) return;
    read_address(words_[3], Field::local_address, Field::local_port);
    read_address(words_[4], Field::peer_address, Field::peer_port);
    read_figures(5);
  }

  // "10.77.0.1:5201", "[::ffff:10.77.0.1]:5201", "10.77.0.1%eth0:5201"
  void read_address(std::string_view word, Field address_field, Field port_field) {
    const auto colon = word.rfind(':');
    const auto port = colon == std::string_view::npos ? std::nullopt : whole<std::uint16_t>(word.substr(colon + 1));
    auto host = word.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    host = host.substr(0, host.find('%'));
    if (host.starts_with('[')) host.remove_prefix(1);
    const auto address = tcpinfo::parse_address(host);
    if (!port || !address)
      refuse(fmt::format("expected an address with a port number, not \"{}\"; print with ss -n", word));
    auto& record = pending_.back();
    (address_field == Field::local_address ? record.local_address : record.peer_address) = *address;
    tcpinfo::set_present(record, address_field);
    tcpinfo::set_number(record, port_field, *port);
  }

  void read_figures(std::size_t from) {
    if (pending_.empty()) refuse("expected a socket before its figures");
    auto& record = pending_.back();
    for (auto i = from; i < words_.size(); ++i) {
      const auto colon = words_[i].find(':');
      if (colon == std::string_view::npos) continue;
      const auto name = words_[i].substr(0, colon), value = words_[i].substr(colon + 1);
      const auto known = std::find_if(kNames.begin(), kNames.end(), [&](const Name& one) { return one.ss == name; });
      if (known != kNames.end())
        set(record, known->field, whole<std::uint64_t>(value), words_[i]);
      else if (name == "rtt")
        set_round_trip(record, value);
      else if (name == "minrtt")
        set_if_exact(record, Field::min_rtt, microseconds(value));
      else if (name == "retrans" && value.find('/') != std::string_view::npos)
        set(record, Field::total_retrans, whole<std::uint64_t>(value.substr(value.find('/') + 1)), words_[i]);
      else if (name == "skmem" && value.starts_with("(r"))
        set(record, Field::skmem_rmem_alloc, whole<std::uint64_t>(value.substr(2, value.find(',') - 2)), words_[i]);
    }
  }

  void set(tcpinfo_record& record, Field field, std::optional<std::uint64_t> value, std::string_view word) {
    if (!value) refuse(fmt::format("expected a whole number in \"{}\"", word));
    tcpinfo::set_number(record, field, *value);
    has_bytes_sent_ = has_bytes_sent_ || field == Field::bytes_sent;
  }

  void set_round_trip(tcpinfo_record& record, std::string_view value) {
    const auto slash = std::min(value.find('/'), value.size());
    set_if_exact(record, Field::rtt, microseconds(value.substr(0, slash)));
    if (slash < value.size()) set_if_exact(record, Field::rttvar, microseconds(value.substr(slash + 1)));
  }

  static void set_if_exact(tcpinfo_record& record, Field field, std::optional<std::uint64_t> value) {
    if (value) tcpinfo::set_number(record, field, *value);
  }

  void finish() {
    std::erase_if(capture_.records, [](const tcpinfo_record& record) { return record.state == 10; });
    auto& quirks = capture_.quirks;
    quirks.emplace_back(
        "the records of inet_diag are what ss printed, by the wall clock: read between two times of date");
    if (!pending_.empty())
      quirks.push_back(fmt::format("{} sockets after the last time were left out: nothing tells when they were read",
                                   pending_.size()));
    quirks.emplace_back(
        "ss leaves out snd_ssthresh from 65535 on, reordering of 3 and rto of 3 s, cuts busy times to ms and times "
        "from 1 s "
        "on to six digits: not compared");
    if (!has_bytes_sent_) {
      quirks.emplace_back(
          "this kernel (before 4.19) or ss tells of no bytes_sent: the bytes of senders are not compared");
      return;
    }
    quirks.emplace_back("ss prints no 0: a counter that is missing beside those of its kernel was taken as 0");
    for (auto& record : capture_.records) {
      const bool alive = tcpinfo::Record(record).snd_mss().has_value();
      for (const auto& name : kNames)
        if (alive && name.zero_is_hidden && !tcpinfo::Record(record).has(name.field))
          tcpinfo::set_number(record, name.field, 0);
      if (alive && !tcpinfo::Record(record).total_retrans()) tcpinfo::set_number(record, Field::total_retrans, 0);
    }
  }

  std::string_view text_, name_, line_;
  std::vector<std::string_view> words_;
  std::size_t number_ = 0, captures_ = 0;
  std::uint64_t time_ = 0;
  bool has_bytes_sent_ = false;
  std::vector<tcpinfo_record> pending_;
  SsCapture capture_;
};

}  // namespace

SsCapture parse_ss(std::string_view text, std::string_view name) { return Parser(text, name)(); }

SsCapture read_ss(const std::filesystem::path& file) { return parse_ss(read_text(file), file.string()); }

}  // namespace validation
