#!/usr/bin/env bash
# Builds the interop peers (headscale, derper, tailscale, tailscaled) at the versions that the two
# go.mod files beside this script pin, into $TSNODE_PEERS/bin (default ~/.cache/tsnode/peers).
# Does nothing when they are already there for these go.mod and go.sum files. First build: about
# five minutes on two cores. Prints the directory of the binaries as its last line.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${TSNODE_PEERS:-$HOME/.cache/tsnode/peers}/bin
mkdir -p "$out"

exec 9>"$out/.lock"
flock 9

build() { # build MODULE-DIR BINARY PACKAGE [build flags]
  local module=$1 binary=$2 package=$3
  shift 3
  local stamp
  stamp=$(cat "$here/$module/go.mod" "$here/$module/go.sum" | sha256sum | cut -d' ' -f1)
  if [ -x "$out/$binary" ] && [ "$(cat "$out/$binary.stamp" 2>/dev/null)" = "$stamp" ]; then
    return
  fi
  command -v go >/dev/null || { echo "peers: the Go toolchain is missing: install Go 1.26 or newer" >&2; exit 77; }
  echo "peers: building $binary ($package)" >&2
  (cd "$here/$module" && CGO_ENABLED=0 go build -trimpath "$@" -o "$out/$binary.new" "$package")
  mv "$out/$binary.new" "$out/$binary"
  echo "$stamp" > "$out/$binary.stamp"
}

build tailscale derper tailscale.com/cmd/derper
build tailscale tailscaled tailscale.com/cmd/tailscaled
build tailscale tailscale tailscale.com/cmd/tailscale
build tailscale derpprobe tailscale.com/cmd/derpprobe
build headscale headscale github.com/juanfont/headscale/cmd/headscale
echo "$out"
