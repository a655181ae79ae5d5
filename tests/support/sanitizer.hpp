#pragma once

/// Under which sanitizer the tests run: some do what one of these does in another way, or has a function for itself.

#if defined(__SANITIZE_ADDRESS__)
#define ARKE_TEST_HAS_SANITIZER
#elif defined(__SANITIZE_THREAD__)
#define ARKE_TEST_HAS_SANITIZER
#define ARKE_TEST_HAS_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ARKE_TEST_HAS_SANITIZER
#define ARKE_TEST_HAS_THREAD_SANITIZER
#elif __has_feature(address_sanitizer)
#define ARKE_TEST_HAS_SANITIZER
#endif
#endif
