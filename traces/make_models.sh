#!/bin/sh
# Fits the models of networks again and makes the traces of traces/data from them: make models DATA=folder of real traces.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
models=$root/traces/spinn_traces/models
cd "$1"

fit() {
    name=$1
    shift
    spinn trace fit "$@" --name "$name" --out "$models/$name.json"
}

# rtt-ms: usual ones; their spread is that of the one trace of round trips there is, of 5G.
rtt=cicv5g-urban_n78_v30_run01.txt

# up-share: what the uplink has of the downlink in the pairs: TMobile 0.943 of 2.020 Mb/s (3G), ATT 1.910 of 4.560 (LTE).
fit 3g-driving mahimahi-TMobile-UMTS-driving.up --step-s 0.5 --rtt-from $rtt --rtt-ms 100
fit 3g-train sabre-3g-metro_2010-09-21.json --up-share 0.47 --rtt-from $rtt --rtt-ms 100
fit lte-driving mahimahi-ATT-LTE-driving-2016.up --step-s 0.25 --rtt-from $rtt --rtt-ms 50
fit lte-walking sabre-4g-foot_0006.json mptraces-8_5_cellular.csv --up-share 0.42 --rtt-from $rtt --rtt-ms 50
fit 5g-driving uccmisl-5g-driving_B_2019.12.14_10.16.30.csv --up-share 0.42 --rtt-from $rtt
fit wifi-walking mptraces-8_5_wifi.csv zhuge-rest-wifi_14.txt --rtt-from $rtt --rtt-ms 10

for pair in "3g lte-walking" "5g lte-walking" "lte 3g-train" "5g 3g-train" "wifi lte-driving" "wifi 3g-train"; do
    net=${pair% *}
    motion=${pair#* }
    levels=$net-driving
    [ "$net" = wifi ] && levels=wifi-walking
    spinn trace derive "$levels" "$motion" --name "$net-${motion#*-}" --out "$models/$net-${motion#*-}.json"
done

for model in 3g-driving lte-driving lte-walking lte-train 5g-driving wifi-walking; do
    spinn trace generate --model "$model" --seed 9 --duration 600 --out "$root/traces/data/$model.csv"
done
