# Make or reuse a virtual environment from the pinned locks. Sourced by quickstart.sh and test.sh; bash.
#
#   MOLVAE_PYTHON       the Python to use (3.11 or newer); otherwise the first that works is taken
#   MOLVAE_TORCH_INDEX  one more package index, such as PyTorch's own for CPU builds: on Linux the ordinary torch wheel
#                       brings CUDA libraries of several GB, which a machine without an NVIDIA GPU does not need
# pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, pip.conf, proxies) hold as usual.

# glibc gives big blocks back to the kernel after every step; keeping them saves up to half of the training time on a CPU.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=137438953472

# find_python: print the command of a Python >= 3.11 that can make virtual environments.
find_python() {
    local candidate
    for candidate in ${MOLVAE_PYTHON:+"$MOLVAE_PYTHON"} python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    echo "error: no Python 3.11 or newer with the venv module was found." >&2
    echo "Install one (on Debian or Ubuntu: apt install python3 python3-venv), or name it: MOLVAE_PYTHON=/path/to/python3" >&2
    return 1
}

# make_environment VENV LOCK...: leave VENV with exactly these locks and this package (editable) installed.
make_environment() {
    local venv=$1 python wanted lock
    shift
    wanted=$(cat -- "$@" "$root/pyproject.toml" "$root/scripts/environment.sh" | cksum)
    if [[ -f $venv/.molvae-installed && $(<"$venv/.molvae-installed") == "$wanted $root" ]] &&
        "$venv/bin/python" -c '' 2>/dev/null; then
        echo "environment: $venv (reused)"
        return 0
    fi
    python=$(find_python) || return 1
    echo "environment: $venv (installing with $("$python" --version); this can take some minutes)"
    rm -f -- "$venv/.molvae-installed"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv" || return 1
    : >"$venv/install.log"
    local options=(${MOLVAE_TORCH_INDEX:+--extra-index-url "$MOLVAE_TORCH_INDEX"})
    for lock in "$@"; do
        options+=(--requirement "$lock")
    done
    install "$venv" "${options[@]}" || return 1
    install "$venv" --no-deps --no-build-isolation --editable "$root" || return 1
    printf '%s\n' "$wanted $root" >"$venv/.molvae-installed"
}

# install VENV ARGUMENT...: pip install, tried once more after a failure (an index may be out of reach for a moment).
install() {
    pip_install "$@" && return 0
    echo "environment: the installation failed; trying once more" >&2
    sleep 5
    pip_install "$@" && return 0
    tail -n 15 -- "$1/install.log" >&2
    echo "error: pip could not install what molvae needs (the end of $1/install.log is above)." >&2
    echo "Check that a package index is reachable and run this script again." >&2
    return 1
}

# pip_install VENV ARGUMENT...: pip install; everything goes to VENV/install.log, the big downloads are shown.
pip_install() {
    local venv=$1
    shift
    "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off "$@" 2>&1 | tee -a "$venv/install.log" |
        { grep --line-buffered -oE '^ *Downloading .* \([0-9.]+ [MG]B\)|^Installing collected packages' || true; }
    return "${PIPESTATUS[0]}"
}
