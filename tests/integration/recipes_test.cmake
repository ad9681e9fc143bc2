# Every recipe is understood: pretrain gets as far as looking for the data, which is not there.
file(GLOB recipes "${SOURCE}/examples/configs/*.ini")
foreach(recipe IN LISTS recipes)
  if(recipe MATCHES "_data.ini$")
    continue()  # recipes of data, read through `data = ...`
  endif()
  execute_process(COMMAND "${BUILD}/examples/pretrain" --config "${recipe}" --data "${WORK}/absent"
                          --run "${WORK}/run"
                  RESULT_VARIABLE result ERROR_VARIABLE error OUTPUT_QUIET)
  if(NOT result EQUAL 1 OR NOT error MATCHES "absent: no such file")
    message(FATAL_ERROR "${recipe}: exit ${result}, ${error}")
  endif()
  list(APPEND read "${recipe}")
endforeach()
list(LENGTH read count)
if(count LESS 8)
  message(FATAL_ERROR "only ${count} recipes found")
endif()
