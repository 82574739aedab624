-- Pins idem_distribute on a server without Citus: refused, for administrators only. With Citus: t/140.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\pset null null

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

SELECT pg_temp.try('SELECT idem_distribute()');
BEGIN READ ONLY;
SELECT pg_temp.try('SELECT idem_distribute()');
ROLLBACK;

CREATE ROLE regress_distribute;
SET ROLE regress_distribute;
SELECT pg_temp.try('SELECT idem_distribute()');
RESET ROLE;
DROP ROLE regress_distribute;
