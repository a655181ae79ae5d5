# What the programs of tests/bench share: installing what is missing, and building one of them into .build/bench.
# Sourced, not run. Sets root to the top of the repository, and bench_build to where programs are built.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/support/packages.bash
. "$root/tests/support/packages.bash"

bench_build=$root/.build/bench
bench_jobs=${BENCH_JOBS:-$(nproc 2>/dev/null || echo 2)}

# bench_install PACKAGE...: these, and what building anything here takes. To stderr, because stdout is the programs'.
bench_install() { install_missing cmake ninja-build g++ libboost1.81-dev nlohmann-json3-dev "$@" >&2; }

# bench_configure: quiet unless it fails.
bench_configure() {
    mkdir -p "$bench_build"
    if ! configure "$bench_build" -DARKE_BENCH=ON -DARKE_TESTS=OFF -DARKE_EXAMPLES=OFF \
        -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG" >"$bench_build/configure.log" 2>&1; then
        cat "$bench_build/configure.log" >&2
        echo "The benchmark could not be configured; see above." >&2
        return 1
    fi
}

# One build at a time: two that share the folder would write the same files.
bench_locked() {
    if command -v flock >/dev/null; then
        flock --timeout 3000 "$bench_build/lock" "$@"
    else
        "$@"
    fi
}

# bench_has TARGET: whether it can be built here. After bench_configure.
bench_has() { cmake --build "$bench_build" --target help 2>/dev/null | grep -qE "^(\.\.\. )?$1(:|$)"; }

# bench_make TARGET...: quiet unless it fails.
bench_make() {
    SECONDS=0
    if ! bench_locked timeout 3000 cmake --build "$bench_build" --parallel "$bench_jobs" --target "$@" \
        >"$bench_build/build.log" 2>&1; then
        cat "$bench_build/build.log" >&2
        echo "$* could not be built; see above." >&2
        return 1
    fi
    [ "$SECONDS" -lt 5 ] || echo "Built $* in $SECONDS s." >&2
}

# Where a program is, peers apart.
bench_program() { printf '%s/tests/bench/%s\n' "$bench_build" "$1"; }

# bench_exec TARGET ARGUMENT...: installs, builds, and becomes the program.
bench_exec() {
    local target=$1
    shift
    bench_install liburing-dev
    bench_configure && bench_make "$target" || exit 1
    exec "$(bench_program "$target")" "$@"
}

# bench_exec_alone TARGET ARGUMENT...: the same in a network namespace of its own where one can be made, with Reno as the
# congestion control: BBR, which some systems have as their default, paces on the loopback too. The script starts itself once
# more in there; bench_is_alone tells, so that it can change what else belongs to the namespace before.
bench_is_alone() { [ -n "${ARKE_BENCH_NAMESPACE-}" ]; }
bench_exec_alone() {
    local target=$1
    shift
    if ! bench_is_alone; then
        bench_install iproute2 liburing-dev
        bench_configure && bench_make "$target" || exit 1
    fi
    bench_alone "$@"
    exec "$(bench_program "$target")" "$@"
}

# bench_alone ARGUMENT...: the script's own arguments. Comes back in such a namespace, or where none can be made.
bench_alone() {
    local unshare
    if bench_is_alone; then
        ip link set lo up
        echo reno >/proc/sys/net/ipv4/tcp_congestion_control ||
            echo "The congestion control stays $(cat /proc/sys/net/ipv4/tcp_congestion_control)." >&2
        return
    fi
    for unshare in "unshare --net" "unshare --user --map-root-user --net"; do
        # shellcheck disable=SC2086  # a command and its options
        if command -v ip >/dev/null && $unshare true 2>/dev/null; then
            ARKE_BENCH_NAMESPACE=yes exec $unshare "$0" "$@"
        fi
    done
    echo "No network namespace can be made here: the system's own network is used as it is." >&2
}
