# SPDX-License-Identifier: BSD-2-Clause
include("${CMAKE_CURRENT_LIST_DIR}/verify.cmake")

file(REMOVE_RECURSE "${WORK}")
run(ignored "${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}/subdirectory" -B "${WORK}/build" -G "${GENERATOR}"
    "-DTCPINFO_SOURCE=${SOURCE}" "-DBUILD_SHARED_LIBS=${SHARED}" -DTCPINFO_INSTALL=ON "-DCMAKE_CXX_COMPILER=${CXX}")
run(ignored "${CMAKE_COMMAND}" --build "${WORK}/build")
expect_consumer("${WORK}/build/consumer")
run(ignored "${CMAKE_COMMAND}" --install "${WORK}/build" --prefix "${WORK}/prefix")
verify_package("${WORK}/prefix")
