-- A role that can read the demo tables and change nothing, for the tool service
-- sqlquery. A superuser runs this once in the database that will be queried.
-- Then give the role a way to log in, such as
--
--   ALTER ROLE sallyport_reader PASSWORD '…';
--
-- Rights that PUBLIC has by default are taken from PUBLIC: a role cannot be
-- denied what everybody may do. Grant them to other roles that need them.

CREATE ROLE sallyport_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE sallyport_reader SET default_transaction_read_only = on;
ALTER ROLE sallyport_reader SET statement_timeout = '30s';
ALTER ROLE sallyport_reader SET temp_file_limit = '256MB';

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO sallyport_reader;
GRANT SELECT ON customers, orders, products TO sallyport_reader;

DO $$
DECLARE
  f regprocedure;
BEGIN
  EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  -- Functions whose effects a read-only transaction does not hinder, or a
  -- rollback does not undo.
  FOR f IN
    SELECT oid FROM pg_proc
    WHERE proname ~ '^(pg_notify|lo_.*|loread|lowrite|pg_(try_)?advisory_.*|set_config|pg_logical_emit_message|pg_(terminate|cancel)_backend|pg_export_snapshot|pg_(read|ls|stat|write|rename|unlink|rotate|reload)_?.*(file|dir|conf|logfile).*|pg_(create|drop|copy|sync)_.*|pg_replication_.*|pg_promote|pg_switch_wal|pg_stat_reset.*|pg_current_xact_id|txid_current|dblink.*)$'
      AND has_function_privilege('sallyport_reader', oid, 'EXECUTE')
  LOOP
    EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', f);
  END LOOP;
END
$$;
