# Writes OUT from IN with the commit of SOURCE, at every build; OUT is touched only when it changes.
# cmake -DSOURCE=... -DVERSION=... -DIN=... -DOUT=... -P commit.cmake
execute_process(COMMAND git -C "${SOURCE}" describe --always --dirty
                OUTPUT_VARIABLE JEPA_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT JEPA_COMMIT)
  set(JEPA_COMMIT "unknown")
endif()
set(PROJECT_VERSION "${VERSION}")
configure_file("${IN}" "${OUT}" @ONLY)
