// SPDX-License-Identifier: BSD-2-Clause
#pragma once

/// Marks what the shared library exports; everything else is hidden.
#define TCPINFO_EXPORT __attribute__((visibility("default")))
