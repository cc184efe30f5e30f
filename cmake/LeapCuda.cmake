# CUDA and NCCL for engine/cuda: enables the language CUDA with nvcc from .deps/cuda (scripts/setup.sh --cuda) or
# LEAP_CUDA, and makes leap::torch_cuda (LibTorch with its CUDA half, c10d's ProcessGroupNCCL).
#
# Nothing here needs a GPU or its driver. What links leap::torch_cuda goes into one shared library of its own, loaded when
# a job asks for a GPU: leap_cuda_library(NAME SOURCES file... DEPS target...).

set(LEAP_CUDA "${PROJECT_SOURCE_DIR}/.deps/cuda" CACHE PATH "Folder with nvcc (bin/), CUDA's and NCCL's include/, lib/")
if(NOT EXISTS ${LEAP_CUDA}/bin/nvcc)
  message(FATAL_ERROR "there is no nvcc in ${LEAP_CUDA}/bin. Run scripts/setup.sh --cuda, or set LEAP_CUDA.")
endif()

# sm_80: A100; sm_90a: H100 and H200, with the instructions only they have.
set(CMAKE_CUDA_ARCHITECTURES "80;90a" CACHE STRING "GPU architectures")
set(CMAKE_CUDA_COMPILER ${LEAP_CUDA}/bin/nvcc CACHE FILEPATH "nvcc")
set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O2 -g1")
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)  # nvcc and LibTorch's headers agree on 17
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # the one libcudart that LibTorch uses

find_library(LEAP_TORCH_CUDA torch_cuda HINTS ${LEAP_CUDA} ${LEAP_TORCH_LIBDIR} PATH_SUFFIXES lib REQUIRED)
find_library(LEAP_TORCH_C10_CUDA c10_cuda HINTS ${LEAP_CUDA} ${LEAP_TORCH_LIBDIR} PATH_SUFFIXES lib REQUIRED)
foreach(part IN ITEMS CUDA C10_CUDA)
  add_library(leap_torch_${part} SHARED IMPORTED GLOBAL)
  set_target_properties(leap_torch_${part} PROPERTIES IMPORTED_LOCATION ${LEAP_TORCH_${part}})
endforeach()

add_library(leap_torch_cuda INTERFACE)
add_library(leap::torch_cuda ALIAS leap_torch_cuda)
target_compile_definitions(leap_torch_cuda INTERFACE USE_C10D_NCCL)
target_compile_options(leap_torch_cuda INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${LEAP_CUDA}/include>"
  $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>)  # as -ffp-contract=off on the CPU: every operation rounds on its own
target_link_libraries(leap_torch_cuda INTERFACE leap_torch leap_torch_CUDA leap_torch_C10_CUDA)

# leap_cuda_library(NAME SOURCES file... DEPS target...): shared library libleap_NAME.so, installed into lib/.
function(leap_cuda_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
  leap_check_arguments(leap_cuda_library "${arg_UNPARSED_ARGUMENTS}")
  add_library(leap_${name} SHARED ${arg_SOURCES})
  add_library(leap::${name} ALIAS leap_${name})
  target_include_directories(leap_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(leap_${name} PRIVATE ${arg_DEPS} leap_torch_cuda)
  # What libtorch_cuda needs in turn (NCCL, cuBLAS, cuDNN, the driver) is the running machine's.
  target_link_options(leap_${name} PRIVATE -Wl,--unresolved-symbols=ignore-in-shared-libs -Wl,--disable-new-dtags)
  install(TARGETS leap_${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()
