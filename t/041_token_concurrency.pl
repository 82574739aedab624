# Tokens under 16 concurrent sessions, by both routes: exactly the limit per window, every token consumed exactly once,
# and no memory or lock that grows with the number of calls.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nmax_connections = 40");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION idem;

-- issues under a limit and notes the window, in one transaction
CREATE TABLE issued (subject text, window_end timestamptz, at timestamptz);
CREATE TABLE refused (subject text, asked timestamptz, told timestamptz);
CREATE FUNCTION try_issue(subject text, max_issues int, per interval) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	asked timestamptz := clock_timestamp();
BEGIN
	PERFORM idem_token_issue('limit', subject, max_issues => max_issues, per => per);
	INSERT INTO issued SELECT r.subject, r.window_end, clock_timestamp() FROM idem.token_rate AS r
		WHERE r.purpose = 'limit' AND r.subject = try_issue.subject;
EXCEPTION WHEN SQLSTATE 'ID429' THEN
	INSERT INTO refused VALUES (subject, asked, clock_timestamp());
END $$;

-- the usual way, which the oracle must catch: count, then insert
CREATE TABLE naive (i int);
CREATE FUNCTION naive_issue() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT count(*) < 50 FROM naive) THEN
		PERFORM pg_sleep(0.2);
		INSERT INTO naive VALUES (1);
	END IF;
END $$;

-- consumes with an effect; some consumers roll back
CREATE TABLE token (id int PRIMARY KEY, t text);
CREATE TABLE effect (id int);
CREATE FUNCTION try_consume(n int, fail bool) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect SELECT id FROM token WHERE id = n AND idem_token_consume(t, 'storm', n::text);
	IF fail THEN
		RAISE EXCEPTION 'work failed';
	END IF;
EXCEPTION WHEN raise_exception THEN
	NULL;
END $$;
SQL

# pgbench of 16 clients
sub storm
{
	my ($name, $script, @options) = @_;
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, $script) unless -e $file;
	$node->command_ok([ 'pgbench', '-n', '-c', '16', '-j', '2', '-f', $file, @options, '-h', $node->host, '-p', $node->port, 'postgres' ],
		$name);
	return;
}

for my $force_sql ('off', 'on')
{
	$node->append_conf('postgresql.conf', "idem.force_sql = $force_sql");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('idem.force_sql', true) = '$force_sql'");

	# one window, begun by all at once; two subjects are counted apart
	storm("one_window_$force_sql", "SELECT try_issue('one $force_sql', 100, '1 hour');\nSELECT try_issue('other $force_sql', 37, '1 hour');\n", '-t', '30');
	is($node->safe_psql('postgres', "SELECT subject, count(*) FROM issued WHERE subject LIKE '% $force_sql' GROUP BY 1 ORDER BY 1"),
		"one $force_sql|100\nother $force_sql|37", "exactly the limit ($force_sql)");
	is($node->safe_psql('postgres', "SELECT count(*) FROM refused WHERE subject = 'one $force_sql'"), 480 - 100, 'all others are refused');

	# many windows: none has more than the limit, and nobody is refused but in one that has it, and not before it has. A machine
	# that is too busy to fill them gets longer ones.
	my $full;
	foreach my $try (0 .. 5)
	{
		my $subject = "many $force_sql $try";
		my ($per, $time) = (500 * 2**$try, 4 * 2**$try);

		storm("windows_${force_sql}_$try", "SELECT try_issue('$subject', 20, '$per milliseconds');\n", '-T', $time);
		(my ($windows, $over, $wrongly, $rows), $full) = split /\|/, $node->safe_psql('postgres', <<SQL);
WITH w AS (SELECT window_end, count(*) AS n, max(at) AS last FROM issued WHERE subject = '$subject' GROUP BY window_end)
SELECT count(*), count(*) FILTER (WHERE n > 20),
	(SELECT count(*) FROM refused WHERE subject = '$subject' AND NOT EXISTS (SELECT FROM w
		WHERE n >= 20 AND asked < window_end AND told >= last)),
	(SELECT count(*) FROM idem.token_rate WHERE subject = '$subject'),
	count(*) FILTER (WHERE n = 20 AND EXISTS (SELECT FROM refused WHERE subject = '$subject'
		AND told < window_end AND asked > window_end - interval '$per milliseconds'))
FROM w
SQL
		is($over, 0, "none of $windows windows has more than the limit");
		is($wrongly, 0, 'nobody was refused but in one that has it');
		is($rows, 1, 'one row for all of them');
		last if $full >= 4;
	}
	cmp_ok($full, '>=', 4, "$full windows had the limit, and refused more");

	# 200 tokens, each wanted about 24 times, a third of the consumers fail
	$node->safe_psql('postgres', "TRUNCATE token, effect; INSERT INTO token SELECT n, idem_token_issue('storm', n::text) FROM generate_series(1, 200) AS n");
	storm("consume_$force_sql", "\\set n random(1, 200)\n\\set fail random(0, 2)\nSELECT try_consume(:n, :fail = 0);\n", '-t', '300');
	$node->safe_psql('postgres', 'SELECT try_consume(n, false) FROM generate_series(1, 200) AS n');
	is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM effect'), '200|200', 'each consumed exactly once');
	is($node->safe_psql('postgres', "SELECT count(*) FROM token WHERE idem_token_status(t, 'storm', id::text) = 'used'"), '200', 'and used');
}

storm('naive', "SELECT naive_issue();\n", '-t', '30');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM naive'), '>', 50, 'counting first and inserting then is caught');

# 100,000 calls in one transaction, by the direct route
my ($growth, $locks) = split /\|/, $node->safe_psql('postgres', <<'SQL');
SET idem.force_sql = off;
CREATE FUNCTION calls(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	FOR i IN 1..n LOOP
		-- a row that is updated in the transaction that made it costs the server a few bytes each time
		IF i % 50 = 0 THEN
			PERFORM idem_token_issue('calls', (i % 10)::text, max_issues => 1000000, per => '1 day');
		END IF;
		t := idem_token_issue('calls');
		IF idem_token_status(t, 'calls') <> 'live' OR NOT idem_token_consume(t, 'calls') THEN
			RAISE EXCEPTION 'token % is not live', t;
		END IF;
	END LOOP;
END $$;
BEGIN;
DO 'BEGIN PERFORM calls(10); END';
CREATE TEMPORARY TABLE before AS SELECT sum(total_bytes) AS bytes, (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()) AS locks
	FROM pg_backend_memory_contexts;
DO 'BEGIN PERFORM calls(1); END';
DROP TABLE before;
CREATE TEMPORARY TABLE before AS SELECT sum(total_bytes) AS bytes, (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()) AS locks
	FROM pg_backend_memory_contexts;
DO 'BEGIN PERFORM calls(33000); END';
SELECT (SELECT sum(total_bytes) FROM pg_backend_memory_contexts) - bytes,
	(SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('advisory', 'transactionid', 'tuple')) FROM before;
COMMIT;
SQL
cmp_ok($growth, '<', 300_000, "memory grows by $growth bytes over 100,000 calls in one transaction");
cmp_ok($locks, '<=', 1, 'no lock stays but the one on its own transaction id');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|leak|could not/, 'nothing in the log');

done_testing();
