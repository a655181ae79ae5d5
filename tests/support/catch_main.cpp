// The test programs' main(). Compiled without the precompiled header: Catch2 2.13 defines its main in the first include
// of its header, or never.

#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>

int main(int argc, char* argv[]) { return Catch::Session().run(argc, argv); }
#else
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
// An exception that a future hands to another thread is counted inside libstdc++, which the sanitizer does not see into.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:std::__exception_ptr::exception_ptr::_M_release"; }
#endif
#endif
