// SPDX-License-Identifier: BSD-2-Clause
#include "scenario.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <set>
#include <span>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <tcpinfo/error.hpp>

#include "files.hpp"

namespace validation {
namespace {

namespace fs = std::filesystem;
using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

struct Suffix {
  std::string_view name;
  double factor;
};

constexpr Suffix kTimes[] = {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
constexpr Suffix kRates[] = {{"kbit/s", 1e-3}, {"Mbit/s", 1}, {"Gbit/s", 1e3}};
constexpr Suffix kSizes[] = {{"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"KiB", 1024}};
constexpr Suffix kShares[] = {{"%", 0.01}};

// A number and one of the suffixes, or 0. Nothing else, and nothing negative.
std::optional<double> parse_scaled(std::string_view text, std::span<const Suffix> suffixes) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !(number >= 0)) return std::nullopt;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  if (unit.empty() && number == 0) return 0;
  for (const auto& suffix : suffixes)
    if (unit == suffix.name) return number * suffix.factor;
  return std::nullopt;
}

// In the unit of which there is one at least that needs the fewest characters.
std::string show_scaled(double value, std::span<const Suffix> suffixes, std::string_view space = "") {
  if (value == 0) return "0";
  std::string best;
  for (const auto& suffix : suffixes) {
    if (suffix.factor > value && !best.empty()) continue;
    auto text = fmt::format("{:.12g}{}{}", value / suffix.factor, space, suffix.name);
    if (best.empty() || text.size() <= best.size()) best = std::move(text);
  }
  return best;
}

/// What a key is given: false if the text is nothing it could be.
using Take = std::function<bool(Scenario&, std::string_view)>;
using Show = std::function<std::string(const Scenario&)>;

struct Key {
  std::string section, name;
  std::string expected;  // "a time with its unit, as 20ms"
  std::string meaning;
  Take take;
  Show show;

  std::string full() const { return section + "." + name; }
};

template <class Member>
Key time_key(std::string section, std::string name, std::string meaning, Member member, double most_s) {
  return {std::move(section), std::move(name), fmt::format("a time with its unit up to {:g}s, as 20ms", most_s),
          std::move(meaning),
          [=](Scenario& scenario, std::string_view text) {
            const auto value = parse_scaled(text, kTimes);
            if (!value || *value > most_s * 1e9) return false;
            auto& target = member(scenario);
            using Time = std::remove_reference_t<decltype(target)>;
            target = duration_cast<Time>(nanoseconds(std::llround(*value)));
            // What the unit of the member cannot hold would be another time.
            return nanoseconds(target).count() == std::llround(*value);
          },
          [=](const Scenario& scenario) {
            return show_scaled(static_cast<double>(nanoseconds(member(const_cast<Scenario&>(scenario))).count()), kTimes);
          }};
}

template <class Member>
Key scaled_key(std::string section, std::string name, std::string expected, std::string meaning,
               std::span<const Suffix> suffixes, double most, Member member) {
  return {std::move(section), std::move(name), std::move(expected), std::move(meaning),
          [=](Scenario& scenario, std::string_view text) {
            const auto value = parse_scaled(text, suffixes);
            if (!value || *value > most) return false;
            auto& target = member(scenario);
            target = static_cast<std::remove_reference_t<decltype(target)>>(*value);
            return true;
          },
          [=](const Scenario& scenario) {
            return show_scaled(static_cast<double>(member(const_cast<Scenario&>(scenario))), suffixes);
          }};
}

template <class Member>
Key whole_key(std::string section, std::string name, std::string meaning, std::int64_t least, std::int64_t most,
              Member member) {
  return {std::move(section), std::move(name), fmt::format("a whole number from {} to {}", least, most),
          std::move(meaning),
          [=](Scenario& scenario, std::string_view text) {
            std::int64_t value = 0;
            const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
            if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) return false;
            auto& target = member(scenario);
            target = static_cast<std::remove_reference_t<decltype(target)>>(value);
            return true;
          },
          [=](const Scenario& scenario) { return std::to_string(member(const_cast<Scenario&>(scenario))); }};
}

template <class Value, class Member>
Key word_key(std::string section, std::string name, std::string meaning,
             std::vector<std::pair<std::string, Value>> words, Member member) {
  std::string expected = "one of";
  for (const auto& [word, value] : words) expected += " " + word;
  return {std::move(section), std::move(name), std::move(expected), std::move(meaning),
          [=](Scenario& scenario, std::string_view text) {
            for (const auto& [word, value] : words)
              if (word == text) {
                member(scenario) = value;
                return true;
              }
            return false;
          },
          [=](const Scenario& scenario) {
            for (const auto& [word, value] : words)
              if (member(const_cast<Scenario&>(scenario)) == value) return word;
            return std::string();
          }};
}

// A member function object for each key, in few characters.
#define MEMBER(expression) [](Scenario& s) -> auto& { return s.expression; }

// The table of keys: nothing else lists them.
std::vector<Key> make_keys() {
  using lab::Engine;
  std::vector<Key> keys{
      word_key<Family>("iperf3", "family", "mapped: an IPv6 listener with an IPv4 client",
                       {{"ipv4", Family::kIpv4}, {"ipv6", Family::kIpv6}, {"mapped", Family::kMapped}}, MEMBER(family)),
      word_key<Flow>("iperf3", "flow", "who sends: the client, the server or both",
                     {{"forward", Flow::kForward}, {"reverse", Flow::kReverse}, {"bidirectional", Flow::kBidirectional}},
                     MEMBER(flow)),
      {"iperf3", "congestion", "a congestion control, as cubic; in [vary] also \"each\"", "of both ends",
       [](Scenario& scenario, std::string_view text) {
         // TCP_CA_NAME_MAX
         if (text.empty() || text.size() > 15) return false;
         if (!std::ranges::all_of(text, [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; }))
           return false;
         scenario.congestion = text;
         return true;
       },
       [](const Scenario& scenario) { return scenario.congestion; }},
      whole_key("iperf3", "parallel", "streams", 1, 128, MEMBER(parallel)),
      whole_key("iperf3", "runs", "how often iperf3 runs, one after another", 1, 1000, MEMBER(runs)),
      time_key("iperf3", "duration", "how long it sends", MEMBER(duration), 86400),
      time_key("iperf3", "omit", "how long it sends before what it counts", MEMBER(omit), 60),
      time_key("iperf3", "interval", "between its readings", MEMBER(interval), 60),
      scaled_key("iperf3", "bytes", "a size with its unit, as 200kB", "to send, in place of the duration; 0: by duration",
                 kSizes, 1e15, MEMBER(bytes)),
      scaled_key("iperf3", "bitrate", "a rate with its unit, as 5Mbit/s", "of a stream; 0: as much as it can", kRates,
                 1e6, MEMBER(bitrate_mbit)),
      whole_key("iperf3", "burst", "blocks sent at once where there is a bitrate; 0: iperf3's own way", 0, 1000,
                MEMBER(burst)),
      scaled_key("iperf3", "length", "a size with its unit, as 128KiB", "of a block; 0: iperf3's own", kSizes, 1048576,
                 MEMBER(length)),
      scaled_key("iperf3", "window", "a size with its unit, as 64KiB", "of the socket buffers; 0: the kernel's own",
                 kSizes, 536870912, MEMBER(window)),
      whole_key("iperf3", "mss", "bytes, from 88; 0: the path's", 0, 9216, MEMBER(mss)),
      word_key<bool>("iperf3", "mptcp", "needs an iperf3 that has --mptcp", {{"true", true}, {"false", false}},
                     MEMBER(mptcp)),
      word_key<Engine>("link", "engine", "what makes the path; best: the first that can do what is asked",
                       {{"best", Engine::kBest}, {"veth", Engine::kVeth}, {"tbf", Engine::kTbf},
                        {"netem", Engine::kNetem}, {"emulator", Engine::kEmulator}},
                       MEMBER(link.engine)),
      whole_key("link", "mtu", "bytes of an IP packet", 1280, 65535, MEMBER(link.mtu)),
  };
  const auto add_way = [&keys](const std::string& section, auto way) {
    keys.push_back(scaled_key(section, "rate", "a rate with its unit, as 10Mbit/s", "of IP packets; 0: unlimited", kRates,
                              1e6, [=](Scenario& s) -> auto& { return way(s).rate_mbit; }));
    keys.push_back(time_key(section, "delay", "of every packet", [=](Scenario& s) -> auto& { return way(s).delay; }, 10));
    keys.push_back(time_key(section, "jitter", "added to the delay: uniform between 0 and this, order kept",
                            [=](Scenario& s) -> auto& { return way(s).jitter; }, 10));
    keys.push_back(scaled_key(section, "loss", "a share of the packets, as 0.5%", "lost at random", kShares, 0.5,
                              [=](Scenario& s) -> auto& { return way(s).loss; }));
    keys.push_back(scaled_key(section, "reordering", "a share of the packets, as 1%",
                              "not delayed, so that they overtake others", kShares, 0.5,
                              [=](Scenario& s) -> auto& { return way(s).reordering; }));
    keys.push_back(scaled_key(section, "queue", "a size with its unit, as 100kB",
                              "what may wait for the rate; 0: 20 ms of it", kSizes, 1e9,
                              [=](Scenario& s) -> auto& { return way(s).queue_bytes; }));
    keys.push_back(scaled_key(section, "ecn_mark", "a size with its unit, as 30kB",
                              "ECN-capable packets that meet a longer queue are marked; 0: never", kSizes, 1e9,
                              [=](Scenario& s) -> auto& { return way(s).ecn_mark_bytes; }));
  };
  add_way("link.there", [](Scenario& s) -> lab::Way& { return s.link.there; });
  add_way("link.back", [](Scenario& s) -> lab::Way& { return s.link.back; });
  keys.push_back(time_key("sources", "interval", "between samples by sockops; 0: every RTT", MEMBER(sockops_interval), 60));
  keys.push_back(time_key("sources", "poll", "between polls by inet_diag and by iter", MEMBER(poll), 60));
  return keys;
}
#undef MEMBER

const std::vector<Key>& keys() {
  static const auto table = make_keys();
  return table;
}

constexpr std::string_view kThere = "link.there", kBack = "link.back";

/// The keys that a name sets: "link.delay" sets both ways.
std::vector<const Key*> find_keys(std::string_view full) {
  std::vector<const Key*> found;
  for (const auto& key : keys()) {
    const bool way = key.section == kThere || key.section == kBack;
    if (key.full() == full || (way && "link." + key.name == full)) found.push_back(&key);
  }
  return found;
}

std::map<std::string, std::string>* sysctls(Scenario& scenario, std::string_view section) {
  return section == "sysctl.client" ? &scenario.client_sysctl : section == "sysctl.server" ? &scenario.server_sysctl : nullptr;
}

[[noreturn]] void refuse(std::string what, std::string way_out) {
  throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kInvalidOption), std::move(what), std::move(way_out));
}

/// The keys of a section, for somebody who wrote another one.
std::string known(std::string_view section) {
  std::vector<std::string> names;
  for (const auto& key : keys())
    if (key.section == section || (section == "link" && key.section == kThere)) names.push_back(key.name);
  if (names.empty()) return "sections are iperf3, link, link.there, link.back, sysctl.client, sysctl.server, sources and vary";
  return fmt::format("[{}] has {}", section, fmt::join(names, ", "));
}

/// Sets what `full` names. Throws with `where` ("FILE line 3") in front.
void set(Scenario& scenario, const std::string& full, std::string_view text, const std::string& where) {
  for (const std::string_view section : {"sysctl.client", "sysctl.server"})
    if (full.starts_with(fmt::format("{}.", section))) {
      const auto name = full.substr(section.size() + 1);
      if (!name.starts_with("net.") || name.find('/') != std::string::npos)
        refuse(fmt::format("{}: sysctl {}", where, name), "only those of a network namespace can be set: net.*");
      (*sysctls(scenario, section))[name] = text;
      return;
    }
  const auto found = find_keys(full);
  if (found.empty())
    refuse(fmt::format("{}: unknown key {}", where, full), known(full.substr(0, full.rfind('.'))));
  for (const auto* key : found)
    if (!key->take(scenario, text)) refuse(fmt::format("{}: {} = {}", where, full, text), "expected " + key->expected);
}

/// Every congestion control of this kernel, its modules included.
std::vector<std::string> congestion_controls() {
  std::set<std::string> names;
  std::ifstream file("/proc/sys/net/ipv4/tcp_available_congestion_control");
  for (std::string name; file >> name;) names.insert(name);
  std::ifstream release("/proc/sys/kernel/osrelease");
  std::string kernel;
  std::getline(release, kernel);
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(fs::path("/lib/modules") / kernel / "kernel/net/ipv4", none)) {
    auto name = entry.path().filename().string();
    if (!name.starts_with("tcp_") || name.find(".ko") == std::string::npos) continue;
    name = name.substr(4, name.find(".ko") - 4);
    // These are no congestion controls.
    if (name != "diag" && name != "probe" && name != "sigpool") names.insert(name);
  }
  return {names.begin(), names.end()};
}

/// A value as a part of a name.
std::string name_part(std::string_view value) {
  std::string part;
  for (const unsigned char c : value) {
    if (c == '%')
      part += "percent";
    else if (std::isalnum(c) || c == '.' || c == '_')
      part += static_cast<char>(c);
    else if (c != ' ' && !part.ends_with('-'))
      part += '-';
  }
  return part;
}

class File {
 public:
  File(const fs::path& path, const std::vector<Setting>& settings) : path_(path), settings_(settings) {}

  std::vector<Scenario> operator()(std::string_view text) {
    toml::table document;
    try {
      document = toml::parse(text, path_.string());
    } catch (const toml::parse_error& error) {
      refuse(where(error.source()), fmt::format("{}; texts stand in quotes, as delay = \"15ms\"", error.description()));
    }
    Scenario scenario;
    scenario.name = path_.stem().string();
    for (const auto& [key, value] : document) {
      const std::string name(key.str());
      if (name == "description" && value.is_string())
        scenario.description = value.as_string()->get();
      else if (name == "vary" && value.is_table())
        vary(*value.as_table());
      else if (value.is_table())
        section(scenario, name, *value.as_table());
      else
        refuse(where(value.source()) + ": unknown key " + name, "at the top stands description = \"a sentence\"");
    }
    if (scenario.description.empty())
      refuse(where({}) + ": no description", "begin it with description = \"what the scenario is for\"");
    apply(settings_, scenario);
    std::vector<Scenario> all{scenario};
    for (const auto& variation : variations_) all = multiply(all, variation);
    // A setting of one way stands above a variation of both.
    for (auto& one : all) apply(settings_, one);
    for (const auto& one : all) check(one, "read scenario " + path_.string());
    return all;
  }

 private:
  struct Variation {
    std::string key;
    std::vector<std::pair<std::string, toml::source_region>> values;
  };

  std::string where(const toml::source_region& source) const {
    return source.begin.line == 0 ? fmt::format("read scenario {}", path_.string())
                                  : fmt::format("read scenario {} line {}", path_.string(), source.begin.line);
  }

  // A scalar as it would be written.
  std::string text(const toml::node& node, const std::string& key) const {
    if (const auto* value = node.as_string()) return value->get();
    if (const auto* value = node.as_integer()) return std::to_string(value->get());
    if (const auto* value = node.as_floating_point()) return fmt::format("{}", value->get());
    if (const auto* value = node.as_boolean()) return value->get() ? "true" : "false";
    refuse(fmt::format("{}: {}", where(node.source()), key), "expected a string, a number, true or false");
  }

  void section(Scenario& scenario, const std::string& name, const toml::table& table) {
    const bool known_section = name == "sysctl" || sysctls(scenario, name) || name == "link" ||
                               std::ranges::any_of(keys(), [&](const Key& key) { return key.section == name; });
    if (!known_section) refuse(fmt::format("{}: unknown section [{}]", where(table.source()), name), known(""));
    // What is said of both ways stands before what is said of one.
    for (const bool tables : {false, true})
      for (const auto& [key, value] : table) {
        const auto full = fmt::format("{}.{}", name, key.str());
        if (value.is_table() != tables) continue;
        if (tables)
          section(scenario, full, *value.as_table());
        else
          set(scenario, full, text(value, full), where(value.source()));
      }
  }

  void vary(const toml::table& table) {
    for (const auto& [key, value] : table) {
      const std::string full(key.str());
      Variation variation{full, {}};
      const bool each = full == "iperf3.congestion" && value.is_string() && value.as_string()->get() == "each";
      if (each)
        for (auto& name : congestion_controls()) variation.values.emplace_back(std::move(name), value.source());
      else if (value.is_array())
        for (const auto& element : *value.as_array()) variation.values.emplace_back(text(element, full), element.source());
      if (variation.values.empty())
        refuse(fmt::format("{}: vary.\"{}\"", where(value.source()), full), "expected a list of values, as [\"10ms\", \"50ms\"]");
      const bool set_otherwise =
          std::ranges::any_of(settings_, [&](const Setting& setting) { return setting.key == full; });
      if (!set_otherwise) variations_.push_back(std::move(variation));
    }
  }

  std::vector<Scenario> multiply(const std::vector<Scenario>& all, const Variation& variation) const {
    std::vector<Scenario> result;
    for (const auto& scenario : all)
      for (const auto& [value, source] : variation.values) {
        result.push_back(scenario);
        set(result.back(), variation.key, value, where(source));
        result.back().name += "-" + name_part(value);
      }
    return result;
  }

  const fs::path& path_;
  const std::vector<Setting>& settings_;
  std::vector<Variation> variations_;
};

std::string toml_string(std::string_view text) {
  std::stringstream out;
  out << toml::value<std::string>(std::string(text));
  return out.str();
}

}  // namespace

void check(const Scenario& scenario, const std::string& where) {
  const auto wrong = [&](std::string what, std::string way_out) {
    refuse(fmt::format("{}: {}", where, what), std::move(way_out));
  };
  if (scenario.interval < milliseconds(100)) wrong("iperf3.interval", "iperf3 takes 100ms at least");
  if (scenario.bytes == 0 && scenario.duration < std::chrono::seconds(1)) wrong("iperf3.duration", "iperf3 takes 1s at least");
  if (scenario.duration.count() % 1000 != 0) wrong("iperf3.duration", "iperf3 takes whole seconds");
  if (scenario.omit.count() % 1000 != 0) wrong("iperf3.omit", "iperf3 takes whole seconds");
  if (scenario.mss != 0 && scenario.mss < 88) wrong("iperf3.mss", "the kernel takes 88 at least");
  if (scenario.burst > 0 && scenario.bitrate_mbit <= 0) wrong("iperf3.burst", "needs iperf3.bitrate");
  if (scenario.poll < milliseconds(1)) wrong("sources.poll", "give 1ms at least");
  for (const auto* way : {&scenario.link.there, &scenario.link.back}) {
    if (way->rate_mbit <= 0 && (way->queue_bytes > 0 || way->ecn_mark_bytes > 0))
      wrong("link.queue and link.ecn_mark", "need link.rate: without one nothing waits");
    if (way->reordering > 0 && way->delay.count() == 0)
      wrong("link.reordering", "needs link.delay: a packet that is not delayed overtakes those that are");
  }
}

milliseconds Scenario::expected_time() const {
  if (bytes == 0) return runs * (omit + duration);
  // By the slowest of what is known; else as if nothing slowed it down.
  double mbit = 1000;
  for (const double rate : {link.there.rate_mbit, link.back.rate_mbit, bitrate_mbit * parallel})
    if (rate > 0) mbit = std::min(mbit, rate);
  return runs * milliseconds(100 + std::llround(static_cast<double>(bytes) * 8 / mbit / 1000));
}

Setting parse_setting(std::string_view text) {
  const auto equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0)
    refuse(fmt::format("--set {}", text), "expected KEY=VALUE, as link.delay=20ms; tcpinfo-validate list --keys names the keys");
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

void apply(const std::vector<Setting>& settings, Scenario& scenario) {
  for (const auto& setting : settings)
    set(scenario, setting.key, setting.value, fmt::format("--set {}={}", setting.key, setting.value));
}

std::vector<Scenario> parse_scenarios(std::string_view toml, const fs::path& file, const std::vector<Setting>& settings) {
  return File(file, settings)(toml);
}

std::vector<Scenario> read_scenarios(const fs::path& file, const std::vector<Setting>& settings) {
  return parse_scenarios(read_text(file), file, settings);
}

std::string to_toml(const Scenario& scenario) {
  std::string out = fmt::format("description = {}\n", toml_string(scenario.description));
  const Scenario usual;
  std::string section;
  for (const auto& key : keys()) {
    if (key.show(scenario) == key.show(usual)) continue;
    if (key.section != section) out += fmt::format("\n[{}]\n", section = key.section);
    out += fmt::format("{} = {}\n", key.name, toml_string(key.show(scenario)));
  }
  for (const auto& [name, values] : {std::pair("client", &scenario.client_sysctl), std::pair("server", &scenario.server_sysctl)}) {
    if (values->empty()) continue;
    out += fmt::format("\n[sysctl.{}]\n", name);
    for (const auto& [sysctl, value] : *values) out += fmt::format("{} = {}\n", toml_string(sysctl), toml_string(value));
  }
  return out;
}

std::string describe(const Scenario& scenario) {
  const char* family = scenario.family == Family::kIpv4   ? "IPv4"
                       : scenario.family == Family::kIpv6 ? "IPv6"
                                                          : "IPv4-mapped IPv6";
  std::string text = fmt::format(
      "{}, {} stream{}{}{}, {}", family, scenario.parallel, scenario.parallel == 1 ? "" : "s",
      scenario.bitrate_mbit > 0 ? fmt::format(" of {}", show_scaled(scenario.bitrate_mbit, kRates, " ")) : "",
      scenario.flow == Flow::kBidirectional ? " each way"
      : scenario.flow == Flow::kReverse     ? ", server sends"
                                            : "",
      scenario.congestion);
  if (scenario.runs > 1) text += fmt::format(", {} runs", scenario.runs);
  if (scenario.bytes > 0) text += fmt::format(" of {}", show_scaled(static_cast<double>(scenario.bytes), kSizes, " "));
  if (scenario.mptcp) text += ", MPTCP";
  const auto add_way = [&](const lab::Way& way, const char* which) {
    text += fmt::format(", {}{}", way.rate_mbit > 0 ? show_scaled(way.rate_mbit, kRates, " ") : "unlimited", which);
    const auto ns = [](microseconds time) { return static_cast<double>(nanoseconds(time).count()); };
    if (way.delay.count() > 0) text += fmt::format(", delay {}", show_scaled(ns(way.delay), kTimes, " "));
    if (way.jitter.count() > 0) text += fmt::format(" + {}", show_scaled(ns(way.jitter), kTimes, " "));
    if (way.loss > 0) text += fmt::format(", loss {}", show_scaled(way.loss, kShares, " "));
    if (way.reordering > 0) text += fmt::format(", reordering {}", show_scaled(way.reordering, kShares, " "));
    if (way.queue_bytes > 0) text += fmt::format(", queue {}", show_scaled(static_cast<double>(way.queue_bytes), kSizes, " "));
    if (way.ecn_mark_bytes > 0) text += fmt::format(", ECN from {}", show_scaled(static_cast<double>(way.ecn_mark_bytes), kSizes, " "));
  };
  if (scenario.link.there == scenario.link.back) {
    add_way(scenario.link.there, "");
  } else {
    add_way(scenario.link.there, " there");
    add_way(scenario.link.back, " back");
  }
  return text;
}

std::string describe_keys() {
  std::string out;
  const Scenario usual;
  std::string section;
  for (const auto& key : keys()) {
    if (key.section == kBack) continue;
    if (key.section != section) {
      section = key.section;
      fmt::format_to(std::back_inserter(out), "{}[{}]{}\n", out.empty() ? "" : "\n", section,
                     section == kThere ? "   (or [link.back]; [link] sets both ways)" : "");
    }
    fmt::format_to(std::back_inserter(out), "  {:<12} {} ({}) [{}]\n", key.name, key.meaning, key.expected, key.show(usual));
  }
  out +=
      "\n[sysctl.client], [sysctl.server]\n"
      "  \"net.*\"      of iperf3's network namespace, as \"net.ipv4.tcp_rmem\" = \"4096 16384 32768\"\n"
      "\n[vary]\n"
      "  \"KEY\"        a list of values: a scenario for each, as \"link.delay\" = [\"0ms\", \"20ms\"]\n";
  return out;
}

bool matches(const std::string& name, const std::string& glob) { return ::fnmatch(glob.c_str(), name.c_str(), 0) == 0; }

std::vector<Scenario> choose(const std::vector<Scenario>& all, const std::vector<std::string>& globs) {
  std::vector<bool> chosen(all.size());
  for (const auto& glob : globs) {
    bool any = false;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (matches(all[i].name, glob)) chosen[i] = any = true;
    if (!any) refuse(fmt::format("--scenario {}", glob), "no scenario has such a name; tcpinfo-validate list names them");
  }
  std::vector<Scenario> result;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (chosen[i]) result.push_back(all[i]);
  return result;
}

}  // namespace validation
