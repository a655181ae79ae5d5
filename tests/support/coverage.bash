# What tests/coverage and tests/fuzz/run share: llvm's tools, and a table by layer and file.
# Sourced, not run, by scripts that have set root to the top of the repository.
: "${root:?}"

# llvm_tool NAME: under the name that goes with clang++, where there is one.
llvm_tool() {
    local version
    version=$(clang++ -dumpversion | cut -d . -f 1)
    command -v "$1-$version" || command -v "$1" || { echo "missing: $1 (Debian 12: llvm)" >&2; return 1; }
}

# Of a function that some programs compile inline and others apart, one form counts: llvm-cov's word for it, that data
# is mismatched, is left out.
#
# coverage_table PROFILE OBJECT...: lines and branches of include/, for each layer and each file.
coverage_table() {
    local profile=$1 objects=("$2") object
    shift 2
    for object in "$@"; do objects+=(-object "$object"); done
    "$(llvm_tool llvm-cov)" report "-instr-profile=$profile" "${objects[@]}" "$root/include" 2> >(grep -v 'mismatched data' >&2) | awk '
        function part(covered, all) { return all == 0 ? "    -" : sprintf("%5.1f", int(1000 * covered / all) / 10) }
        function line(name, l, lm, b, bm) {
            printf "%-34s %6d %6d %s %%   %6d %6d %s %%\n", name, l, lm, part(l - lm, l), b, bm, part(b - bm, b)
        }
        BEGIN { printf "%-34s %6s %6s %7s   %6s %6s %7s\n", "", "lines", "missed", "", "branches", "missed", "" }
        NF == 13 && $1 ~ /\.[hi]pp$/ {
            file = $1
            sub(/^.*arke\//, "", file)
            layer = file ~ /\// ? substr(file, 1, index(file, "/") - 1) : "top"
            l[layer] += $8; lm[layer] += $9; b[layer] += $11; bm[layer] += $12
            L += $8; LM += $9; B += $11; BM += $12
            if (!(layer in known)) { known[layer] = ""; layers[++n] = layer }
            files[layer] = files[layer] sprintf("%s %d %d %d %d\n", file, $8, $9, $11, $12)
        }
        END {
            for (i = 1; i <= n; i++) {
                print ""
                line(layers[i], l[layers[i]], lm[layers[i]], b[layers[i]], bm[layers[i]])
                count = split(files[layers[i]], each, "\n")
                for (j = 1; j < count; j++) { split(each[j], f, " "); line("  " f[1], f[2], f[3], f[4], f[5]) }
            }
            print ""
            line("all", L, LM, B, BM)
        }'
}
