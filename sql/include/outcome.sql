-- What the regress tests share: ways to run a statement and to say what became of it. A test reads it so, without its text in the
-- output:
--
--	\set ECHO none
--	\getenv inputdir PG_ABS_SRCDIR
--	\set outcome :inputdir '/sql/include/outcome.sql'
--	\i :outcome
--	\set ECHO all

-- an error in full
CREATE FUNCTION pg_temp.error_text(state text, message text, detail text, hint text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_catalog.format(E'%s: %s\nDETAIL: %s\nHINT: %s', $1, $2, $3, $4)
$$;

-- did it fail, and how?
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN pg_temp.error_text(state, message, detail, hint);
END $$;

-- the first column of its first row, or its error
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text; state text; message text; detail text; hint text;
BEGIN
	EXECUTE statement INTO answer;
	RETURN coalesce(answer, 'null');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN pg_temp.error_text(state, message, detail, hint);
END $$;

-- how many rows it changed, or its error, with the table and column that this is about
CREATE FUNCTION pg_temp.changed(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint; state text; message text; detail text; hint text; tab text; col text;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n || ' rows';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
		tab = TABLE_NAME, col = COLUMN_NAME;
	RETURN pg_temp.error_text(state, message, detail, hint) || CASE WHEN tab <> '' THEN E'\nAT: ' || tab || ' ' || col ELSE '' END;
END $$;
