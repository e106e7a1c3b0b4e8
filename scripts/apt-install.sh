#!/bin/sh
# Installs Debian packages where that is allowed without asking, else says what to type: apt-install.sh PACKAGE...
set -eu
if [ "$(id -u)" = 0 ]; then root=; elif sudo -n true 2>/dev/null; then root=sudo; else root=none; fi
if [ "$root" = none ] || ! command -v apt-get >/dev/null; then
    echo "Please install it, then run make again:  sudo apt-get install $*" >&2
    exit 1
fi
$root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends "$@" >/dev/null
