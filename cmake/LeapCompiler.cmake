# How every file of Leap is compiled: language, warnings, floating point, sanitizers, ccache.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)  # one set of flags, so that precompiled headers can be shared

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
# Line tables only: full debug information of LibTorch's headers costs more than the optimiser does.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

# Candidates are verified on one machine and recomputed on another; both must round every operation on its own.
add_compile_options(-ffp-contract=off)

# Some system packages ask for -pthread and some do not; a shared precompiled header needs one answer.
add_compile_options(-pthread)
add_link_options(-pthread)

# What our own files answer for; generated code does not link this.
add_library(leap_warnings INTERFACE)
target_compile_options(leap_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  # GCC 12 at -O3 sees overlaps in std::string's own operator+ (GCC bug 105651) and reads of unset memory in
  # absl::StatusOr's destructor that are not there.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<CONFIG:Release>>:-Wno-maybe-uninitialized>
  $<$<BOOL:${LEAP_WERROR}>:-Werror>)

if(LEAP_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(LEAP_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(NOT LEAP_SANITIZE STREQUAL "")
  message(FATAL_ERROR "LEAP_SANITIZE is '${LEAP_SANITIZE}'; expected address, thread or nothing")
endif()

find_program(LEAP_CCACHE ccache)
if(LEAP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness lets ccache serve files that use a precompiled header; the base folder, clones and presets share.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${LEAP_CCACHE})
endif()

# Installed binaries find their libraries beside them, wherever the tree is put.
set(CMAKE_INSTALL_LIBDIR lib)  # beside bin/ on every distribution
include(GNUInstallDirs)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
