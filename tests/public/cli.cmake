# The program dsv32, driven as a person or a script drives it.
if(TARGET dsv32-cli AND Python3_FOUND)
  foreach(name commands chat terminal pipes signals make_model quantize hub messages files batch saves best_of drafts)
    add_test(NAME cli.${name} COMMAND Python3::Interpreter
      ${CMAKE_CURRENT_SOURCE_DIR}/${name}_test.py $<TARGET_FILE:dsv32-cli> ${PROJECT_SOURCE_DIR})
    set_tests_properties(cli.${name} PROPERTIES LABELS cli TIMEOUT 600)
  endforeach()
  set_tests_properties(cli.quantize PROPERTIES COST 50)
  if(NOT DSV32_SANITIZE)  # whose runtime wants to be the first that is loaded
    add_library(refusing MODULE refusing.cc)
    target_link_libraries(refusing PRIVATE dsv32_flags ${CMAKE_DL_LIBS})
    add_test(NAME cli.machine COMMAND Python3::Interpreter
      ${CMAKE_CURRENT_SOURCE_DIR}/machine_test.py $<TARGET_FILE:dsv32-cli> ${PROJECT_SOURCE_DIR}
      $<TARGET_FILE:refusing>)
    set_tests_properties(cli.machine PROPERTIES LABELS cli TIMEOUT 600)
  endif()
  add_test(NAME cli.full_size_fake COMMAND Python3::Interpreter
    ${CMAKE_CURRENT_SOURCE_DIR}/fake_test.py $<TARGET_FILE:dsv32-cli>
    ${PROJECT_SOURCE_DIR}/scripts/make_fake_checkpoint.py ${PROJECT_BINARY_DIR}/fake)
  set_tests_properties(cli.full_size_fake PROPERTIES LABELS cli TIMEOUT 300)
endif()
