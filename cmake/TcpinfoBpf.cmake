# SPDX-License-Identifier: BSD-2-Clause
find_program(TCPINFO_CLANG clang REQUIRED DOC "clang with the BPF target")
find_program(TCPINFO_BPFTOOL bpftool REQUIRED PATHS /usr/sbin /sbin DOC "bpftool, which makes the skeletons")

# tcpinfo_bpf_skeleton(NAME SOURCE): compiles SOURCE for BPF and makes the header NAME.skel.h of it. Gives the interface
# target NAME_skeleton: who links it finds the header and waits for it.
function(tcpinfo_bpf_skeleton name source)
  cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  set(directory "${CMAKE_CURRENT_BINARY_DIR}/skeletons")
  set(compiled "${directory}/${name}.compiled.o")
  set(object "${directory}/${name}.bpf.o")
  set(header "${directory}/${name}.skel.h")
  file(MAKE_DIRECTORY "${directory}")
  set(includes "")
  if(CMAKE_LIBRARY_ARCHITECTURE)
    list(APPEND includes -idirafter "/usr/include/${CMAKE_LIBRARY_ARCHITECTURE}")
  endif()
  add_custom_command(
    OUTPUT "${compiled}"
    COMMAND "${TCPINFO_CLANG}" -g -O2 -target bpf -mcpu=v3 -Wall -Wextra -Werror ${includes} -MD -MF "${compiled}.d"
            -MT "${compiled}" -c "${source}" -o "${compiled}"
    DEPENDS "${source}"
    DEPFILE "${compiled}.d"
    COMMENT "BPF ${name}" VERBATIM)
  add_custom_command(
    OUTPUT "${object}" "${header}"
    COMMAND "${TCPINFO_BPFTOOL}" gen object "${object}" "${compiled}"
    COMMAND "${TCPINFO_BPFTOOL}" gen skeleton "${object}" name "${name}" > "${header}"
    DEPENDS "${compiled}"
    COMMENT "Skeleton ${name}" VERBATIM)
  add_custom_target(${name}_skeleton_files DEPENDS "${header}")
  add_library(${name}_skeleton INTERFACE)
  target_include_directories(${name}_skeleton SYSTEM INTERFACE "${directory}")
  target_link_libraries(${name}_skeleton INTERFACE PkgConfig::libbpf)
  add_dependencies(${name}_skeleton ${name}_skeleton_files)
  set_target_properties(${name}_skeleton PROPERTIES TCPINFO_BPF_OBJECT "${object}")
endfunction()
