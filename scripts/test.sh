#!/usr/bin/env bash
# Everything continuous integration checks. --slow adds the long tests; other arguments go to pytest.
set -uo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/environment.sh"
cd -- "$root" || exit 1

tests=(-n 2 --dist loadfile)
for argument in "$@"; do
    if [[ $argument == --slow ]]; then
        tests+=(-m "slow or not slow")
    else
        tests+=("$argument")
    fi
done

SECONDS=0
make_environment "$root/.venv-test" scripts/requirements.lock scripts/requirements-dev.lock || exit 1
bin=$root/.venv-test/bin
# Threads of several torch processes on few cores get in each other's way: two threads each can be ten times slower.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
failed=()

# check NAME COMMAND...: run one step, go on after a failure, remember it.
check() {
    local name=$1 before=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        printf '== %s: passed in %ds\n' "$name" $((SECONDS - before))
    else
        printf '== %s: FAILED\n' "$name"
        failed+=("$name")
    fi
}

check ruff "$bin/ruff" check .
check mypy "$bin/mypy" --strict molvae
check import-linter "$bin/lint-imports"
check pytest "$bin/pytest" "${tests[@]}"

printf '\n'
if ((${#failed[@]})); then
    echo "FAILED after $((SECONDS / 60))m$((SECONDS % 60))s: ${failed[*]}"
    exit 1
fi
echo "All checks passed in $((SECONDS / 60))m$((SECONDS % 60))s."
