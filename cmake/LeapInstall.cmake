# cmake --install: a tree that can be put anywhere. bin/ has the programs, lib/ the shared libraries they were built against;
# the C and C++ run-time libraries come from the machine. With LEAP_INSTALL_LIBTORCH=OFF LibTorch (450 MB) stays out, and
# LD_LIBRARY_PATH says where it is.

option(LEAP_INSTALL_LIBTORCH "Install LibTorch beside the programs" ON)

set(leap_left_out "^(ld-linux.*|libc|libm|libdl|librt|libutil|libpthread|libresolv|libstdc\\+\\+|libgcc_s|libasan|libubsan|libtsan)\\.so.*")
if(NOT LEAP_INSTALL_LIBTORCH)
  list(APPEND leap_left_out "^(libtorch.*|libc10.*|libcudart|libcupti|libgomp)\\.so.*")
endif()

get_property(has_binaries GLOBAL PROPERTY LEAP_HAS_BINARIES)
if(has_binaries)
  install(RUNTIME_DEPENDENCY_SET leap_runtime
    PRE_EXCLUDE_REGEXES ${leap_left_out}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/leap)
install(FILES docs/job.schema.json DESTINATION ${CMAKE_INSTALL_DATADIR}/leap/docs)  # the examples name it to editors
if(EXISTS ${PROJECT_SOURCE_DIR}/examples)
  install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DATADIR}/leap FILES_MATCHING PATTERN "*.yaml")
endif()
