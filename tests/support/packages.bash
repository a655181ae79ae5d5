# What tests/run and examples/run share: installing what is missing, and telling what could not be installed.
# Sourced, not run, by scripts that have set root to the top of the repository.
: "${root:?}"

# What the C++ tests want, but for a compiler: what of it is missing skips its tests.
# shellcheck disable=SC2034  # for those who source this
test_packages=(cmake ninja-build libboost1.81-dev nlohmann-json3-dev catch2 liburing-dev libssl-dev
    libhiredis-dev redis-server libnats-dev nats-server)

say() { printf '\n== %s\n' "$*"; }

# version_at_least FOUND WANTED
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

boost_is_new_enough() {
    local header
    for header in /usr/include/boost/version.hpp /usr/local/include/boost/version.hpp; do
        [ -r "$header" ] && [ "$(awk '$2 == "BOOST_VERSION" { print $3 }' "$header")" -ge 108100 ] && return 0
    done
    return 1
}

node_is_new_enough() {
    command -v node >/dev/null && version_at_least "$(node --version | tr -d v)" 18
}

# is_present PACKAGE: whether a Debian package is installed, or what it brings came here in another way.
is_present() {
    if command -v dpkg-query >/dev/null &&
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; then
        [ "$1" != nodejs ] || node_is_new_enough
        return
    fi
    case "$1" in
        cmake | chromium | clang | valgrind | strace) command -v "$1" >/dev/null ;;
        ninja-build) command -v ninja >/dev/null ;;
        g++) command -v g++ >/dev/null ;;
        llvm) command -v llvm-cov >/dev/null && command -v llvm-profdata >/dev/null ;;
        libboost1.81-dev) boost_is_new_enough ;;
        nlohmann-json3-dev) [ -r /usr/include/nlohmann/json.hpp ] || [ -r /usr/local/include/nlohmann/json.hpp ] ;;
        catch2) [ -d /usr/include/catch2 ] || [ -d /usr/local/include/catch2 ] ;;
        nodejs) node_is_new_enough ;;
        npm) command -v npm >/dev/null ;;
        python3-websockets) /usr/bin/python3 -c 'import websockets' 2>/dev/null ;;
        iproute2) command -v ip >/dev/null ;;
        liburing-dev) [ -r /usr/include/liburing.h ] || [ -r /usr/local/include/liburing.h ] ;;
        libhiredis-dev) [ -r /usr/include/hiredis/read.h ] || [ -r /usr/local/include/hiredis/read.h ] ;;
        libnats-dev) [ -r /usr/include/nats/nats.h ] || [ -r /usr/local/include/nats/nats.h ] ;;
        redis-server | nats-server) (PATH=$PATH:/usr/sbin:/usr/local/sbin && command -v "$1" >/dev/null) ;;
        libwebsockets-dev) [ -r /usr/include/libwebsockets.h ] || [ -r /usr/local/include/libwebsockets.h ] ;;
        libwebsocketpp-dev)
            [ -r /usr/include/websocketpp/server.hpp ] || [ -r /usr/local/include/websocketpp/server.hpp ]
            ;;
        libclang-rt-14-dev)
            # Any clang but Debian 12's own brings its sanitizers along.
            [ -n "$(find /usr/lib/llvm-*/lib/clang /usr/lib/clang -name 'libclang_rt.tsan*' -print -quit 2>/dev/null)" ]
            ;;
        *) return 1 ;;
    esac
}

missing_packages() {
    local package
    for package in "$@"; do
        is_present "$package" || printf '%s\n' "$package"
    done
}

is_debian_12() {
    # shellcheck source=/dev/null
    [ -r /etc/os-release ] && (. /etc/os-release && [ "${ID-}" = debian ] && [ "${VERSION_ID-}" = 12 ])
}

# install_missing PACKAGE...: with apt on Debian 12 when we may. What is missing after that is told, and is no failure:
# the build, or a skipped test, says what it lacks.
install_missing() {
    local missing=() as_root=()
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0

    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            as_root=(false)
        elif [ -t 0 ]; then
            as_root=(sudo)
        else
            as_root=(sudo -n)
        fi
    fi

    if is_debian_12 && [ "${as_root[0]-}" != false ]; then
        say "installing ${missing[*]}"
        # --no-remove: a Boost 1.74 that somebody else installed is theirs to remove.
        local apt_get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3)
        if ! timeout 600 "${apt_get[@]}" update || ! timeout 1800 "${apt_get[@]}" -o Dpkg::Use-Pty=0 \
            install -y --no-install-recommends --no-remove "${missing[@]}"; then
            say "apt-get failed; going on with what is here"
        fi
        mapfile -t missing < <(missing_packages "$@")
        [ "${#missing[@]}" -gt 0 ] || return 0
    fi

    say "missing: ${missing[*]}"
    echo "These are names of Debian 12 packages. There, an administrator installs them with"
    echo "    apt-get install --no-install-recommends ${missing[*]}"
    echo "Elsewhere the same things have other names. Going on with what is here."
}

# configure BUILD_DIR CMAKE_ARGUMENT...
configure() {
    local build=$1 generator=()
    shift
    if ! command -v cmake >/dev/null; then
        say "cmake is missing: nothing can be built without it"
        exit 1
    fi
    # A build folder keeps the generator that it was made with.
    if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then
        generator=(-G Ninja)
    fi
    cmake "${generator[@]}" -S "$root" -B "$build" "$@"
}
