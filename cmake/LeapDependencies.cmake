# System packages, found once. Rooms name the targets in their DEPS:
#   absl::…  gRPC::grpc++  protobuf::libprotobuf  prometheus-cpp::core  prometheus-cpp::pull  yaml-cpp  SQLite::SQLite3
#   spdlog::spdlog  nlohmann_json::nlohmann_json  CLI11::CLI11  leap::pcre2  leap::xxhash  benchmark::benchmark

find_package(Threads REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(yaml-cpp CONFIG REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(GTest CONFIG REQUIRED)
find_package(benchmark CONFIG)

# leap_system_library(NAME HEADER LIBRARY): leap::NAME for a library whose package has no CMake file.
function(leap_system_library name header library)
  find_path(LEAP_${name}_INCLUDE ${header} REQUIRED)
  find_library(LEAP_${name}_LIBRARY ${library} REQUIRED)
  add_library(leap::${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(leap::${name} PROPERTIES
    IMPORTED_LOCATION ${LEAP_${name}_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${LEAP_${name}_INCLUDE})
endfunction()
leap_system_library(pcre2 pcre2.h pcre2-8)
leap_system_library(xxhash xxhash.h xxhash)
