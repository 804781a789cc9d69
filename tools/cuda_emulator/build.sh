#!/usr/bin/env bash
# Compiles one of the tests beside this file with g++ and runs it: ./build.sh test_gemm [g++ options]
# The CUDA headers are those that build.rs installed, or of the toolkit in CUDA_HOME.
set -euo pipefail
cd "$(dirname "$0")"
include="${CUDA_HOME:+$CUDA_HOME/include}"
include="${include:-../../target/cuda-13.0/nvidia/cu13/include}"
test="$1"
shift
mkdir -p ../../target/cuda_emulator
out="../../target/cuda_emulator/$test"
g++ -std=c++17 -O2 -g -w -fno-strict-aliasing -I"$include" "$@" "$test.cpp" -o "$out"
"$out"
