// SPDX-License-Identifier: BSD-2-Clause
// Paths as runtimes, drivers and systemd make them.
#include <gtest/gtest.h>

#include <ostream>
#include <random>
#include <string>

#include <tcpinfo/owner.hpp>

namespace tcpinfo {
void PrintTo(const CgroupPath& path, std::ostream* out) {
  *out << "unit " << path.unit << " runtime " << path.container.runtime << " id " << path.container.id << " pod "
       << path.container.pod_uid;
}
}  // namespace tcpinfo

namespace {

using tcpinfo::CgroupPath;
using tcpinfo::parse_cgroup_path;

const std::string kId = "3f1d8916a5b2c4d7e8f90123456789abcdef0123456789abcdef0123456789ab";
const std::string kOther = "aaaabbbbccccddddeeeeffff00001111222233334444555566667777888899aa";
const std::string kPod = "0f6ab3c1-9d2e-4b57-8c11-2a3b4c5d6e7f";
const std::string kPodInSlice = "0f6ab3c1_9d2e_4b57_8c11_2a3b4c5d6e7f";
const std::string kStaticPod = "5e8ad7ba0a4d4b1ac0cbe4f4ac3b4f5a";  // a hash, as of kube-apiserver

CgroupPath none() { return {}; }
CgroupPath unit(std::string name) { return {std::move(name), {}}; }
CgroupPath container(std::string runtime, std::string id, std::string pod = {}, std::string unit = {}) {
  return {std::move(unit), {std::move(runtime), std::move(id), std::move(pod)}};
}

TEST(CgroupPath, Docker) {
  EXPECT_EQ(parse_cgroup_path("/docker/" + kId), container("docker", kId));
  EXPECT_EQ(parse_cgroup_path("/system.slice/docker-" + kId + ".scope"),
            container("docker", kId, "", "docker-" + kId + ".scope"));
  // rootless
  EXPECT_EQ(parse_cgroup_path("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + kId + ".scope"),
            container("docker", kId, "", "docker-" + kId + ".scope"));
  // --cgroup-parent, Amazon's agent: whose container it is the path does not say
  EXPECT_EQ(parse_cgroup_path("/ecs/0123456789abcdef0123456789abcdef/" + kId), container("", kId));
  EXPECT_EQ(parse_cgroup_path("/ecstasks.slice/ecstasks-0123.slice/docker-" + kId + ".scope").container.runtime,
            "docker");
  // the daemon itself, and what it runs while it builds
  EXPECT_EQ(parse_cgroup_path("/system.slice/docker.service"), unit("docker.service"));
  EXPECT_EQ(parse_cgroup_path("/docker/buildkit/vz3qv9lb0ukp1kt1ccqf6vcpz"), none());
  EXPECT_EQ(parse_cgroup_path("/docker"), none());
}

TEST(CgroupPath, Kubelet) {
  for (const std::string quality : {"burstable", "besteffort"}) {
    EXPECT_EQ(parse_cgroup_path("/kubepods/" + quality + "/pod" + kPod + "/" + kId), container("", kId, kPod));
    EXPECT_EQ(parse_cgroup_path("/kubepods/" + quality + "/pod" + kPod + "/crio-" + kId),
              container("cri-o", kId, kPod));
    const auto slices = "/kubepods.slice/kubepods-" + quality + ".slice/kubepods-" + quality + "-pod";
    EXPECT_EQ(parse_cgroup_path(slices + kPodInSlice + ".slice/cri-containerd-" + kId + ".scope"),
              container("containerd", kId, kPod, "cri-containerd-" + kId + ".scope"));
    EXPECT_EQ(parse_cgroup_path(slices + kPodInSlice + ".slice/crio-" + kId + ".scope"),
              container("cri-o", kId, kPod, "crio-" + kId + ".scope"));
    EXPECT_EQ(parse_cgroup_path(slices + kPodInSlice + ".slice/docker-" + kId + ".scope"),
              container("docker", kId, kPod, "docker-" + kId + ".scope"));
    EXPECT_EQ(parse_cgroup_path(slices + kStaticPod + ".slice/cri-containerd-" + kId + ".scope").container.pod_uid,
              kStaticPod);
    EXPECT_EQ(parse_cgroup_path(slices + kPodInSlice + ".slice"), container("", "", kPod));
  }
  // guaranteed
  EXPECT_EQ(parse_cgroup_path("/kubepods/pod" + kPod + "/" + kId), container("", kId, kPod));
  EXPECT_EQ(parse_cgroup_path("/kubepods.slice/kubepods-pod" + kPodInSlice + ".slice/cri-containerd-" + kId + ".scope"),
            container("containerd", kId, kPod, "cri-containerd-" + kId + ".scope"));
  EXPECT_EQ(parse_cgroup_path("/kubepods/burstable/pod" + kStaticPod + "/" + kId), container("", kId, kStaticPod));
  // OpenShift and k3s put other things around it
  EXPECT_EQ(parse_cgroup_path("/kubelet/kubepods/burstable/pod" + kPod + "/" + kId), container("", kId, kPod));
  // crun's own cgroup inside
  EXPECT_EQ(parse_cgroup_path("/kubepods.slice/kubepods-pod" + kPodInSlice + ".slice/crio-" + kId + ".scope/container"),
            container("cri-o", kId, kPod, "crio-" + kId + ".scope"));
  // the monitor of a container is in its pod and not in it
  EXPECT_EQ(parse_cgroup_path("/kubepods.slice/kubepods-pod" + kPodInSlice + ".slice/crio-conmon-" + kId + ".scope"),
            container("", "", kPod, "crio-conmon-" + kId + ".scope"));
}

// containerd without SystemdCgroup below a kubelet that drives systemd
TEST(CgroupPath, AnotherDriverThanThePathWasMadeFor) {
  EXPECT_EQ(parse_cgroup_path("/system.slice/containerd.service/kubepods-burstable-pod" + kPodInSlice +
                              ".slice:cri-containerd:" + kId),
            container("containerd", kId, kPod, "containerd.service"));
  EXPECT_EQ(parse_cgroup_path("/kubepods-pod" + kPodInSlice + ".slice:cri-containerd:" + kId),
            container("containerd", kId, kPod));
  EXPECT_EQ(parse_cgroup_path("/system.slice:docker:" + kId), container("docker", kId));
  EXPECT_EQ(parse_cgroup_path("/system.slice:cri-containerd:" + kId.substr(1)), none());
}

TEST(CgroupPath, Containerd) {
  EXPECT_EQ(parse_cgroup_path("/system.slice/nerdctl-" + kId + ".scope"),
            container("containerd", kId, "", "nerdctl-" + kId + ".scope"));
  EXPECT_EQ(parse_cgroup_path("/default/" + kId), container("", kId));
  EXPECT_EQ(parse_cgroup_path("/system.slice/containerd.service"), unit("containerd.service"));
}

TEST(CgroupPath, Podman) {
  const auto scope = "libpod-" + kId + ".scope";
  EXPECT_EQ(parse_cgroup_path("/machine.slice/" + scope), container("podman", kId, "", scope));
  EXPECT_EQ(parse_cgroup_path("/machine.slice/" + scope + "/container"), container("podman", kId, "", scope));
  EXPECT_EQ(parse_cgroup_path("/user.slice/user-1000.slice/user@1000.service/user.slice/" + scope + "/container"),
            container("podman", kId, "", scope));
  EXPECT_EQ(parse_cgroup_path("/libpod_parent/libpod-" + kId), container("podman", kId));
  EXPECT_EQ(parse_cgroup_path("/machine.slice/machine-libpod_pod_" + kOther + ".slice/" + scope),
            container("podman", kId, kOther, scope));
  EXPECT_EQ(parse_cgroup_path("/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_" + kOther +
                              ".slice/" + scope + "/container"),
            container("podman", kId, kOther, scope));
  // Quadlet: in the service's own cgroup
  EXPECT_EQ(parse_cgroup_path("/system.slice/web.service/libpod-payload-" + kId),
            container("podman", kId, "", "web.service"));
  EXPECT_EQ(parse_cgroup_path("/machine.slice/libpod-conmon-" + kId + ".scope"),
            unit("libpod-conmon-" + kId + ".scope"));
}

TEST(CgroupPath, TheInnermostCounts) {
  // kind: a node is a Docker container
  EXPECT_EQ(parse_cgroup_path("/system.slice/docker-" + kOther +
                              ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
                              "kubelet-kubepods-burstable-pod" +
                              kPodInSlice + ".slice/cri-containerd-" + kId + ".scope"),
            container("containerd", kId, kPod, "cri-containerd-" + kId + ".scope"));
  EXPECT_EQ(parse_cgroup_path("/docker/" + kOther + "/kubelet/kubepods/burstable/pod" + kPod + "/" + kId),
            container("", kId, kPod));
  // Docker inside a pod belongs to the pod.
  EXPECT_EQ(parse_cgroup_path("/kubepods/burstable/pod" + kPod + "/" + kOther + "/docker/" + kId),
            container("docker", kId, kPod));
  // systemd inside a container
  EXPECT_EQ(parse_cgroup_path("/machine.slice/libpod-" + kId + ".scope/container/system.slice/nginx.service"),
            container("podman", kId, "", "nginx.service"));
}

TEST(CgroupPath, Systemd) {
  EXPECT_EQ(parse_cgroup_path("/"), none());
  EXPECT_EQ(parse_cgroup_path(""), none());
  EXPECT_EQ(parse_cgroup_path("/init.scope"), unit("init.scope"));
  EXPECT_EQ(parse_cgroup_path("/system.slice"), none());
  EXPECT_EQ(parse_cgroup_path("/system.slice/nginx.service"), unit("nginx.service"));
  EXPECT_EQ(parse_cgroup_path("/system.slice/ssh.service/session"), unit("ssh.service"));
  EXPECT_EQ(parse_cgroup_path("/system.slice/system-getty.slice/getty@tty1.service"), unit("getty@tty1.service"));
  EXPECT_EQ(parse_cgroup_path("/system.slice/docker.socket"), unit("docker.socket"));
  EXPECT_EQ(parse_cgroup_path("/system.slice/boot-efi.mount"), unit("boot-efi.mount"));
  EXPECT_EQ(parse_cgroup_path("/system.slice/dev-disk-by\\x2duuid-1.swap"), unit("dev-disk-by\\x2duuid-1.swap"));
  EXPECT_EQ(parse_cgroup_path("/user.slice/user-1000.slice/session-3.scope"), unit("session-3.scope"));
  EXPECT_EQ(parse_cgroup_path("/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-1.scope"),
            unit("app-firefox-1.scope"));
  EXPECT_EQ(parse_cgroup_path("/user.slice/user-1000.slice/user@1000.service/app.slice"), unit("user@1000.service"));
  // escaped, as it begins like a file of the kernel's
  EXPECT_EQ(parse_cgroup_path("/system.slice/_memory.foo.service"), unit("memory.foo.service"));
}

TEST(CgroupPath, WhatOnlyLooksAlike) {
  for (const auto& path : {"/docker/" + kId.substr(1), "/docker/" + kId + "0", "/docker/" + std::string(64, 'g'),
                           "/docker/" + std::string(64, 'A'), std::string("/service"), std::string("/.service"),
                           std::string("/a b.service"), "/kubepods/pod" + kPodInSlice, "/kubepods/pod" + kPod.substr(1),
                           std::string("/podcast"), "/foo-" + kId + ".scoped", "/docker-" + kId + ".slice"})
    EXPECT_EQ(parse_cgroup_path(path), none()) << path;
  EXPECT_EQ(parse_cgroup_path("/evil-" + kId + ".scope"), unit("evil-" + kId + ".scope"));
  EXPECT_EQ(parse_cgroup_path("//docker//" + kId + "//"), container("docker", kId));
}

// Pieces of real paths in any order: what is found was there, and is well formed.
TEST(CgroupPath, AnythingIsRead) {
  const std::string pieces[] = {"/",
                                "docker",
                                "-",
                                kId,
                                "pod",
                                kPod,
                                kPodInSlice,
                                ".slice",
                                ":",
                                "_",
                                ".scope",
                                "crio",
                                "libpod_pod_",
                                ".service",
                                "\\x2d",
                                "a",
                                "",
                                "kubepods",
                                std::string(1, '\0'),
                                "\xff"};
  std::mt19937 random(1);
  for (int i = 0; i < 50'000; ++i) {
    std::string path;
    for (auto n = random() % 12; n > 0; --n) path += pieces[random() % std::size(pieces)];
    const auto found = parse_cgroup_path(path);
    for (const auto& id : {found.container.id, found.container.pod_uid})
      EXPECT_TRUE(id.empty() || id == kId || id == kPod) << path;
    EXPECT_NE(path.find(found.unit), std::string::npos) << path;
    EXPECT_TRUE(found.container.runtime.empty() || !found.container.id.empty()) << path;
  }
}

}  // namespace
