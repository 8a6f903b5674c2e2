#!/usr/bin/env bash
# Make the shipped `druglike` model: mix MOSES and ZINC250k, prepare, go on from `moses`, measure, write the card. Resumable.
# Usage: bash scripts/train_druglike.sh ZINC250K.smi.gz [OUT]
#   MOLVAE_SET="train.max_minutes=600 seed=1"   other settings
#   MOLVAE_START=DIRECTORY                      model to go on from, the shipped moses unless given
#   MOLVAE_CARD_N=1000                          molecules behind each figure of the card, 10000 unless given
#   MOLVAE_DRAFTS=1000                          drafts that the reader learns from, 40000 unless given
set -euo pipefail
zinc=$(realpath -- "${1:?give the file of ZINC250k SMILES, one a line, gzipped}")
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/environment.sh"
cd -- "$root"
out=${2:-runs/druglike}
make_environment "$root/.venv" scripts/requirements.lock
bin=$root/.venv/bin
mkdir -p "$out"

"$bin/molvae" datasets get moses -o "$out/moses"
[[ -f $out/train.smi.gz ]] ||
    "$bin/python" scripts/druglike_data.py "$out/moses/train.csv.gz" "$out/moses/test.csv.gz" "$zinc" "$out"
[[ -f $out/dataset/manifest.json ]] ||
    "$bin/molvae" prepare "$out/train.smi.gz" -o "$out/dataset" --valid 0.007 --test 0 --max-rejected 0.02 \
        --properties logp,qed,sa,tpsa,mol_weight
settings=()
for setting in ${MOLVAE_SET:-}; do settings+=(--set "$setting"); done
run=("$bin/molvae" finetune "$out/dataset" -m "${MOLVAE_START:-moses}" -o "$out/model" --rehearse none "${settings[@]}")
if [[ -f $out/model/run.json ]]; then
    [[ -f $out/model/prior.safetensors ]] || "${run[@]}" --resume
else
    "${run[@]}" --config scripts/druglike.toml
fi
[[ -f $out/taught/manifest.json ]] ||
    "$bin/molvae" fit-reader "$out/dataset" -m "$out/model" -o "$out/taught" --resume --drafts "${MOLVAE_DRAFTS:-40000}" \
        --molecules 100000
"$bin/python" scripts/ship_model.py "$out/taught" "$out/dataset" --text scripts/druglike_card.md -o "$out/shipped" \
    --asked "$out/zinc_test.smi.gz" --asked-name "ZINC250k test" \
    --reference "$out/held_out.smi.gz" --reference-name "held-out" -n "${MOLVAE_CARD_N:-10000}"
echo "To ship it: copy $out/shipped to molvae/pretrained/druglike"
