# What `cmake --install` puts where: headers, library, package files for CMake and pkg-config.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dsv32)
if(BUILD_SHARED_LIBS)
  set(kind shared)
else()
  set(kind static)
  set(DSV32_PC_CFLAGS "-DDSV32_STATIC")
endif()

install(TARGETS dsv32 EXPORT dsv32Targets FILE_SET HEADERS
  LIBRARY COMPONENT runtime NAMELINK_COMPONENT dev ARCHIVE COMPONENT dev)
install(EXPORT dsv32Targets FILE dsv32-${kind}-targets.cmake NAMESPACE dsv32::
  DESTINATION ${package_dir} COMPONENT dev)
configure_package_config_file(cmake/dsv32Config.cmake.in dsv32Config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(dsv32ConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dsv32Config.cmake ${PROJECT_BINARY_DIR}/dsv32ConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT dev)

file(RELATIVE_PATH DSV32_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/dsv32.pc.in dsv32.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dsv32.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT dev)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT dev)
if(TARGET dsv32-cli)
  set_target_properties(dsv32-cli PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS dsv32-cli COMPONENT tools)
endif()
