# How fast a claim is, against the same INSERT … ON CONFLICT DO NOTHING, both in a loop inside the server: a figure to
# look at, which never fails, for the machine may be busy. What does not depend on it is asserted: the WAL. A first
# claim writes no more than the bare insert, a duplicate nothing.
# IDEM_SPEED_ROUNDS and IDEM_SPEED_CALLS: rounds, and calls in each of them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $rounds = $ENV{IDEM_SPEED_ROUNDS} // 9;
my $calls = $ENV{IDEM_SPEED_CALLS} // 5_000;
my $node = idem_node('speed', 'max_wal_size = 4GB', 'checkpoint_timeout = 1h', 'autovacuum = off', 'jit = off',
	'synchronous_commit = off', 'full_page_writes = off', 'wal_level = replica', 'bgwriter_lru_maxpages = 0');

$node->safe_psql('postgres', <<'SQL');
-- the table that people write for it: the same columns that a claim fills
CREATE TABLE bare (
	source text COLLATE "C" NOT NULL,
	seq text COLLATE "C" NOT NULL,
	claimed_at timestamptz NOT NULL,
	PRIMARY KEY (source, seq)
);
CREATE TABLE figure (what text, round integer, seconds float8, wal numeric, xid boolean);

CREATE PROCEDURE measure(what text, round integer, calls integer) LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
	lsn pg_lsn;
	ignored integer := 0;
	done boolean;
BEGIN
	lsn := pg_current_wal_insert_lsn();
	started := clock_timestamp();
	IF what LIKE 'claim%' THEN
		FOR i IN 1..calls LOOP
			done := idem_claim('speed', 'key ' || i);
		END LOOP;
	ELSE
		FOR i IN 1..calls LOOP
			INSERT INTO bare VALUES ('speed', 'key ' || i, clock_timestamp()) ON CONFLICT DO NOTHING;
			done := FOUND;
		END LOOP;
	END IF;
	INSERT INTO figure VALUES (what, round, extract(epoch FROM clock_timestamp() - started),
		pg_current_wal_insert_lsn() - lsn, pg_current_xact_id_if_assigned() IS NOT NULL);
END $$;
CREATE PROCEDURE measure_all(rounds integer, calls integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR round IN 0..rounds LOOP
		TRUNCATE bare;
		TRUNCATE idem.claim;
		COMMIT;
		IF round % 2 = 0 THEN
			CALL measure('claim first', round, calls);
			COMMIT;
			CALL measure('bare first', round, calls);
			COMMIT;
			CALL measure('claim duplicate', round, calls);
			COMMIT;
			CALL measure('bare duplicate', round, calls);
		ELSE
			CALL measure('bare first', round, calls);
			COMMIT;
			CALL measure('claim first', round, calls);
			COMMIT;
			CALL measure('bare duplicate', round, calls);
			COMMIT;
			CALL measure('claim duplicate', round, calls);
		END IF;
		COMMIT;
	END LOOP;
END $$;
-- of round 0 nothing counts: it plans, and fills caches
CREATE VIEW ratio AS
	SELECT substr(c.what, 7) AS what,
		percentile_cont(0.5) WITHIN GROUP (ORDER BY b.seconds / NULLIF(c.seconds, 0)) AS times,
		min(c.wal) AS claim_wal, min(b.wal) AS bare_wal, bool_or(c.xid) AS claim_xid
	FROM figure c JOIN figure b ON b.what = 'bare ' || substr(c.what, 7) AND b.round = c.round
	WHERE c.what LIKE 'claim%' AND c.round > 0
	GROUP BY c.what;
SQL

foreach my $force_sql ('off', 'on')
{
	$node->safe_psql('postgres', "TRUNCATE figure; SET idem.force_sql = $force_sql; CALL measure_all($rounds, $calls)");
	diag("force_sql $force_sql, $rounds rounds of $calls calls: as fast as the bare insert, times; WAL bytes a call, claim and bare\n"
		  . $node->safe_psql('postgres', <<"SQL"));
SELECT what, round(times::numeric, 2), round(claim_wal / $calls, 1), round(bare_wal / $calls, 1) FROM ratio ORDER BY what DESC
SQL
	is($node->safe_psql('postgres', "SELECT claim_wal <= bare_wal FROM ratio WHERE what = 'first'"),
		't', "force_sql $force_sql: a first claim writes no more WAL than the bare insert")
	  if $force_sql eq 'off';
	is($node->safe_psql('postgres', "SELECT claim_wal, claim_xid FROM ratio WHERE what = 'duplicate'"),
		'0|f', "force_sql $force_sql: a duplicate writes none, and has no transaction id");
}

$node->stop;
done_testing();
