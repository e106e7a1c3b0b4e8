#!/bin/sh
# Makes a virtual environment with this project in it, at the versions of constraints.txt: set-up.sh VENV REQUIREMENT
set -eu
venv=$1
requirement=$2

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' 2>/dev/null
}

python=
# pyenv's interpreters too where its shims are not on PATH
for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    if is_new_enough "$name"; then python=$name && break; fi
done
if [ -z "$python" ]; then
    cat >&2 <<'EOF'
No Python 3.11.5 or newer was found. Ubuntu 24.04: apt-get install python3 python3-venv. Debian 12 has 3.11.2:
install a newer one with pyenv or uv. Then run make again, with PYTHON=/path/to/python3 where it is not on PATH.
EOF
    exit 1
fi
if [ -x "$venv/bin/python" ] && ! is_new_enough "$venv/bin/python"; then
    echo "$venv was made with a Python older than 3.11.5: remove it with make clean, then run make again" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")')
    echo "$python cannot make virtual environments; installing $package" >&2
    "$(dirname "$0")/apt-install.sh" "$package"
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
[ -t 1 ] && quiet= || quiet=--quiet
echo "installing into $venv (the first time this takes some minutes)"
PIP_CONSTRAINT=constraints.txt "$venv/bin/pip" install $quiet --no-input --disable-pip-version-check \
    --editable "$requirement"
