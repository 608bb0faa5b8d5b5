// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Everything but the parts that need other libraries: format.hpp (fmt) and monitor.hpp (Boost.Asio).
#include <tcpinfo/attached.hpp>
#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/cost.hpp>
#include <tcpinfo/csv.hpp>
#include <tcpinfo/error.hpp>
#include <tcpinfo/filter.hpp>
#include <tcpinfo/inet_diag.hpp>
#include <tcpinfo/iter.hpp>
#include <tcpinfo/json.hpp>
#include <tcpinfo/owner.hpp>
#include <tcpinfo/privileges.hpp>
#include <tcpinfo/record.hpp>
#include <tcpinfo/recording.hpp>
#include <tcpinfo/sockops.hpp>
#include <tcpinfo/source.hpp>
#include <tcpinfo/tcp_info.hpp>
#include <tcpinfo/trigger.hpp>
