// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <tcpinfo/owner.hpp>
#include <tcpinfo/record.hpp>
#include <tcpinfo/source.hpp>

#include "output.hpp"
#include "record_writer.hpp"
#include "stream.hpp"

namespace cli {

/// Prints the records of a stream in one of the formats.
class Printer : public Consumer {
 public:
  /// With `owners`, the records carry their owners; so they do with those that are given with them. The table counts
  /// times from `start_ns`, boot time.
  Printer(Output output, Format format, const std::vector<tcpinfo::Field>& fields,
          std::optional<tcpinfo::OwnersOptions> owners = std::nullopt, std::uint64_t start_ns = tcpinfo::boot_time_ns(),
          bool owners_are_given = false)
      : output_(std::move(output)),
        format_(format),
        fields_(fields),
        owners_(std::move(owners)),
        start_ns_(start_ns),
        owners_are_given_(owners_are_given) {}

  int descriptor() const noexcept override { return output_.descriptor(); }
  /// Writes the schema or a header.
  void begin() override {
    writer_.emplace(format_, fields_, TableKind::kLive, output_, owners_, start_ns_, owners_are_given_);
  }
  void append(const tcpinfo::Record& record) override { writer_->append(record); }
  void append(const tcpinfo::Record& record, const tcpinfo::Owner* owner) { writer_->append(record, owner); }
  void flush() override { writer_->flush(); }
  void finish() override {
    writer_->flush();
    output_.finish();
  }
  tcpinfo::EventCounts unwritten() const noexcept override {
    return writer_ ? writer_->unwritten() : tcpinfo::EventCounts{};
  }
  tcpinfo::Capabilities capabilities() const override { return writer_->capabilities(); }

 private:
  Output output_;
  Format format_;
  std::vector<tcpinfo::Field> fields_;
  std::optional<tcpinfo::OwnersOptions> owners_;
  std::uint64_t start_ns_;
  bool owners_are_given_;
  std::optional<RecordWriter> writer_;
};

}  // namespace cli
