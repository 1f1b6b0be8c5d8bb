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
if(IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  # CMake puts the prefix before a file set's absolute directory all the same.
  cmake_path(IS_ABSOLUTE package_dir absolute)
  set(targets ${package_dir}/dsv32-${kind}-targets.cmake)
  if(NOT absolute)
    set(targets "\${CMAKE_INSTALL_PREFIX}/${targets}")
  endif()
  install(CODE "set(targets \"\$ENV{DESTDIR}${targets}\")
    file(READ \"\${targets}\" text)
    string(REPLACE \"\\\${_IMPORT_PREFIX}/${CMAKE_INSTALL_INCLUDEDIR}\" \"${CMAKE_INSTALL_INCLUDEDIR}\"
      text \"\${text}\")
    file(WRITE \"\${targets}\" \"\${text}\")" COMPONENT dev)
endif()
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/dsv32Config.cmake.in dsv32Config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(dsv32ConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dsv32Config.cmake ${PROJECT_BINARY_DIR}/dsv32ConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT dev)

# Directories below the prefix move with it, and are told as seen from the file itself; absolute ones
# stay where they are.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(DSV32_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH up ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
  string(REGEX REPLACE "/$" "" up ${up})
  set(DSV32_PC_PREFIX "\${pcfiledir}/${up}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
  if(IS_ABSOLUTE ${CMAKE_INSTALL_${dir}})
    set(DSV32_PC_${dir} ${CMAKE_INSTALL_${dir}})
  else()
    set(DSV32_PC_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
configure_file(${CMAKE_CURRENT_LIST_DIR}/dsv32.pc.in dsv32.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dsv32.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT dev)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/../LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT dev)
if(TARGET dsv32-cli)
  if(IS_ABSOLUTE ${CMAKE_INSTALL_BINDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
    set(rpath ${CMAKE_INSTALL_FULL_LIBDIR})
  else()
    file(RELATIVE_PATH rpath ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
    set(rpath "$ORIGIN/${rpath}")
  endif()
  set_target_properties(dsv32-cli PROPERTIES INSTALL_RPATH "${rpath}")
  install(TARGETS dsv32-cli COMPONENT tools)
endif()
