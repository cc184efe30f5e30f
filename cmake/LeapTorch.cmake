# LibTorch: leap::torch (headers and libraries) and leap_use_torch_pch(TARGET). Only engine/ may link these.
#
# Looked for in: LEAP_LIBTORCH (CMake variable, then environment), .deps/libtorch (scripts/setup.sh), CMAKE_PREFIX_PATH.
# The folder needs include/ and lib/ with libtorch_cpu.so and libc10.so. TorchConfig.cmake is not used: for a CUDA build
# of LibTorch it insists on a CUDA toolkit even where only the CPU half is wanted.

set(LEAP_LIBTORCH "$ENV{LEAP_LIBTORCH}" CACHE PATH "Folder with LibTorch's include/ and lib/")
if(LEAP_LIBTORCH)
  set(leap_torch_search PATHS ${LEAP_LIBTORCH} NO_DEFAULT_PATH)
else()
  set(leap_torch_search HINTS ${PROJECT_SOURCE_DIR}/.deps/libtorch)
endif()
find_path(LEAP_TORCH_INCLUDE torch/csrc/api/include/torch/torch.h ${leap_torch_search} PATH_SUFFIXES include)
find_library(LEAP_TORCH_CPU torch_cpu ${leap_torch_search} PATH_SUFFIXES lib)
find_library(LEAP_TORCH_C10 c10 ${leap_torch_search} PATH_SUFFIXES lib)
find_path(LEAP_GLOO_INCLUDE gloo/context.h)
if(NOT LEAP_TORCH_INCLUDE OR NOT LEAP_TORCH_CPU OR NOT LEAP_TORCH_C10 OR NOT LEAP_GLOO_INCLUDE)
  message(FATAL_ERROR
    "LibTorch or Gloo's headers were not found. Run scripts/setup.sh, or set LEAP_LIBTORCH to a folder with include/ and "
    "lib/, or configure with -DLEAP_WITH_TORCH=OFF to build the coordinator and leapctl alone.")
endif()
get_filename_component(LEAP_TORCH_LIBDIR ${LEAP_TORCH_CPU} DIRECTORY)
message(STATUS "LibTorch: ${LEAP_TORCH_LIBDIR}")

foreach(part IN ITEMS CPU C10)
  add_library(leap_torch_${part} SHARED IMPORTED GLOBAL)
  set_target_properties(leap_torch_${part} PROPERTIES IMPORTED_LOCATION ${LEAP_TORCH_${part}})
endforeach()

# -idirafter: the wheel's headers of other projects must never come before the system's. It also makes them system
# headers, so they raise no warnings.
add_library(leap_torch INTERFACE)
add_library(leap::torch ALIAS leap_torch)
foreach(folder IN ITEMS ${LEAP_TORCH_INCLUDE}/torch/csrc/api/include ${LEAP_TORCH_INCLUDE})
  target_compile_options(leap_torch INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${folder}>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler=-idirafter -Xcompiler=${folder}>")
endforeach()
target_compile_definitions(leap_torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO _GLIBCXX_USE_CXX11_ABI=1)
target_link_libraries(leap_torch INTERFACE leap_torch_CPU leap_torch_C10 Threads::Threads)
# CUDA's run-time libraries lie beside libtorch_cpu; a CPU program never calls them.
target_link_options(leap_torch INTERFACE -Wl,-rpath-link,${LEAP_TORCH_LIBDIR} -Wl,--allow-shlib-undefined)

# leap_use_torch_pch(TARGET): gives the target's files the precompiled <torch/torch.h>, built once. A file that includes
# only narrow <ATen/ops/…> headers is faster without (set its SKIP_PRECOMPILE_HEADERS property).
function(leap_use_torch_pch target)
  if(NOT TARGET leap_torch_pch)
    set(anchor ${PROJECT_BINARY_DIR}/torch_pch.cc)
    file(CONFIGURE OUTPUT ${anchor} CONTENT "// Holds the precompiled header that engine/ shares.\n")
    add_library(leap_torch_pch STATIC ${anchor})
    target_link_libraries(leap_torch_pch PRIVATE leap_torch leap_warnings)
    target_precompile_headers(leap_torch_pch PRIVATE <torch/torch.h>)
    leap_pch_for_ccache(leap_torch_pch)
  endif()
  target_precompile_headers(${target} REUSE_FROM leap_torch_pch)
  leap_pch_for_ccache(${target})
endfunction()

function(leap_pch_for_ccache target)
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>
    "$<$<CXX_COMPILER_ID:Clang>:SHELL:-Xclang -fno-pch-timestamp>")
endfunction()
