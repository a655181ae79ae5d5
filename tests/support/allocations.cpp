#include "tests/support/allocations.hpp"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace {

thread_local std::size_t made = 0;
thread_local std::size_t left = 0;      // until it begins
thread_local std::size_t failures = 0;  // that are still to come
thread_local bool has_struck = false;
thread_local std::ptrdiff_t held = 0;
thread_local std::ptrdiff_t most_held = 0;

std::ptrdiff_t size_of(void* memory) noexcept { return static_cast<std::ptrdiff_t>(::malloc_usable_size(memory)); }

bool fails() noexcept {
    ++made;
    if (failures == 0) return false;
    if (left != 0) {
        --left;
        return false;
    }
    if (failures != arke::test::memory_shortage::for_good) --failures;
    return has_struck = true;
}

}  // namespace

// Also under a sanitizer, which still sees malloc and free: what it cannot see is memory of new given to free(), and an
// allocation that fails shows more. The thread sanitizer's own operators cannot be replaced: what calls them is linked to these
// functions instead, and what the standard library asks for within itself is not counted.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ARKE_TEST_WRAPS_NEW
#endif
#endif

#ifdef ARKE_TEST_WRAPS_NEW
// The names are those of --wrap, and of the operators in the ABI.
#define ARKE_TEST_NEW __wrap__Znwm
#define ARKE_TEST_NEW_NOTHROW __wrap__ZnwmRKSt9nothrow_t
#define ARKE_TEST_DELETE __wrap__ZdlPv
#define ARKE_TEST_DELETE_SIZED __wrap__ZdlPvm
#define ARKE_TEST_NEW_ARRAY __wrap__Znam
#define ARKE_TEST_DELETE_ARRAY __wrap__ZdaPv
#define ARKE_TEST_DELETE_ARRAY_SIZED __wrap__ZdaPvm
extern "C" {
void* __real__Znwm(std::size_t size);
void __real__ZdlPv(void* memory) noexcept;
void* __wrap__Znwm(std::size_t size);
void* __wrap__ZnwmRKSt9nothrow_t(std::size_t size, const std::nothrow_t&) noexcept;
void __wrap__ZdlPv(void* memory) noexcept;
void __wrap__ZdlPvm(void* memory, std::size_t) noexcept;
void* __wrap__Znam(std::size_t size);
void __wrap__ZdaPv(void* memory) noexcept;
void __wrap__ZdaPvm(void* memory, std::size_t) noexcept;
}
namespace {
void* allocate(std::size_t size) { return __real__Znwm(size); }
void release(void* memory) noexcept { __real__ZdlPv(memory); }
}  // namespace
#else
#define ARKE_TEST_NEW operator new
#define ARKE_TEST_NEW_NOTHROW operator new
#define ARKE_TEST_DELETE operator delete
#define ARKE_TEST_DELETE_SIZED operator delete
#define ARKE_TEST_NEW_ARRAY operator new[]
#define ARKE_TEST_DELETE_ARRAY operator delete[]
#define ARKE_TEST_DELETE_ARRAY_SIZED operator delete[]
namespace {
void* allocate(std::size_t size) { return std::malloc(size == 0 ? 1 : size); }
void release(void* memory) noexcept { std::free(memory); }
}  // namespace
#endif

// Not inlined: g++ would see new's memory given to free() and warn.
[[gnu::noinline]] void* ARKE_TEST_NEW(std::size_t size) {
    void* const memory = fails() ? nullptr : allocate(size);
    if (memory == nullptr) throw std::bad_alloc{};
    most_held = std::max(most_held, held += size_of(memory));
    return memory;
}
// A sanitizer has one of its own, whose memory our operator delete would not know.
[[gnu::noinline]] void* ARKE_TEST_NEW_NOTHROW(std::size_t size, const std::nothrow_t&) noexcept {
    try {
        return ARKE_TEST_NEW(size);
    } catch (...) {
        return nullptr;
    }
}
[[gnu::noinline]] void ARKE_TEST_DELETE(void* memory) noexcept {
    held -= size_of(memory);
    release(memory);
}
[[gnu::noinline]] void ARKE_TEST_DELETE_SIZED(void* memory, std::size_t) noexcept { ARKE_TEST_DELETE(memory); }
// The standard library's call those above, a sanitizer's do not.
[[gnu::noinline]] void* ARKE_TEST_NEW_ARRAY(std::size_t size) { return ARKE_TEST_NEW(size); }
[[gnu::noinline]] void ARKE_TEST_DELETE_ARRAY(void* memory) noexcept { ARKE_TEST_DELETE(memory); }
[[gnu::noinline]] void ARKE_TEST_DELETE_ARRAY_SIZED(void* memory, std::size_t) noexcept { ARKE_TEST_DELETE(memory); }

// What Asio keeps its operations in.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
    void* memory = nullptr;
    return fails() || ::posix_memalign(&memory, std::max(alignment, sizeof memory), size) != 0 ? nullptr : memory;
}

namespace arke::test {

std::size_t allocations() noexcept { return made; }

std::ptrdiff_t bytes_held() noexcept { return held; }

memory_peak::memory_peak() noexcept : before_{most_held = held} {}

std::size_t memory_peak::bytes() const noexcept { return static_cast<std::size_t>(most_held - before_); }

memory_shortage::memory_shortage(std::size_t nth, std::size_t times) noexcept {
    left = nth;
    failures = times;
    has_struck = false;
}

memory_shortage::~memory_shortage() { failures = 0; }

bool memory_shortage::struck() const noexcept { return has_struck; }

}  // namespace arke::test
