#!/bin/sh
# Makes the demo model from nothing: data, checks, training, export, measurement.
# Usage, from the repository root, on a machine with one H100-class GPU:  tools/demo_model/run.sh
set -eu
here=$(dirname "$0")
work=${1:-target/demo_model}
model=${2:-models/demo}
python3 "$here/data.py" --cache "$work/npm" --out "$work/data"
python3 "$here/check_reference.py"
python3 "$here/train.py" --data "$work/data" --work "$work/train"
cp "$model/README.md" "$work/README.md"
python3 "$here/export.py" --work "$work/train" --out "$model"
cp "$work/README.md" "$model/README.md"
python3 "$here/evaluate.py" --model "$model" --data "$work/data" --out "$work/metrics" --write-elastic
python3 "$here/check_diffusers.py" --model "$model" --out "$work/diffusers"
