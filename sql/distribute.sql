-- Pins idem_distribute on a server without Citus: refused, for administrators only. With Citus: t/140.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\pset null null

-- runs a statement and says how it failed
CREATE FUNCTION pg_temp.try(stmt text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE stmt;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN format(E'%s: %s\nDETAIL: %s\nHINT: %s', state, message, detail, hint);
END $$;

SELECT pg_temp.try('SELECT idem_distribute()');
BEGIN READ ONLY;
SELECT pg_temp.try('SELECT idem_distribute()');
ROLLBACK;

CREATE ROLE regress_distribute;
SET ROLE regress_distribute;
SELECT pg_temp.try('SELECT idem_distribute()');
RESET ROLE;
DROP ROLE regress_distribute;
