// SPDX-License-Identifier: BSD-2-Clause
#include <algorithm>
#include <array>
#include <utility>

#include <tcpinfo/owner.hpp>

namespace tcpinfo {
namespace {

bool is_hexadecimal(std::string_view text) noexcept {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// Ids of containers and of Podman's pods, as all of the runtimes make them.
bool is_id(std::string_view text) noexcept { return text.size() == 64 && is_hexadecimal(text); }

// The uid of a pod: a UUID, or of one that a file on the node describes a hash of it. A systemd slice has underscores
// for the dashes, which would nest it.
std::string pod_uid(std::string_view text, char separator) {
  constexpr std::array<std::size_t, 4> kSeparators{8, 13, 18, 23};
  if (text.size() == 32 && is_hexadecimal(text)) return std::string(text);
  if (text.size() != 36) return {};
  std::string uid(text);
  for (const auto place : kSeparators) {
    if (uid[place] != separator) return {};
    uid[place] = '0';
  }
  if (!is_hexadecimal(uid)) return {};
  for (const auto place : kSeparators) uid[place] = '-';
  return uid;
}

// What stands before the id. Monitors (crio-conmon-ID, libpod-conmon-ID) are not inside their container.
constexpr std::pair<std::string_view, std::string_view> kRuntimes[] = {
    {"docker", "docker"}, {"cri-containerd", "containerd"}, {"nerdctl", "containerd"}, {"crio", "cri-o"},
    {"libpod", "podman"}, {"libpod-payload", "podman"},
};

std::string_view runtime_of(std::string_view prefix) noexcept {
  for (const auto& [name, runtime] : kRuntimes)
    if (name == prefix) return runtime;
  return {};
}

// "docker-ID", or "docker:ID" where runc was given a path for systemd and makes the cgroup itself.
bool read_prefixed(std::string_view name, char separator, Container& container) {
  const auto place = name.rfind(separator);
  if (place == std::string_view::npos || !is_id(name.substr(place + 1))) return false;
  const auto runtime = runtime_of(name.substr(0, place));
  if (runtime.empty()) return false;
  container.runtime = runtime;
  container.id = name.substr(place + 1);
  return true;
}

bool remove_suffix(std::string_view& text, std::string_view suffix) noexcept {
  if (text.size() <= suffix.size() || !text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

// "kubepods-burstable-pod1234_..." and Podman's "machine-libpod_pod_ID", without ".slice"
std::string pod_of_slice(std::string_view name) {
  if (const auto place = name.rfind("-pod"); place != std::string_view::npos)
    if (auto uid = pod_uid(name.substr(place + 4), '_'); !uid.empty()) return uid;
  constexpr std::string_view kPodman = "libpod_pod_";
  if (const auto place = name.rfind(kPodman);
      place != std::string_view::npos && is_id(name.substr(place + kPodman.size())))
    return std::string(name.substr(place + kPodman.size()));
  return {};
}

// systemd puts an underscore before a name that would mean something else to the kernel (cgroup-util.c cg_escape()).
std::string_view unit_of(std::string_view name) noexcept {
  if (name.starts_with('_')) name.remove_prefix(1);
  std::string_view stem = name;
  for (const std::string_view kind : {".service", ".scope", ".socket", ".mount", ".swap"})
    if (remove_suffix(stem, kind)) break;
  const auto is_valid = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view(":-_.\\@").find(c) != std::string_view::npos;
  };
  return stem.size() < name.size() && std::ranges::all_of(name, is_valid) ? name : std::string_view{};
}

class Reader {
 public:
  CgroupPath read(std::string_view path) {
    while (!path.empty()) {
      const auto slash = std::min(path.find('/'), path.size());
      if (slash > 0) {
        const auto component = path.substr(0, slash);
        take(component);
        before_ = component;
      }
      path.remove_prefix(std::min(slash + 1, path.size()));
    }
    return std::move(found_);
  }

 private:
  void take(std::string_view name) {
    if (const auto unit = unit_of(name); !unit.empty()) found_.unit = unit;

    // runc with a path for systemd and without systemd: SLICE:PREFIX:ID is one component.
    if (const auto colon = name.find(':'); colon != std::string_view::npos) {
      auto slice = name.substr(0, colon);
      if (remove_suffix(slice, ".slice"))
        if (auto uid = pod_of_slice(slice); !uid.empty()) enter_pod(std::move(uid));
      Container container;
      if (read_prefixed(name.substr(colon + 1), ':', container)) enter(std::move(container));
      return;
    }

    auto stem = name;
    if (remove_suffix(stem, ".slice")) {
      if (auto uid = pod_of_slice(stem); !uid.empty()) enter_pod(std::move(uid));
      return;
    }
    if (name.starts_with("pod"))
      if (auto uid = pod_uid(name.substr(3), '-'); !uid.empty()) return enter_pod(std::move(uid));

    remove_suffix(stem, ".scope");
    Container container;
    if (read_prefixed(stem, '-', container)) return enter(std::move(container));
    if (is_id(name)) {
      container.id = name;
      if (before_ == "docker") container.runtime = "docker";
      enter(std::move(container));
    }
  }

  // Inside a container that is a node, where there was one.
  void enter_pod(std::string uid) {
    found_.container = {};
    found_.container.pod_uid = std::move(uid);
  }

  // Also one that a container of the pod makes belongs to the pod.
  void enter(Container container) {
    container.pod_uid = std::move(found_.container.pod_uid);
    found_.container = std::move(container);
  }

  CgroupPath found_;
  std::string_view before_;  // the component
};

}  // namespace

CgroupPath parse_cgroup_path(std::string_view path) { return Reader().read(path); }

}  // namespace tcpinfo
