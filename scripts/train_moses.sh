#!/usr/bin/env bash
# Make the shipped `moses` model: fetch MOSES, prepare, train, fit the prior, measure, write the card. Resumable.
# Usage: bash scripts/train_moses.sh [OUT]
#   MOLVAE_SET="train.max_minutes=600 seed=1"   other settings
#   MOLVAE_PROCESSES=2                          that share every batch; otherwise one for each GPU, or one on a CPU.
#                                               With several GPUs give a larger batch too (train.batch_size=1024)
#   MOLVAE_CARD_N=1000                          molecules behind each figure of the card, 10000 unless given
#   MOLVAE_DRAFTS=1000                          drafts that the reader learns from, 60000 unless given
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/environment.sh"
cd -- "$root"
out=${1:-runs/moses}
make_environment "$root/.venv" scripts/requirements.lock
bin=$root/.venv/bin
mkdir -p "$out"

"$bin/molvae" datasets get moses -o "$out"
[[ -f $out/dataset/manifest.json ]] ||
    "$bin/molvae" prepare "$out/train.csv.gz" -o "$out/dataset" --valid 0.0063 --test 0 \
        --properties logp,qed,sa,tpsa,mol_weight
settings=()
for setting in ${MOLVAE_SET:-}; do settings+=(--set "$setting"); done
train=("$bin/molvae" train "$out/dataset" -o "$out/model" --processes "${MOLVAE_PROCESSES:-auto}")
if [[ -f $out/model/run.json ]]; then
    [[ -f $out/model/prior.safetensors ]] || "${train[@]}" --resume "${settings[@]}"
else
    "${train[@]}" --config scripts/moses.toml "${settings[@]}"
fi
[[ -f $out/taught/manifest.json ]] ||
    "$bin/molvae" fit-reader "$out/dataset" -m "$out/model" -o "$out/taught" --resume --drafts "${MOLVAE_DRAFTS:-60000}"
"$bin/python" scripts/ship_model.py "$out/taught" "$out/dataset" --text scripts/moses_card.md -o "$out/shipped" \
    --temperature 0.55 \
    --asked "$out/test.csv.gz" --asked-name "MOSES test" --reference "$out/test.csv.gz" --reference-name "MOSES test" \
    -n "${MOLVAE_CARD_N:-10000}"
echo "To ship it: copy $out/shipped to molvae/pretrained/moses"
