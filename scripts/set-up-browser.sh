#!/bin/sh
# Sees to it that Debian's Chromium is here, which the browser tests drive.
set -eu
if command -v "${CHROMIUM:-chromium}" >/dev/null; then exit 0; fi
echo "Chromium is missing, the browser tests need it; installing it" >&2
"$(dirname "$0")/apt-install.sh" chromium fonts-dejavu-core
command -v chromium >/dev/null || { echo "chromium is still missing: install it, or set CHROMIUM to its path" >&2; exit 1; }
