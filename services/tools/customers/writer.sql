-- A role that can read and delete customers and orders of the demo database,
-- for the tool service customers. A superuser runs this once in that database.
-- Then give the role a way to log in, such as
--
--   ALTER ROLE sallyport_customers PASSWORD '…';

CREATE ROLE sallyport_customers LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE sallyport_customers SET statement_timeout = '30s';
ALTER ROLE sallyport_customers SET idle_in_transaction_session_timeout = '30s';

GRANT USAGE ON SCHEMA public TO sallyport_customers;
-- UPDATE of the id alone is what locking a customer's row needs.
GRANT SELECT, DELETE, UPDATE (id) ON customers TO sallyport_customers;
GRANT SELECT, DELETE ON orders TO sallyport_customers;
