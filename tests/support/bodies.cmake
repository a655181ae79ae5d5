# What the tests and, with them, the examples are linked with. Included at the top, because the packages that are found are known only
# from there down.

find_package(Catch2 QUIET)
if(NOT Catch2_FOUND)
  message(FATAL_ERROR "Arke's tests need Catch2 (2.13 or 3). On Debian 12 install catch2, or configure with "
    "-DARKE_TESTS=OFF.")
endif()

# Everything in the tests' programs is compiled with the same flags, so that they share one precompiled header. It holds what Arke stands
# on and nothing of Arke, so that a change to Arke does not cost it.
add_library(arke_separate INTERFACE)
target_link_libraries(arke_separate INTERFACE arke::arke)
target_compile_definitions(arke_separate INTERFACE ARKE_SEPARATE_COMPILATION)

add_library(arke_test_base INTERFACE)
target_link_libraries(arke_test_base INTERFACE arke_separate arke_warnings arke_sanitizers Catch2::Catch2)
target_include_directories(arke_test_base INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(arke_test_base INTERFACE ARKE_TESTS_DIR="${PROJECT_SOURCE_DIR}/tests")
if(arke_own_build_type)
  target_compile_options(arke_test_base INTERFACE $<IF:$<BOOL:$<TARGET_PROPERTY:ARKE_NOT_OPTIMISED>>,-O0,-O1> -g1)
endif()

# Arke's bodies, once, and the cases of RFC 6455; the owner of the precompiled header.
add_library(arke_bodies STATIC ${PROJECT_SOURCE_DIR}/tests/support/arke_src.cpp
  ${PROJECT_SOURCE_DIR}/tests/conformance/cases.cpp)
target_link_libraries(arke_bodies PUBLIC arke_test_base)
set(arke_precompiled_headers
  <algorithm> <array> <atomic> <chrono> <cstddef> <cstdint> <cstring> <deque> <functional> <future> <map> <memory>
  <optional> <random> <set> <span> <sstream> <string> <string_view> <thread> <type_traits> <unordered_map>
  <utility> <variant> <vector>
  <boost/asio.hpp> <boost/beast/core.hpp> <boost/beast/http.hpp> <boost/beast/websocket.hpp> <nlohmann/json.hpp>
  ${PROJECT_SOURCE_DIR}/tests/support/catch.hpp)
target_precompile_headers(arke_bodies PRIVATE ${arke_precompiled_headers})
