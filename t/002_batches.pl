# Batches never deadlock: two sessions with 1,000 keys in opposite order, 16 sessions with the same 100 keys shuffled,
# on both routes and mixed, with the server's default lock table. The same keys claimed one by one, as a batch that is not
# sorted would, do deadlock. IDEM_BATCH_ROUNDS: rounds for two sessions; half as many for 16.
# soak: IDEM_BATCH_ROUNDS=2000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $rounds = $ENV{IDEM_BATCH_ROUNDS} // 100;
my $node = idem_node('batches', 'max_locks_per_transaction = 64');

is($node->safe_psql('postgres', 'SHOW max_locks_per_transaction') . ' ' . $node->safe_psql('postgres', 'SHOW max_connections'),
	'64 100', 'lock table of the default size up to 18');

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE effect (round integer, seq text, client integer);
CREATE SEQUENCE met;
-- returns when all clients have called it for that round
CREATE FUNCTION meet(round integer, clients integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('met');
	WHILE clock_timestamp() < statement_timestamp() + interval '5 minutes' LOOP
		IF (SELECT last_value FROM met) >= round * clients THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.001);
	END LOOP;
	RAISE 'only % clients have come for round %', (SELECT last_value FROM met), round;
END $$;
-- the keys of a round: up, down, or in any order
CREATE FUNCTION keys(round integer, n integer, how text) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(round || '-' || i ORDER BY CASE how WHEN 'up' THEN i WHEN 'down' THEN -i ELSE random() END)
	FROM generate_series(1, n) i
$$;
-- one by one; half-way it gives the others time to come as far, or a busy machine may run one client after the other
CREATE FUNCTION claim_each(source text, seqs text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..cardinality(seqs) LOOP
		IF idem_claim(source, seqs[i]) THEN
			RETURN NEXT seqs[i];
		END IF;
		IF i = cardinality(seqs) / 3 THEN
			PERFORM pg_sleep(0.05);
		END IF;
	END LOOP;
END $$;
SQL

# batches(RUN, CLIENTS, ROUNDS, CLAIMED, PGBENCH-OPTION...): every client claims the same keys in each round;
# every fourth transaction is rolled back, but in the control. CLAIMED selects the keys that it got.
sub batches
{
	my ($run, $clients, $n, $claimed, @options) = @_;
	my $gives_up = $run eq 'control' ? 1 : 'random(0, 3)';    # of those that deadlocks leave over, all are to be seen

	$node->safe_psql('postgres', 'ALTER SEQUENCE met RESTART; TRUNCATE effect; TRUNCATE idem.claim');
	return clients($node, $clients, $n, <<"SCRIPT", '-D', 'round=1', @options);
SELECT set_config('idem.force_sql', (CASE '$run' WHEN 'sql' THEN true WHEN 'mixed' THEN :client_id % 2 = 0 ELSE false END)::text, false);
SELECT meet(:round, $clients);
\\set now :round
\\set round :round + 1
\\set gives_up $gives_up
BEGIN;
INSERT INTO effect SELECT :now, claimed.seq, :client_id FROM $claimed;
\\if :gives_up = 0
ROLLBACK;
\\else
COMMIT;
\\endif
SCRIPT
}

# a round in which all gave up has no effects, and no claims either
my $once = <<'SQL';
SELECT count(*) = count(DISTINCT (round, e.seq)), count(*) = (SELECT count(*) FROM idem.claim), count(*) > 0,
	count(*) FILTER (WHERE c.seq IS NULL)
FROM effect e LEFT JOIN idem.claim c ON c.source = 'batch' AND c.seq = e.seq
SQL

foreach my $run ('direct', 'sql', 'mixed')
{
	my $order = "keys(:now, 1000, CASE :client_id WHEN 0 THEN 'up' ELSE 'down' END)";
	like(batches($run, 2, $rounds, "(SELECT seq FROM idem_claim_batch('batch', $order) WHERE claimed) AS claimed"),
		qr/number of failed transactions: 0 /, "$run: two sessions, 1000 keys in opposite order, $rounds rounds: no failure");
	is($node->safe_psql('postgres', $once), 't|t|t|0', "$run: each key claimed once");

	my $n = int($rounds / 2);
	$order = "keys(:now, 100, 'shuffled')";
	like(batches($run, 16, $n, "(SELECT seq FROM idem_claim_batch('batch', $order) WHERE claimed) AS claimed"),
		qr/number of failed transactions: 0 /, "$run: 16 sessions, 100 keys shuffled, $n rounds: no failure");
	is($node->safe_psql('postgres', $once), 't|t|t|0', "$run: each key claimed once");
}
ok(!$node->log_contains('deadlock detected|out of shared memory'), 'no deadlock, no full lock table in the log');

# the control: what the order is for
my $order = "keys(:now, 1000, CASE :client_id WHEN 0 THEN 'up' ELSE 'down' END)";
$node->append_conf('postgresql.conf', 'deadlock_timeout = 20ms');
$node->reload;
sub deadlocks
{
	my ($what, @arguments) = @_;
	my $out;

	foreach (1 .. 10)
	{
		$out = batches('control', @arguments);
		is($node->safe_psql('postgres', $once), 't|t|t|0', "$what: still no key claimed twice");
		last if $out !~ /number of deadlock failures: 0 /;
	}
	unlike($out, qr/number of deadlock failures: 0 /, "$what: deadlocks");
	return;
}
deadlocks('the same keys one by one', 2, 20, "claim_each('batch', $order) AS claimed(seq)");
deadlocks('an unsorted batch', 16, 5, "claim_each('batch', keys(:now, 100, 'shuffled')) AS claimed(seq)");

note("figures: 16 sessions, 100 shuffled keys, " . int($rounds / 2) . ' rounds on each of three routes');
$node->stop;
done_testing();
