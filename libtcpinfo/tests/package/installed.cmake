# SPDX-License-Identifier: BSD-2-Clause
include("${CMAKE_CURRENT_LIST_DIR}/verify.cmake")

file(REMOVE_RECURSE "${WORK}")
run(ignored "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix")
verify_headers("${WORK}/prefix")
verify_package("${WORK}/prefix")
