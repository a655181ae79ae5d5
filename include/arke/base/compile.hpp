#pragma once

/// How the bodies of non-template functions are compiled.
///
/// By default every header brings its bodies along as inline functions: include <arke/arke.hpp> and nothing else.
/// A program that wants its own files to compile fast defines ARKE_SEPARATE_COMPILATION for all of them and includes
/// <arke/src.hpp> in exactly one: the bodies, and with them Boost.Beast, are then compiled there only. The definition
/// changes no layout, but all translation units of a program must agree on it.

#include <boost/version.hpp>

#if BOOST_VERSION < 108100
#error "Arke needs Boost 1.81 or newer. On Debian 12 install libboost1.81-dev: the plain libboost-dev there is 1.74."
#endif

#ifdef ARKE_SEPARATE_COMPILATION
#define ARKE_INLINE
#else
#define ARKE_INLINE inline
#endif

/// Bodies that run once for a connection or less often: compilers make them small, which is also quicker to compile.
#if defined(__GNUC__)
#define ARKE_COLD [[gnu::cold]]
#else
#define ARKE_COLD
#endif
#define ARKE_COLD_INLINE ARKE_COLD ARKE_INLINE

/// For the few functions that every message passes and that a call would make dearer by a half.
#if defined(__GNUC__)
#define ARKE_ALWAYS_INLINE [[gnu::always_inline]] inline
#elif defined(_MSC_VER)
#define ARKE_ALWAYS_INLINE __forceinline
#else
#define ARKE_ALWAYS_INLINE inline
#endif
