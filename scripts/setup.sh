#!/usr/bin/env bash
# Makes this machine able to build Leap: system packages, LibTorch, the formatter. Safe to run again; quick when done.
#
#   scripts/setup.sh              packages, LibTorch for CPU (.deps/libtorch), clang-format (.deps/tools)
#   scripts/setup.sh --no-torch   the same without LibTorch: enough for the coordinator and leapctl
#   scripts/setup.sh --cuda       additionally nvcc, CUDA's and NCCL's headers, LibTorch's CUDA half (.deps/cuda)
#
# LEAP_WHEELS=DIR    take the wheels from this folder (no network)
# LEAP_LIBTORCH=DIR  use this LibTorch (include/, lib/) instead; nothing is fetched
#
# Everything fetched is pinned with its hash in scripts/pins/. .deps/ is ignored by git.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PINS=scripts/pins
readonly DEPS=.deps
readonly WHEELS=$DEPS/wheels
with_torch=1
with_cuda=0
for arg in "$@"; do
  case "$arg" in
    --no-torch) with_torch=0 ;;
    --cuda) with_cuda=1 ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
  esac
done

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

# --- system packages -------------------------------------------------------------------------------------------------

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "these need root, and there is no sudo: $*"
  fi
}

missing_packages() {
  local package
  for package in $(grep -v '^#' "$PINS/apt.txt"); do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
  done
  # A Python from elsewhere may bring pip along; Debian's does not.
  python3 -c 'import pip' 2>/dev/null || echo python3-pip
}

install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    if [ "${LEAP_SKIP_PACKAGES:-}" = 1 ]; then return; fi
    die "this is not Debian or Ubuntu; install what these packages bring, then run again with LEAP_SKIP_PACKAGES=1:
$(grep -v '^#' "$PINS/apt.txt" | tr '\n' ' ')python3-pip"
  fi
  local missing
  missing=$(missing_packages | tr '\n' ' ')
  if [ -z "$missing" ]; then say "system packages: all there"; return; fi
  say "system packages: installing $missing"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  # shellcheck disable=SC2086  # a list of words
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

# --- wheels ----------------------------------------------------------------------------------------------------------

require_x86_64() {
  [ "$(uname -m)" = x86_64 ] || die "the pinned LibTorch is for x86_64, this is $(uname -m); set LEAP_LIBTORCH=DIR or use --no-torch"
}

# fetch_wheels PINFILE: the pinned wheels of a file into WHEELS, for one fixed platform whatever Python runs here.
fetch_wheels() {
  local source=()
  if [ -n "${LEAP_WHEELS:-}" ]; then source=(--no-index --find-links "$LEAP_WHEELS"); fi
  python3 -m pip download --quiet --no-cache-dir --disable-pip-version-check --progress-bar off \
    --no-deps --require-hashes --only-binary=:all: \
    --implementation cp --python-version 3.11 --abi cp311 --abi none \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux_2_18_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux1_x86_64 \
    "${source[@]}" --requirement "$1" --dest $WHEELS
}

# current DIR PINFILE: whether DIR was made from this very pin file.
current() { [ -f "$1/.pins" ] && cmp -s "$1/.pins" "$2"; }

# publish NEW DIR PINFILE: puts a finished folder in place in one step, so that a broken run leaves nothing half made.
publish() {
  cp "$3" "$1/.pins"
  rm -rf "$2"
  mv "$1" "$2"
}

setup_libtorch() {
  if [ -n "${LEAP_LIBTORCH:-}" ]; then
    [ -f "$LEAP_LIBTORCH/lib/libtorch_cpu.so" ] || die "LEAP_LIBTORCH=$LEAP_LIBTORCH has no lib/libtorch_cpu.so"
    say "LibTorch: $LEAP_LIBTORCH (LEAP_LIBTORCH)"; return
  fi
  local pins=$PINS/libtorch.txt
  if current $DEPS/libtorch $pins; then say "LibTorch: $DEPS/libtorch is up to date"; return; fi
  require_x86_64
  local tmp=$DEPS/tmp-libtorch
  rm -rf $tmp && mkdir -p $tmp/out/lib
  say "LibTorch: fetching $(grep -o '^torch==[^ ]*' $pins) (about 530 MB, once)"
  fetch_wheels $pins
  say "LibTorch: unpacking into $DEPS/libtorch"
  # Headers of other projects (an old protobuf, pybind11) are left out: they could only shadow the right ones.
  unzip -q $WHEELS/torch-*.whl 'torch/include/*' torch/lib/libtorch_cpu.so torch/lib/libc10.so \
    torch/lib/libgomp.so.1 'torch-*.dist-info/licenses/*' -x 'torch/include/google/*' 'torch/include/pybind11/*' -d $tmp/x
  unzip -q -j $WHEELS/nvidia_cuda_runtime-*.whl 'nvidia/*/lib/libcudart.so.*' -d $tmp/out/lib
  unzip -q -j $WHEELS/nvidia_cuda_cupti-*.whl 'nvidia/*/lib/libcupti.so.*' -d $tmp/out/lib
  mv $tmp/x/torch/include $tmp/out/include
  mv $tmp/x/torch/lib/* $tmp/out/lib/
  mv $tmp/x/torch-*.dist-info/licenses $tmp/out/licenses 2>/dev/null || true
  publish $tmp/out $DEPS/libtorch $pins
  rm -rf $tmp
}

setup_cuda() {
  local pins=$PINS/cuda.txt
  if current $DEPS/cuda $pins; then say "CUDA: $DEPS/cuda is up to date"; return; fi
  require_x86_64
  local tmp=$DEPS/tmp-cuda
  rm -rf $tmp && mkdir -p $tmp/x
  say "CUDA: fetching nvcc, headers and LibTorch's CUDA half (about 1.6 GB, once; 1 GB stays)"
  fetch_wheels $pins
  say "CUDA: unpacking into $DEPS/cuda"
  local wheel
  for wheel in cuda_runtime cuda_nvcc cuda_crt nvvm cuda_cccl; do
    unzip -q -o $WHEELS/nvidia_$wheel-*.whl 'nvidia/cu13/*' -d $tmp/x
  done
  for wheel in cublas cusparse cusolver; do
    unzip -q -o $WHEELS/nvidia_$wheel-*.whl 'nvidia/cu13/include/*' -d $tmp/x
  done
  unzip -q $WHEELS/nvidia_nccl_cu13-*.whl 'nvidia/nccl/include/*' -d $tmp/x
  mv $tmp/x/nvidia/cu13 $tmp/out
  cp -r $tmp/x/nvidia/nccl/include/. $tmp/out/include/
  unzip -q -j $WHEELS/torch-*.whl torch/lib/libtorch_cuda.so torch/lib/libc10_cuda.so \
    torch/lib/libtorch_cuda_linalg.so torch/lib/libtorch_nvshmem.so -d $tmp/out/lib
  chmod -R u+w $tmp/out
  chmod +x $tmp/out/bin/* $tmp/out/nvvm/bin/*
  ln -s lib $tmp/out/lib64  # where nvcc and CMake look
  ln -s libcudart.so.13 $tmp/out/lib/libcudart.so
  publish $tmp/out $DEPS/cuda $pins
  rm -rf $tmp
}

setup_tools() {
  local pins=$PINS/tools.txt
  if current $DEPS/tools $pins; then say "tools: $DEPS/tools is up to date"; return; fi
  if [ "$(uname -m)" != x86_64 ]; then say "tools: no pinned clang-format for $(uname -m); make format will not work"; return; fi
  local tmp=$DEPS/tmp-tools
  rm -rf $tmp && mkdir -p $tmp/out
  say "tools: fetching $(grep -o '^clang-format==[^ ]*' $pins)"
  fetch_wheels $pins
  unzip -q -j $WHEELS/clang_format-*.whl '*/data/bin/clang-format' -d $tmp/out
  chmod +x $tmp/out/clang-format
  publish $tmp/out $DEPS/tools $pins
  rm -rf $tmp
}

# --- what runs -------------------------------------------------------------------------------------------------------

main() {
  install_packages
  mkdir -p $WHEELS
  exec 9>$DEPS/.lock
  flock 9  # two set-ups at once would unpack over each other
  setup_tools
  if [ $with_torch = 1 ]; then setup_libtorch; else say "LibTorch: left out (--no-torch)"; fi
  if [ $with_cuda = 1 ]; then setup_cuda; fi
  rm -rf $WHEELS
  say "done"
}
main
