#!/usr/bin/env bash
# Installs the real parts that tests run: packages by apt-get (as root, by name), both agent CLIs by npm under .parts/.
# Usage: tests/parts/install.sh [claude] [bwrap] [pasta] [ip] [git] [make] [npm] [systemd-analyze] [nspawn] [nix] [chromium]     (nothing named: all of them)
# What is there already is left alone. Prints where each part is. Never asks anything.
set -euo pipefail
cd "$(dirname "$0")/../.."
PARTS=.parts
want=("$@")
[ ${#want[@]} -gt 0 ] || want=(git make npm bwrap pasta ip systemd-analyze nix claude nspawn chromium)

refreshed=
package() { # package COMMAND NAME
  if ! command -v "$1" >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
      echo "$1 is missing: install the package $2 (this script does so as root where apt-get is there)" >&2
      return 1
    fi
    [ -n "$refreshed" ] || apt-get update -qq
    refreshed=yes
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" </dev/null >/dev/null
  fi
  echo "$1: $(command -v "$1")"
}

base() { # the root file system that nspawn containers share, as `hyperhive doctor --make-base` makes it
  local home=$PARTS/nspawn-base left_out=(doc man locale info) excludes=() lists=() each
  if [ ! -e "$home/usr/bin/python3" ]; then
    [ "$(id -u)" = 0 ] || { echo "nspawn-base is missing: only root can make it" >&2; return 1; }
    mkdir -p "$PARTS"
    rm -rf --one-file-system "$home" "$home.new"
    for each in "${left_out[@]}"; do excludes+=("--dpkgopt=path-exclude=/usr/share/$each/*"); done
    for each in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources; do [ ! -f "$each" ] || lists+=("$each"); done
    unshare --mount --propagation private -- mmdebstrap --quiet --variant=minbase --include=python3-minimal,git,ca-certificates "${excludes[@]}" \
      "$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")" "$home.new" "${lists[@]}" </dev/null >&2
    touch "$home.new/etc/hosts" "$home.new/etc/resolv.conf"
    mv "$home.new" "$home"
  fi
  echo "nspawn base: $PWD/$home"
}

cli() { # cli VERSION
  local home=$PARTS/claude-$1 source=tests/parts/claude-$1
  if ! { [ -x "$home/claude" ] && cmp -s "$source/package-lock.json" "$home/package-lock.json"; }; then
    rm -rf "$home"
    mkdir -p "$home"
    cp "$source/package.json" "$source/package-lock.json" "$source/.npmrc" "$home/"
    # The program is one file in the package of this platform; the scripts of the package, which would only copy it, do not run.
    (cd "$home" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null >&2)
    local program
    program=$(cd "$home" && find node_modules/@anthropic-ai -path '*/claude-code-linux-*/claude' ! -path '*musl*' -type f | head -n 1)
    [ -n "$program" ] || { echo "npm brought no program for this platform" >&2; return 1; }
    ln -sfn "$program" "$home/claude"
  fi
  local says
  says=$(env -i HOME=/nonexistent PATH=/usr/bin:/bin DISABLE_AUTOUPDATER=1 "$home/claude" --version </dev/null)
  [ "$says" = "$1 (Claude Code)" ] || { echo "$home/claude says '$says', not $1" >&2; return 1; }
  echo "claude $1: $PWD/$home/claude"
}

for part in "${want[@]}"; do
  case $part in
    git | make | npm) package "$part" "$part" ;;
    bwrap) package bwrap bubblewrap ;;
    pasta) package pasta passt ;;
    ip) package ip iproute2 ;;
    systemd-analyze) package systemd-analyze systemd ;;
    nix) package nix nix-bin ;;
    chromium) package chromium-headless-shell chromium-headless-shell ;;
    nspawn)
      package systemd-nspawn systemd-container
      package mmdebstrap mmdebstrap
      base
      ;;
    claude)
      package npm npm
      cli 2.1.328
      cli 2.1.200
      ;;
    *)
      echo "no such part: $part" >&2
      exit 2
      ;;
  esac
done
