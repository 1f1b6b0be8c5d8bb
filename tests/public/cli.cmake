# The program dsv32, driven as a person or a script drives it.
if(TARGET dsv32-cli AND Python3_FOUND)
  add_test(NAME cli.program COMMAND Python3::Interpreter
    ${CMAKE_CURRENT_SOURCE_DIR}/cli_test.py $<TARGET_FILE:dsv32-cli> ${PROJECT_SOURCE_DIR})
  set_tests_properties(cli.program PROPERTIES LABELS cli TIMEOUT 600)
endif()
if(Python3_FOUND AND TARGET dsv32-cli)
  add_test(NAME cli.full_size_fake COMMAND Python3::Interpreter
    ${CMAKE_CURRENT_SOURCE_DIR}/fake_test.py $<TARGET_FILE:dsv32-cli>
    ${PROJECT_SOURCE_DIR}/scripts/make_fake_checkpoint.py ${PROJECT_BINARY_DIR}/fake)
  set_tests_properties(cli.full_size_fake PROPERTIES LABELS cli TIMEOUT 300)
endif()
if(TARGET dsv32-cli AND Python3_FOUND)
  foreach(command make_model quantize)
    add_test(NAME cli.${command} COMMAND Python3::Interpreter
      ${CMAKE_CURRENT_SOURCE_DIR}/${command}_test.py $<TARGET_FILE:dsv32-cli> ${PROJECT_SOURCE_DIR})
    set_tests_properties(cli.${command} PROPERTIES LABELS cli TIMEOUT 600)
  endforeach()
endif()
