# A million claims in one transaction: the memory of the backend grows by less than 8 MB, and it holds no lock for
# each of them. The same for duplicates, half as many in a PL/pgSQL loop, and in batches of 10,000; a tenth of
# it through SQL.
# IDEM_MEMORY_CLAIMS: how many, instead of a million.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $claims = $ENV{IDEM_MEMORY_CLAIMS} // 1_000_000;
my $limit = 8 * 1024;    # kB
my $node = idem_node('memory', 'shared_buffers = 512MB', 'max_wal_size = 4GB', 'checkpoint_timeout = 1h',
	'wal_level = minimal', 'max_wal_senders = 0', 'synchronous_commit = off', 'autovacuum = off',
	'jit = off');

$node->safe_psql('postgres', <<'SQL');
-- private memory of this backend in kB, as the operating system sees it; 0 where it does not say
CREATE FUNCTION private_kb() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN coalesce(substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+)')::bigint, 0);
EXCEPTION WHEN undefined_file THEN
	RETURN 0;
END $$;
-- … and as the server counts it
CREATE FUNCTION context_kb() RETURNS bigint LANGUAGE sql AS $$
	SELECT (sum(total_bytes) / 1024)::bigint FROM pg_backend_memory_contexts
$$;
CREATE FUNCTION locks() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
$$;
-- to be called now and then in a long statement: notes the most that there was
CREATE FUNCTION watch() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('test.peak', greatest(current_setting('test.peak')::bigint, private_kb())::text, false);
	RETURN true;
END $$;
CREATE FUNCTION claim_loop(source text, n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	claimed bigint := 0;
BEGIN
	FOR i IN 1..n LOOP
		IF idem_claim(source, i::text) THEN
			claimed := claimed + 1;
		END IF;
		IF i % 50000 = 0 THEN
			PERFORM watch();
		END IF;
	END LOOP;
	RETURN claimed;
END $$;
CREATE FUNCTION batch_loop(source text, n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	claimed bigint := 0;
BEGIN
	FOR i IN 0..n / 10000 - 1 LOOP
		claimed := claimed + (SELECT count(*) FILTER (WHERE b.claimed)
			FROM idem_claim_batch(source, (SELECT array_agg(k::text) FROM generate_series(i * 10000 + 1, (i + 1) * 10000) k)) b);
		PERFORM watch();
	END LOOP;
	RETURN claimed;
END $$;
SQL

# grows(WHAT, FORCE_SQL, EXPECTED, SQL, WARM-UP): SQL in a transaction of its own, with what it leaves behind
sub grows
{
	my ($what, $force_sql, $expected, $sql, $warm_up) = @_;
	my ($before, $answer, $after) = split /\n/, $node->safe_psql('postgres', <<"SQL");
SET idem.force_sql = $force_sql;
SET test.peak = 0;
DO \$\$ BEGIN PERFORM $warm_up, watch(); PERFORM context_kb(), private_kb(), locks(); END \$\$;
BEGIN;
DO \$\$ BEGIN PERFORM $warm_up, watch(); PERFORM context_kb(), private_kb(), locks(); END \$\$;
SET test.peak = 0;
SELECT context_kb(), private_kb(), locks();
$sql;
SELECT context_kb(), greatest(private_kb(), current_setting('test.peak')::bigint), locks();
COMMIT;
SQL
	my ($contexts, $private, $locks) = map { (split /\|/, $after)[$_] - (split /\|/, $before)[$_] } 0 .. 2;

	is($answer, $expected, "$what: $expected claimed");
	cmp_ok($contexts, '<', $limit, "$what: memory contexts");
	# what is freed under the address sanitizer stays for a while, so that its use would be seen
	cmp_ok($private, '<', $limit, "$what: private memory") unless $ENV{IDEM_SANITIZE};
	cmp_ok($locks, '<=', 2, "$what: locks");
	diag("$what: grew by $contexts kB in contexts, $private kB of private memory, $locks locks");
	return;
}

foreach my $route ([ 'directly', 'off' ], [ 'through SQL', 'on' ])
{
	my ($how, $force_sql) = @$route;
	my $n = $force_sql eq 'off' ? $claims : $claims / 10;
	my $each = "SELECT count(*) FILTER (WHERE claimed) FROM (SELECT idem_claim('one', k::text) AS claimed, CASE WHEN k % 50000 = 0 THEN watch() END"
	  . " FROM (SELECT generate_series(1, $n) AS k) AS keys OFFSET 0) AS claims";

	$node->safe_psql('postgres', 'TRUNCATE idem.claim');
	grows("$n in one statement, $how", $force_sql, $n, $each, "idem_claim('warm', '1')");
	grows("$n duplicates in one statement, $how", $force_sql, 0, $each, "idem_claim('warm', '1')");
	grows($n / 2 . " in a loop, $how", $force_sql, $n / 2, "SELECT claim_loop('loop', $n / 2)", "claim_loop('warm loop', 1)");
	grows("$n in batches, $how", $force_sql, $n, "SELECT batch_loop('batch', $n)", "batch_loop('warm batch', 10000)");
}


$node->stop;
done_testing();
