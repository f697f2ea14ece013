# shellcheck shell=bash
# What the scripts share: finding tools, and installing them with the machine's package manager.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        return 127
    fi
}

package_manager() {
    local manager
    for manager in apt-get dnf apk pacman brew; do
        have "$manager" && { echo "$manager"; return; }
    done
    echo none
}

# install_packages NAME... : the same names for every package manager; fails with instructions.
install_packages() {
    local manager
    manager=$(package_manager)
    say "installing with $manager: $*"
    case "$manager" in
        apt-get)
            export DEBIAN_FRONTEND=noninteractive
            [ -n "${ARKEEP_APT_UPDATED:-}" ] || as_root apt-get update -qq >&2 || true
            ARKEEP_APT_UPDATED=1
            as_root apt-get install -y -qq --no-install-recommends "$@" >&2
            ;;
        dnf) as_root dnf install -y -q "$@" >&2 ;;
        apk) as_root apk add -q "$@" >&2 ;;
        pacman) as_root pacman -S --needed --noconfirm "$@" >&2 ;;
        brew) brew install -q "$@" >&2 ;;
        *) return 127 ;;
    esac || die "could not install: $*
Install these yourself (as root, or with a package manager of your choice) and run this again."
}

# A C compiler builds the TLS library and SQLite, which are part of the programs.
need_compiler() {
    have cargo || die "Rust is missing. Install it from https://rustup.rs and run this again."
    have cc && return
    case "$(package_manager)" in
        apt-get) install_packages gcc libc6-dev ;;
        dnf) install_packages gcc glibc-devel ;;
        apk) install_packages gcc musl-dev ;;
        *) install_packages gcc ;;
    esac
}

need_restic() {
    have restic || install_packages restic
    have restic || die "restic was installed but is not on PATH. Put its directory on PATH and run this again."
}

# need_python_tool COMMAND REQUIREMENT : a program of Python's package index, in a place of its own
# under target/tools. Where it cannot be had, the tests that want it say so and are skipped.
need_python_tool() {
    local command=$1 requirement=$2 place
    place="${CARGO_TARGET_DIR:-$here/target}/tools"
    export PATH="$place/bin:$PATH"
    have "$command" && return
    if [ "$(package_manager)" = apt-get ] && ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
        install_packages python3 python3-venv
    fi
    say "installing into $place: $requirement"
    mkdir -p "$place/bin" &&
        python3 -m venv "$place/$command" &&
        "$place/$command/bin/pip" install -q --disable-pip-version-check "$requirement" &&
        ln -sf "$place/$command/bin/$command" "$place/bin/$command" ||
        say "$command did not install"
}
