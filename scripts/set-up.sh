#!/bin/sh
# Makes a virtual environment with this project in it, at the versions of constraints.txt: set-up.sh VENV REQUIREMENT
set -eu
venv=$1
requirement=$2

python=
for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$name && break; fi
done
if [ -z "$python" ]; then
    echo "No Python 3.11 or newer was found. On Debian 12 or Ubuntu 24.04: apt-get install python3 python3-venv" >&2
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
