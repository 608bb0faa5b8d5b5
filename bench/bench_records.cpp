// SPDX-License-Identifier: BSD-2-Clause
// What user space does with a record: reads it in place, writes it as text, asks a filter. Figures are per record.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#include <tcpinfo/csv.hpp>
#include <tcpinfo/filter.hpp>
#include <tcpinfo/format.hpp>
#include <tcpinfo/json.hpp>
#include <tcpinfo/record.hpp>

namespace {

// More than the first level cache holds, as records lie in a ring buffer.
constexpr std::size_t kRecords = 1024;

// The same for every benchmark.
class Random {
 public:
  std::uint64_t operator()() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return state_ >> 24;
  }

 private:
  std::uint64_t state_ = 1;
};

// Every field present, numbers as large as they are in life: a few digits each, times and cookies many.
std::vector<tcpinfo_record> full_records() {
  Random random;
  std::vector<tcpinfo_record> records(kRecords, tcpinfo::make_record());
  for (auto& record : records) {
    for (const auto& field : tcpinfo::fields())
      tcpinfo::set_number(record, field.field, random() >> (field.size == 8 ? 0 : 24));
    tcpinfo::set_number(record, tcpinfo::Field::event, TCPINFO_EVENT_SAMPLE);
    tcpinfo::set_number(record, tcpinfo::Field::source, TCPINFO_SOURCE_SOCKOPS);
    tcpinfo::set_number(record, tcpinfo::Field::family, 2);
    tcpinfo::set_number(record, tcpinfo::Field::state, 1);
    tcpinfo::set_number(record, tcpinfo::Field::ca_state, 0);
    record.local_address = *tcpinfo::parse_address("192.0.2.17");
    record.peer_address = *tcpinfo::parse_address("198.51.100.201");
    std::strncpy(record.congestion_control.text, "cubic", sizeof(record.congestion_control.text));
    std::strncpy(record.ulp.text, "tls", sizeof(record.ulp.text));
    for (const auto field : {tcpinfo::Field::local_address, tcpinfo::Field::peer_address,
                             tcpinfo::Field::congestion_control, tcpinfo::Field::ulp})
      tcpinfo::set_present(record, field);
  }
  return records;
}

// What sock_ops gave for both ends of a bulk transfer, without the numbers that were 0, which were half.
constexpr std::string_view kSender =
    R"({"time_ns":35415527940911,"cookie":334154,"netns_cookie":3,"cgroup_id":490453,"local_address":"192.0.2.17",)"
    R"("peer_address":"198.51.100.201","congestion_control":"bbr","sequence":17,"event":"sample","source":"sockops",)"
    R"("family":"ipv4","state":"ESTABLISHED","local_port":38570,"peer_port":39845,"cpu":1,"ca_state":"Open",)"
    R"("options":7,"snd_wscale":10,"rcv_wscale":10,"rto":204000,"snd_mss":65483,"rcv_mss":536,)"
    R"("last_data_recv":1600,"pmtu":65535,"rcv_ssthresh":65495,"rtt":64,"rttvar":11,"snd_ssthresh":8,"snd_cwnd":16,)"
    R"("advmss":65483,"reordering":8,"rcv_space":65495,"pacing_rate":6077639971,)"
    R"("max_pacing_rate":18446744073709551615,"bytes_acked":3943858747,"segs_out":66016,"segs_in":29225,)"
    R"("notsent_bytes":2553837,"min_rtt":4,"data_segs_out":66014,"delivery_rate":3741885714,"busy_time":1596000,)"
    R"("rwnd_limited":904000,"delivered":66015,"bytes_sent":3943858746,"snd_wnd":23552,"rcv_wnd":65536,)"
    R"("bbr_bw":4911224219,"bbr_min_rtt":4,"bbr_pacing_gain":320,"bbr_cwnd_gain":512,"skmem_rcvbuf":131072,)"
    R"("skmem_sndbuf":4194304,"skmem_fwd_alloc":3219,"skmem_wmem_queued":2585453,"skmem_optmem":272})";
constexpr std::string_view kReceiver =
    R"({"time_ns":35415534802641,"cookie":334155,"netns_cookie":3,"cgroup_id":490453,"local_address":"198.51.100.201",)"
    R"("peer_address":"192.0.2.17","congestion_control":"bbr","sequence":16,"event":"sample","source":"sockops",)"
    R"("family":"ipv4","state":"ESTABLISHED","local_port":39845,"peer_port":38570,"swept":true,"ca_state":"Open",)"
    R"("options":7,"snd_wscale":10,"rcv_wscale":10,"delivery_rate_app_limited":true,"rto":200000,"ato":40000,)"
    R"("snd_mss":32768,"rcv_mss":65483,"last_data_sent":1608,"pmtu":65535,"rcv_ssthresh":3646407,"rtt":20,)"
    R"("rttvar":10,"snd_cwnd":10,"advmss":65483,"reordering":8,"rcv_rtt":22,"rcv_space":507627,)"
    R"("pacing_rate":46823040000,"max_pacing_rate":18446744073709551615,"bytes_received":3960491428,)"
    R"("segs_out":29349,"segs_in":66295,"min_rtt":20,"data_segs_in":66293,"delivered":1,"snd_wnd":65536,)"
    R"("rcv_wnd":23552,"skmem_rmem_alloc":3677032,"skmem_rcvbuf":3705335,"skmem_sndbuf":3939840,)"
    R"("skmem_fwd_alloc":1176,"skmem_optmem":272})";

// What was absent there; of the numbers all others are in every record.
bool absent_at_both(const tcpinfo::FieldInfo& field) {
  using F = tcpinfo::Field;
  return field.sources == tcpinfo::Sources::nobody || field.field == F::old_state || field.field == F::snd_ssthresh ||
         field.name.starts_with("bbr_") || field.name.starts_with("vegas_") || field.name.starts_with("dctcp_");
}

// Now one end, now the other, with gauges and counters of any size up to what was seen.
std::vector<tcpinfo_record> sockops_records() {
  Random random;
  const tcpinfo_record ends[] = {tcpinfo::parse_json(kSender), tcpinfo::parse_json(kReceiver)};
  std::vector<tcpinfo_record> records;
  while (records.size() < kRecords) {
    auto& record = records.emplace_back(ends[random() % 2]);
    for (const auto& field : tcpinfo::fields()) {
      const auto seen = tcpinfo::Record(record).number(field.field);
      const bool varies = field.kind == tcpinfo::Kind::gauge || field.kind == tcpinfo::Kind::counter;
      if (seen && varies && *seen != ~std::uint64_t{0})
        tcpinfo::set_number(record, field.field, random() % (*seen + 1));
      else if (!seen && !absent_at_both(field))
        tcpinfo::set_number(record, field.field, 0);
    }
  }
  return records;
}

// Runs `work` on one record after the other; it gives back how many bytes it wrote, 0 if it writes none.
template <class Work>
void each_record(benchmark::State& state, const std::vector<tcpinfo_record>& records, Work work) {
  std::size_t next = 0;
  std::int64_t bytes = 0;
  for (auto _ : state) {
    bytes += static_cast<std::int64_t>(work(records[next]));
    next = (next + 1) % kRecords;
  }
  state.SetItemsProcessed(state.iterations());
  if (bytes > 0) {
    state.SetBytesProcessed(bytes);
    state.counters["line"] = static_cast<double>(bytes) / static_cast<double>(state.iterations());
  }
}
template <class Work>
void each_record(benchmark::State& state, Work work) {
  each_record(state, full_records(), work);
}

void decode_five_fields(benchmark::State& state) {
  each_record(state, [](const tcpinfo_record& raw) -> std::size_t {
    const auto record = tcpinfo::Record::view(std::as_bytes(std::span(&raw, 1)));
    benchmark::DoNotOptimize(record->rtt().value_or(0) + record->snd_cwnd().value_or(0) +
                             record->bytes_acked().value_or(0) + record->total_retrans().value_or(0) +
                             record->cookie().value_or(0));
    return 0;
  });
}
BENCHMARK(decode_five_fields);

// The floor of decode_five_fields: the same sum without presence bits and checks.
void load_five_members(benchmark::State& state) {
  each_record(state, [](const tcpinfo_record& raw) -> std::size_t {
    benchmark::DoNotOptimize(raw.rtt + raw.snd_cwnd + raw.bytes_acked + raw.total_retrans + raw.cookie);
    return 0;
  });
}
BENCHMARK(load_five_members);

void json_lines(benchmark::State& state, const std::vector<tcpinfo_record>& records) {
  tcpinfo::JsonWriter writer;
  each_record(state, records, [&](const tcpinfo_record& raw) { return writer.line(tcpinfo::Record(raw)).size(); });
}
void json_line(benchmark::State& state) { json_lines(state, full_records()); }
void json_line_sockops(benchmark::State& state) { json_lines(state, sockops_records()); }
BENCHMARK(json_line);
BENCHMARK(json_line_sockops);

// The peer of json_lines: RapidJSON as its manual shows it. The same keys, numbers and texts where formatting costs
// nothing; states and such as numbers.
void json_lines_rapidjson(benchmark::State& state, const std::vector<tcpinfo_record>& records) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer;
  each_record(state, records, [&](const tcpinfo_record& raw) {
    const tcpinfo::Record record(raw);
    buffer.Clear();
    writer.Reset(buffer);
    writer.StartObject();
    for (const auto& field : tcpinfo::fields()) {
      writer.Key(field.name.data(), static_cast<rapidjson::SizeType>(field.name.size()));
      if (!record.has(field.field)) {
        writer.Null();
      } else if (const auto number = record.number(field.field)) {
        writer.Uint64(*number);
      } else {
        std::string text;
        tcpinfo::append_value(text, record, field.field);
        writer.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
      }
    }
    writer.EndObject();
    return buffer.GetSize();
  });
}
void json_line_rapidjson(benchmark::State& state) { json_lines_rapidjson(state, full_records()); }
void json_line_sockops_rapidjson(benchmark::State& state) { json_lines_rapidjson(state, sockops_records()); }
BENCHMARK(json_line_rapidjson);
BENCHMARK(json_line_sockops_rapidjson);

void json_line_six_fields(benchmark::State& state) {
  using F = tcpinfo::Field;
  tcpinfo::JsonWriter writer({F::time_ns, F::cookie, F::peer_address, F::peer_port, F::rtt, F::snd_cwnd});
  each_record(state, [&](const tcpinfo_record& raw) { return writer.line(tcpinfo::Record(raw)).size(); });
}
BENCHMARK(json_line_six_fields);

void csv_line(benchmark::State& state) {
  tcpinfo::CsvWriter writer;
  each_record(state, [&](const tcpinfo_record& raw) { return writer.line(tcpinfo::Record(raw)).size(); });
}
BENCHMARK(csv_line);

void summary_line(benchmark::State& state) {
  std::string line;
  each_record(state, [&](const tcpinfo_record& raw) {
    line.clear();
    tcpinfo::append_summary(line, tcpinfo::Record(raw));
    return line.size();
  });
}
BENCHMARK(summary_line);

void filter(benchmark::State& state, const char* expression) {
  const auto filter = tcpinfo::Filter::parse(expression);
  each_record(state, [&](const tcpinfo_record& raw) -> std::size_t {
    benchmark::DoNotOptimize(filter.matches(raw.local_address, raw.local_port, raw.peer_address, raw.peer_port));
    return 0;
  });
}
BENCHMARK_CAPTURE(filter, one_port, "peer_port == 443");
BENCHMARK_CAPTURE(filter, prefix_and_ports, "local_port in 5201..5210 and peer_address in 10.0.0.0/8");
BENCHMARK_CAPTURE(filter, sixteen_clauses,
                  "port == 1 or port == 2 or port == 3 or port == 4 or port == 5 or port == 6 or port == 7 or "
                  "address in 2001:db8::/32");

}  // namespace
