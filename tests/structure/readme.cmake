# The README shows examples/hello.cpp to the letter: cmake -DROOT=... -P readme.cmake
file(READ ${ROOT}/README.md readme)
file(READ ${ROOT}/examples/hello.cpp program)
string(FIND "${readme}" "```cpp\n${program}```\n" at)
if(at EQUAL -1)
  message(FATAL_ERROR "README.md does not show examples/hello.cpp as it is: copy it there, between ```cpp and ```.")
endif()
