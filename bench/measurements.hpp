// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "measurement.hpp"

/// One function a file; what each measures is said in the table of measurements.cpp.
namespace bench {

Outcome adoption(const Options& options);
Outcome bulk(const Options& options);
Outcome callbacks(const Options& options);
Outcome connections(const Options& options);
Outcome drain(const Options& options);
Outcome json(const Options& options);
Outcome memory(const Options& options);
Outcome snapshot(const Options& options);
Outcome sweep(const Options& options);

}  // namespace bench
