#!/bin/sh
# Gives the tools' roles the passwords that `sallyport bootstrap` has made.
set -eu
for role in reader customers; do
  psql -v ON_ERROR_STOP=1 -v password="$(cat "/db/$role.password")" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<SQL
ALTER ROLE sallyport_$role PASSWORD :'password';
SQL
done
