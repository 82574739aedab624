# Crashes: a backend that is killed in the middle of a claim frees its key; after a crash of the server what was
# committed is a duplicate, what was not is free, what was prepared is held until somebody decides. And the waits for
# a prepared claim, which the isolation tester cannot see.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = idem_node('crash', 'max_prepared_transactions = 10', 'restart_after_crash = on', 'fsync = on');

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE effect (seq text, who text);
-- each claim has an effect and the other way round, none twice
CREATE VIEW proof AS
	SELECT count(*) = count(who) AND count(*) = count(c.seq) AND count(*) = count(DISTINCT seq) AS holds, count(*)
	FROM effect FULL JOIN (SELECT seq FROM idem.claim WHERE source = 'crash') c USING (seq);
CREATE FUNCTION work(seq text, who text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF NOT idem_claim('crash', seq) THEN
		RETURN 'false';
	END IF;
	INSERT INTO effect VALUES (seq, who);
	RETURN 'true';
END $$;
SQL
sub proof { return $node->safe_psql('postgres', 'SELECT * FROM proof'); }

# the waiter of a prepared claim, by level and end
foreach my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	foreach my $force_sql ('off', 'on')
	{
		foreach my $end ('COMMIT', 'ROLLBACK')
		{
			my $key = "$level $force_sql $end";
			my $waiter = IdemTest::Session->new($node);
			my $expected = $end eq 'ROLLBACK' ? 'true'
			  : $level eq 'READ COMMITTED' ? 'false'
			  : $level eq 'SERIALIZABLE' || $force_sql eq 'on' ? 'ERROR 40001'
			  : 'false';

			$node->safe_psql('postgres', "BEGIN ISOLATION LEVEL $level; SELECT work('$key', 'prepared'); PREPARE TRANSACTION 'crash'");
			$waiter->ask("SET idem.force_sql = $force_sql; BEGIN ISOLATION LEVEL $level");
			$waiter->tell("SELECT work('$key', 'waiter')");
			$waiter->waits($node);
			$node->safe_psql('postgres', "$end PREPARED 'crash'");
			my $answer = $waiter->answer;
			# ROLLBACK PREPARED lets go of its locks before it forgets what it has read and written: a waiter that is quick meets
			# a conflict with a transaction that is all but gone, and tries again, as 40001 asks it to
			if ($answer eq 'ERROR 40001' && $level eq 'SERIALIZABLE' && $end eq 'ROLLBACK')
			{
				$waiter->ask("ROLLBACK; BEGIN ISOLATION LEVEL $level");
				$answer = $waiter->ask("SELECT work('$key', 'waiter')");
			}
			is($answer, $expected, "prepared, $level, force_sql $force_sql, $end: the waiter has $expected");
			$waiter->ask('COMMIT');
			$waiter->end;
		}
	}
}
like(proof(), qr/^t/, 'one effect for each claim');

# a rival that is prepared while it is waited for
my ($winner, $waiter) = map { IdemTest::Session->new($node) } 1 .. 2;
$winner->ask("BEGIN; SELECT work('while', 'winner')");
$waiter->tell("SELECT work('while', 'waiter')");
$waiter->waits($node);
$winner->ask("PREPARE TRANSACTION 'crash'");
# it wakes for a moment when it looks for a deadlock; had it gone on, it would never wait again
$waiter->waits($node);
pass('the waiter goes on waiting');
$winner->ask("ROLLBACK PREPARED 'crash'");
is($waiter->answer, 'true', 'and has the key when the prepared one is rolled back');
$_->end foreach $winner, $waiter;

# a backend is terminated: its key is free, and its waiter goes on at once
($winner, $waiter) = map { IdemTest::Session->new($node) } 1 .. 2;
$winner->ask("BEGIN; SELECT work('terminated', 'winner')");
$waiter->tell("SELECT work('terminated', 'waiter')");
$waiter->waits($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($winner->{pid})");
is($waiter->answer, 'true', 'terminated: the waiter has the key');
is($node->safe_psql('postgres', "SELECT work('terminated', 'late')"), 'false', 'and it is taken then');
$_->end foreach $winner, $waiter;

# a waiter is terminated: the winner is none the wiser
($winner, $waiter) = map { IdemTest::Session->new($node) } 1 .. 2;
$winner->ask("BEGIN; SELECT work('waiter', 'winner')");
$waiter->tell("SELECT work('waiter', 'waiter')");
$waiter->waits($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($waiter->{pid})");
$winner->ask('COMMIT');
is($node->safe_psql('postgres', "SELECT who FROM effect WHERE seq = 'waiter'"), 'winner', 'a terminated waiter changes nothing');
$_->end foreach $winner, $waiter;

# a backend is killed while it claims and another one waits: the server starts anew, and the key is free
($winner, $waiter) = map { IdemTest::Session->new($node) } 1 .. 2;
$node->safe_psql('postgres', "SELECT work('committed', 'first')");
$winner->ask("BEGIN; SELECT work('killed', 'winner'); SELECT count(*) FROM idem_claim_batch('crash batch', ARRAY(SELECT k::text FROM generate_series(1, 5000) k))");
$waiter->tell("SELECT work('killed', 'waiter')");
$waiter->waits($node);
kill 'KILL', $winner->{pid};
$_->end foreach $winner, $waiter;
$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $winner->{pid})");
is($node->safe_psql('postgres', "SELECT work('killed', 'late'), work('committed', 'late')"), 'true|false', 'killed: the key is free, committed ones are not');
is($node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE claimed) FROM idem_claim_batch('crash batch', ARRAY(SELECT k::text FROM generate_series(1, 5000) k))"),
	5000, 'and so are the keys of its batch');

# the server is stopped at once, with claims open, prepared and committed
my @open = map { IdemTest::Session->new($node) } 1 .. 3;
$open[0]->ask("BEGIN; SELECT work('open', 'open')");
$open[1]->ask("BEGIN; SAVEPOINT s; SELECT work('savepoint', 'open'); ROLLBACK TO s");
$open[2]->ask("BEGIN; SELECT work('prepared 1', 'prepared'), idem_respond('crash', 'prepared 1', '[1,  2]'); PREPARE TRANSACTION 'one'");
$open[2]->ask("BEGIN; SAVEPOINT s; SELECT work('prepared 2', 'prepared'); RELEASE s; PREPARE TRANSACTION 'two'");
$node->safe_psql('postgres', "SELECT work('committed at last', 'first')");
$node->stop('immediate');
$_->end foreach @open;
$node->start;
is($node->safe_psql('postgres', "SELECT work('open', 'late'), work('savepoint', 'late'), work('committed at last', 'late')"),
	'true|true|false', 'after an immediate stop: open ones are free, committed ones are not');
is(sqlstate($node, "SELECT idem_claim('crash', 'prepared $_', wait => false)"), 'ID409', "prepared $_ is held") foreach 1 .. 2;
is(sqlstate($node, "SET lock_timeout = '50ms'; SELECT idem_claim('crash', 'prepared 1')"), '55P03', '… and can be waited for');
my @waiters = map { IdemTest::Session->new($node) } 1 .. 2;
$waiters[$_ - 1]->tell("SELECT work('prepared $_', 'waiter')") foreach 1 .. 2;
$_->waits($node) foreach @waiters;
$node->safe_psql('postgres', "COMMIT PREPARED 'one'");
$node->safe_psql('postgres', "ROLLBACK PREPARED 'two'");
is($waiters[0]->answer, 'false', 'committed: false for the others');
is($waiters[1]->answer, 'true', 'rolled back: true for one');
is($node->safe_psql('postgres', "SELECT idem_response('crash', 'prepared 1')"), '[1,  2]', 'its answer is there');
$_->end foreach @waiters;

# under load, again and again
my $rounds = $ENV{IDEM_CRASH_ROUNDS} // 3;
$node->safe_psql('postgres', 'CREATE SEQUENCE wanted');
my $script = $node->basedir . '/load.sql';
append_to_file($script, <<'SQL');
BEGIN;
SELECT work((nextval('wanted') / 4)::text, 'load');
SELECT idem_claim_batch('crash load', ARRAY[:client_id || '-' || random()::text, 'b', 'a']);
COMMIT;
SQL
foreach my $round (1 .. $rounds)
{
	my $load = IPC::Run::start(
		[ 'pgbench', '-n', '-c', 8, '-T', 60, '-h', $node->host, '-p', $node->port, '-f', $script, 'postgres' ],
		'>', \my $out, '2>', \my $err);

	$node->poll_query_until('postgres', "SELECT count(*) > 100 * $round FROM effect");
	$node->stop('immediate');
	$load->finish;
	$node->start;
	like(proof(), qr/^t/, "crash $round under load: one effect for each claim");
}
is( $node->safe_psql('postgres', <<'SQL'),
SELECT count(*) FROM effect WHERE idem_claim('crash', seq)
SQL
	0, 'all keys are duplicates');
is( $node->safe_psql('postgres', <<'SQL'),
SET enable_seqscan = off; SET enable_bitmapscan = off;
CREATE TEMP TABLE by_index AS SELECT source, seq FROM idem.claim WHERE source > '';
SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off;
SELECT count(*) FROM (SELECT source, seq FROM idem.claim EXCEPT ALL SELECT source, seq FROM by_index) AS missing;
SQL
	0, 'the index has every row');
# a recovery may end at a page of a segment that was used before: the server says "unexpected pageaddr"
ok(!$node->log_contains('PANIC|TRAP:|could not read|unexpected (?!pageaddr|EOF on client)'), 'no complaint in the log');

$node->stop;
done_testing();
