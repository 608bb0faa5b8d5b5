// SPDX-License-Identifier: BSD-2-Clause
// What user space does with a record: reads it in place, writes it as text, asks a filter. Figures are per record.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
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

// Every field present, numbers as large as they are in life: a few digits each, times and cookies many.
std::vector<tcpinfo_record> make_records() {
  std::vector<tcpinfo_record> records(kRecords, tcpinfo::make_record());
  std::uint64_t random = 1;
  for (auto& record : records) {
    for (const auto& field : tcpinfo::fields()) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      tcpinfo::set_number(record, field.field, random >> (field.size == 8 ? 24 : 48));
    }
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

// Runs `work` on one record after the other; it gives back how many bytes it wrote, 0 if it writes none.
template <class Work>
void each_record(benchmark::State& state, Work work) {
  const auto records = make_records();
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

void json_line(benchmark::State& state) {
  tcpinfo::JsonWriter writer;
  each_record(state, [&](const tcpinfo_record& raw) { return writer.line(tcpinfo::Record(raw)).size(); });
}
BENCHMARK(json_line);

// The peer of json_line: RapidJSON as its manual shows it. The same keys, numbers and texts where formatting costs
// nothing; states and such as numbers.
void json_line_rapidjson(benchmark::State& state) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer;
  each_record(state, [&](const tcpinfo_record& raw) {
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
BENCHMARK(json_line_rapidjson);

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
