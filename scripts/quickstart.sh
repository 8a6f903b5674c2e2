#!/usr/bin/env bash
# From nothing to better molecules: install, prepare, train, generate, optimise, report. Takes no arguments.
# Everything lands in .venv/ and runs/quickstart/ of this repository; run again, it reuses the environment.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/environment.sh"
cd -- "$root"

SECONDS=0
make_environment "$root/.venv" scripts/requirements.lock
installed=$SECONDS
out=runs/quickstart
mkdir -p "$out"

# step TITLE ARGUMENT...: show and run one molvae command.
step() {
    printf '\n== %s\n$ molvae' "$1"
    shift
    printf ' %q' "$@"
    printf '\n'
    .venv/bin/molvae "$@"
}

step "Prepare a sample of real molecules" \
    prepare data/moses_sample.csv.gz -o "$out/dataset" --force
rm -rf -- "$out/model"
step "Train a small model, at most 3 minutes" \
    train "$out/dataset" -o "$out/model" --set train.max_minutes=3 --set train.epochs=60 --set train.batch_size=64 \
    --set train.lr=3e-3 --set model.encoder_hidden=96 --set model.decoder_hidden=256 --set model.decoder_layers=1 \
    --set model.latent=32 --set prior.max_steps=300
step "Generate 1,000 molecules with the shipped model" \
    sample -n 1000 -o "$out/samples.csv" --seed 1
rm -rf -- "$out/optimize"
step "Improve five molecules" \
    optimize --oracle qed --start data/leads.smi --method cmaes --budget 500 -o "$out/optimize" --seed 1
step "Write the report" \
    report "$out" -o "$out/report.html" --title "molvae quickstart"

printf '\n== Done in %dm%02ds (%dm%02ds of it the installation). Results:\n' \
    $((SECONDS / 60)) $((SECONDS % 60)) $((installed / 60)) $((installed % 60))
for result in dataset/molecules.parquet dataset/rejected.csv model samples.csv optimize/molecules.csv optimize/best.csv \
    report.html; do
    printf '  %s\n' "$root/$out/$result"
done
