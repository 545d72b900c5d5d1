#!/bin/sh
# Creates Temporal's two databases on PostgreSQL, or brings them to the schema of this version. Runs to its end before the server starts.
set -eu

tool() {
  temporal-sql-tool --plugin postgres12 --ep "$POSTGRES_SEEDS" -p "$DB_PORT" -u "$POSTGRES_USER" "$@"
}

# database, folder of its schema
migrate() {
  tool --db "$1" update-schema -d "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

# A database that is there already is no reason to stop: an earlier try may have got that far.
create() {
  tool --db "$1" create || true
  tool --db "$1" setup-schema -v 0.0
  migrate "$1" "$2"
}

migrate temporal temporal || create temporal temporal
migrate temporal_visibility visibility || create temporal_visibility visibility
