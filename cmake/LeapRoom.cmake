# How a room declares its targets. Includes read from the repository's root: #include "core/regime.h".

# leap_library(NAME SOURCES file... DEPS target...): static library leap_NAME, used as leap::NAME. A list of headers
# alone makes an interface library.
function(leap_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
  leap_check_arguments(leap_library "${arg_UNPARSED_ARGUMENTS}")
  set(implementation ${arg_SOURCES})
  list(FILTER implementation INCLUDE REGEX "\\.cc$")
  if(implementation)
    add_library(leap_${name} STATIC ${arg_SOURCES})
    target_include_directories(leap_${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(leap_${name} PUBLIC ${arg_DEPS} PRIVATE leap_warnings)
  else()
    add_library(leap_${name} INTERFACE)
    target_include_directories(leap_${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(leap_${name} INTERFACE ${arg_DEPS})
  endif()
  add_library(leap::${name} ALIAS leap_${name})
endfunction()

# leap_binary(NAME SOURCES file... DEPS target...): program NAME in the room's build folder, installed into bin/.
function(leap_binary name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
  leap_check_arguments(leap_binary "${arg_UNPARSED_ARGUMENTS}")
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} leap_warnings)
  # DT_RPATH, not DT_RUNPATH: the libraries installed beside it must find one another too.
  target_link_options(${name} PRIVATE -Wl,--disable-new-dtags)
  install(TARGETS ${name} RUNTIME_DEPENDENCY_SET leap_runtime RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  set_property(GLOBAL PROPERTY LEAP_HAS_BINARIES TRUE)
endfunction()

# leap_test(NAME SOURCES file... DEPS target... [TIMEOUT seconds] [LABELS label...] [BINARIES target...]): one GoogleTest
# program and one ctest entry, both called NAME. One program per room keeps linking cheap; ctest -R and --gtest_filter
# pick. Test data and built programs are found through base/test_paths.h; BINARIES are the programs that the test starts,
# so that they are built first.
function(leap_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;DEPS;LABELS;BINARIES")
  leap_check_arguments(leap_test "${arg_UNPARSED_ARGUMENTS}")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} leap_test_paths GTest::gmock GTest::gtest GTest::gtest_main leap_warnings)
  if(arg_BINARIES)
    add_dependencies(${name} ${arg_BINARIES})
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
  if(LEAP_SANITIZE STREQUAL "address")
    set_property(TEST ${name} PROPERTY ENVIRONMENT LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/lsan.supp)
  endif()
endfunction()

function(leap_check_arguments function unparsed)
  if(unparsed)
    message(FATAL_ERROR "${function}: does not know what to do with: ${unparsed}")
  endif()
endfunction()
