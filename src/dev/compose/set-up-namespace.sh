#!/bin/sh
# Creates the namespace, which keeps ended runs for 30 days, and the search attributes. Repeating it changes nothing.
set -eu

temporal operator namespace describe --namespace "$ANNEAL_TEMPORAL_NAMESPACE" ||
  temporal operator namespace create --namespace "$ANNEAL_TEMPORAL_NAMESPACE" --retention 720h

for attribute in $SEARCH_ATTRIBUTES; do
  temporal operator search-attribute create --namespace "$ANNEAL_TEMPORAL_NAMESPACE" --name "$attribute" --type Keyword
done
