# SPDX-License-Identifier: BSD-2-Clause
# What all our own targets share: C++20, warnings, the sanitizers asked for, hidden symbols.
function(tcpinfo_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                                             CXX_EXTENSIONS OFF)
  if(TCPINFO_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${TCPINFO_SANITIZE} -fno-omit-frame-pointer
                                             -fno-sanitize-recover=all)
    if(TCPINFO_SANITIZE STREQUAL "thread")
      # Asio's fences: GCC says at each that it cannot follow them.
      target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
    endif()
    target_link_options(${target} PUBLIC -fsanitize=${TCPINFO_SANITIZE})
  endif()
endfunction()

# tcpinfo_test(NAME LABEL SOURCES... [LIBRARIES ...]): a GoogleTest program, its cases labelled unit, kernel or validate.
function(tcpinfo_test name label)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "SOURCES;LIBRARIES")
  add_executable(${name} ${arg_SOURCES})
  tcpinfo_target(${name})
  # To optimise a test takes as long as to compile it, and what it tests is optimised.
  target_compile_options(${name} PRIVATE -O0)
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} GTest::gtest GTest::gmock GTest::gtest_main)
  include(GoogleTest)
  # What is not a unit test counts what one kernel does: one at a time, also under ctest -j.
  set(lock "")
  if(NOT label STREQUAL "unit")
    set(lock RESOURCE_LOCK kernel)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS ${label} TIMEOUT 120 ${lock})
endfunction()
