# Installs the built tree into a fresh prefix, then configures, builds and runs tests/consumer
# against it. Run by ctest: cmake -DBUILD=... -DSOURCE=... -DWORK=... -P install_test.cmake
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
  message("${out}")
  if(NOT code EQUAL 0)
    list(JOIN ARGV " " line)
    message(FATAL_ERROR "failed (${code}): ${line}")
  endif()
  set(output "${out}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${WORK}")
run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix")

# Headers keep their places: what is included from the source tree is included when installed.
foreach(header jepa/model.hpp encoders/registry.hpp predictors/registry.hpp
        eval/report/run_report.hpp)
  if(NOT EXISTS "${WORK}/prefix/include/libjepa/${header}")
    message(FATAL_ERROR "${header} was not installed")
  endif()
endforeach()

# Nothing installed may point back at the source or build tree.
file(GLOB configs "${WORK}/prefix/lib*/cmake/jepa/*.cmake"
     "${WORK}/prefix/lib*/*/cmake/jepa/*.cmake")
foreach(config ${configs})
  file(READ "${config}" text)
  foreach(tree "${SOURCE}/jepa" "${SOURCE}/eval" "${BUILD}/")
    string(FIND "${text}" "${tree}" position)
    if(NOT position EQUAL -1)
      message(FATAL_ERROR "${config} names ${tree}")
    endif()
  endforeach()
endforeach()

# What each component brings, what is refused and how.
file(STRINGS "${BUILD}/CMakeCache.txt" shared REGEX "^BUILD_SHARED_LIBS:BOOL=(ON|1|TRUE)$")
if(shared)
  set(shared ON)
endif()
run("${CMAKE_COMMAND}" -S "${SOURCE}/tests/consumer/components" -B "${WORK}/components"
    "-DCMAKE_PREFIX_PATH=${WORK}/prefix" "-DSHARED=${shared}")

# An installation with the sanitizers' checks asks for their library.
set(flags "")
file(STRINGS "${BUILD}/CMakeCache.txt" sanitized REGEX "^JEPA_SANITIZE:BOOL=(ON|1|TRUE)$")
if(sanitized)
  set(flags "-fsanitize=address,undefined")
endif()

# The core alone: packages that it does without are not to be found.
run("${CMAKE_COMMAND}" -S "${SOURCE}/tests/consumer" -B "${WORK}/core" -DCORE_ONLY=ON
    "-DCMAKE_PREFIX_PATH=${WORK}/prefix" -DCMAKE_BUILD_TYPE=Debug
    "-DCMAKE_CXX_FLAGS=${flags}"
    -DCMAKE_DISABLE_FIND_PACKAGE_Boost=ON -DCMAKE_DISABLE_FIND_PACKAGE_HDF5=ON
    -DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON
    -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)
run("${CMAKE_COMMAND}" --build "${WORK}/core")
execute_process(COMMAND ldd "${WORK}/core/consumer" OUTPUT_VARIABLE libraries)
if(libraries MATCHES "libav|hdf5|boost")
  message(FATAL_ERROR "the core's consumer links more than LibTorch:\n${libraries}")
endif()
run("${WORK}/core/consumer")
set(core_output "${output}")

# Everything, and what a person adds to it.
run("${CMAKE_COMMAND}" -S "${SOURCE}/tests/consumer" -B "${WORK}/build"
    "-DCMAKE_PREFIX_PATH=${WORK}/prefix" -DCMAKE_BUILD_TYPE=Debug
    "-DCMAKE_CXX_FLAGS=${flags}")
run("${CMAKE_COMMAND}" --build "${WORK}/build")
run("${CMAKE_COMMAND}" -E chdir "${WORK}/build" "${WORK}/build/consumer")
set(output "${core_output}")
if(NOT output MATCHES "grid 4 x 4 x 4, tokens \\[1, 64, 192\\]")
  message(FATAL_ERROR "the consumer said: ${output}")
endif()
file(REMOVE_RECURSE "${WORK}")
