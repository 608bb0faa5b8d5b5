# SPDX-License-Identifier: BSD-2-Clause
# The installed package: headers, library, CMake package tcpinfo (targets tcpinfo::tcpinfo and tcpinfo::asio), and
# tcpinfo.pc. Programs have their install() rule where they are made.
include(CMakePackageConfigHelpers)

install(DIRECTORY libtcpinfo/include/tcpinfo DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES bpf/tcpinfo_fields.h bpf/tcpinfo_record.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/tcpinfo")

# Apart, so that who does not use Asio needs no Boost.
install(TARGETS tcpinfo EXPORT tcpinfoTargets)
install(TARGETS tcpinfo_asio EXPORT tcpinfoAsioTargets)

set(package_directory "${CMAKE_INSTALL_LIBDIR}/cmake/tcpinfo")
foreach(export tcpinfoTargets tcpinfoAsioTargets)
  install(EXPORT ${export} NAMESPACE tcpinfo:: DESTINATION "${package_directory}")
endforeach()

get_target_property(library_type tcpinfo TYPE)
set(TCPINFO_IS_STATIC FALSE)
set(TCPINFO_PC_REQUIRES "fmt")
set(TCPINFO_PC_REQUIRES_PRIVATE "libbpf >= 1.1, libcap >= 2.44, libzstd >= 1.4")
if(library_type STREQUAL "STATIC_LIBRARY")
  # So that it links without --static too, which would ask for static libraries of the system.
  set(TCPINFO_IS_STATIC TRUE)
  string(APPEND TCPINFO_PC_REQUIRES ", ${TCPINFO_PC_REQUIRES_PRIVATE}")
  set(TCPINFO_PC_REQUIRES_PRIVATE "")
endif()

configure_package_config_file(cmake/tcpinfoConfig.cmake.in "${PROJECT_BINARY_DIR}/package/tcpinfoConfig.cmake"
                              INSTALL_DESTINATION "${package_directory}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/tcpinfoConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/package/tcpinfoConfig.cmake"
              "${PROJECT_BINARY_DIR}/package/tcpinfoConfigVersion.cmake"
        DESTINATION "${package_directory}")

# The prefix is found from the file's own place: cmake --install --prefix may choose any.
file(RELATIVE_PATH TCPINFO_PC_PREFIX "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" TCPINFO_PC_PREFIX "${TCPINFO_PC_PREFIX}")
configure_file(cmake/tcpinfo.pc.in "${PROJECT_BINARY_DIR}/package/tcpinfo.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/package/tcpinfo.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
