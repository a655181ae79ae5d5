# Uses Arke as other projects do. Called with -DWAY=add_subdirectory|fetch_content|find_package|old_boost,
# -DARKE_SOURCE_DIR, -DARKE_BINARY_DIR (a configured build of Arke, to install from), -DWORK_DIR, -DGENERATOR, -DMAKE_PROGRAM,
# -DCOMPILER.

set(configure ${CMAKE_COMMAND} -G ${GENERATOR} -DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM} -DCMAKE_CXX_COMPILER=${COMPILER})

function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${what} failed (${result})")
  endif()
endfunction()

# Older builds stay, so that a second run compiles what changed; only what would hide a fault is removed.
file(REMOVE ${WORK_DIR}/build/CMakeCache.txt)
file(REMOVE_RECURSE ${WORK_DIR}/prefix)
file(MAKE_DIRECTORY ${WORK_DIR})

if(WAY STREQUAL old_boost)
  # Debian 12's plain libboost-dev, as CMake sees it: a package file and a header, both of 1.74.
  set(boost ${WORK_DIR}/prefix)
  file(WRITE ${boost}/include/boost/version.hpp "#define BOOST_VERSION 107400\n#define BOOST_LIB_VERSION \"1_74\"\n")
  file(WRITE ${boost}/lib/cmake/Boost-1.74.0/BoostConfig.cmake "")
  file(WRITE ${boost}/lib/cmake/Boost-1.74.0/BoostConfigVersion.cmake "set(PACKAGE_VERSION 1.74.0)\n"
    "if(NOT PACKAGE_FIND_VERSION VERSION_GREATER 1.74.0)\nset(PACKAGE_VERSION_COMPATIBLE 1)\nendif()\n")
  execute_process(
    COMMAND ${configure} -S ${ARKE_SOURCE_DIR} -B ${WORK_DIR}/build
      -DARKE_TESTS=OFF -DARKE_EXAMPLES=OFF
      -DCMAKE_PREFIX_PATH=${boost} -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF -DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message("${output}")
  if(result EQUAL 0)
    message(FATAL_ERROR "Boost 1.74 was accepted")
  endif()
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  foreach(words "only Boost 1.74.0 was found" "install libboost1.81-dev")
    if(NOT output MATCHES "${words}")
      message(FATAL_ERROR "Boost 1.74 was refused without the words '${words}'")
    endif()
  endforeach()
  return()
endif()

set(arguments -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK_DIR}/build -DWAY=${WAY})
if(WAY STREQUAL find_package)
  run("Installing Arke" ${CMAKE_COMMAND} --install ${ARKE_BINARY_DIR} --prefix ${WORK_DIR}/prefix)
  list(APPEND arguments -DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix)
else()
  list(APPEND arguments -DARKE_SOURCE_DIR=${ARKE_SOURCE_DIR})
endif()
run("Configuring the consumer" ${configure} ${arguments})

# Each program is compiled once, not in every way: a header-only Arke is compiled whole each time.
if(WAY STREQUAL add_subdirectory)
  set(program two_units)
elseif(WAY STREQUAL find_package)
  set(program separate)
else()
  return()
endif()
run("Building ${program}" ${CMAKE_COMMAND} --build ${WORK_DIR}/build --parallel --target ${program})
run("Running ${program}" ${WORK_DIR}/build/${program})
