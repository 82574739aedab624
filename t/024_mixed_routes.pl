# Sessions on both routes at the same keys: a claim that goes directly can lose to a call through SQL after its row is in the table, and
# wait for it, while the call's answer, which does not fit where its row is, waits for that row. The server ends such a circle (40P01) and
# the transaction is run again. Whatever happens, each key's work is done once, and a claimant that was told true did it. Logical decoding does
# not see the row that lost: a subscriber would stop at it. And a lock that was taken in vain holds up nobody.

use strict;
use warnings;

use File::Temp;
use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{IDEM_MIXED_ROUNDS} || 600;
# all clients walk through the same keys in step, so that they meet at each
my $claim = File::Temp->new;
print $claim "SET idem.force_sql = off;\nSELECT claim((nextval('n') / 8)::text);\n";
my $call = File::Temp->new;
print $call "SET idem.force_sql = on;\nSELECT nextval('n') / 8 AS k \\gset\nSELECT length(idem_call('mixed', ':k', 'work', '{\"seq\": \":k\"}')::text);\n";
close $_ foreach $claim, $call;
foreach my $level ('replica', 'logical')
{
	my $node = idem_node($level, 'fsync = off', "deadlock_timeout = '20ms'", "wal_level = $level");
	$node->safe_psql('postgres', q{
		CREATE TABLE effect (seq text, by_call boolean);
		CREATE FUNCTION work(request jsonb) RETURNS json LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO effect VALUES (request->>'seq', true);
			RETURN to_json((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 40) i));
		END $$;
		CREATE FUNCTION claim(k text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			IF idem_claim('mixed', k) THEN
				INSERT INTO effect VALUES (k, false);
			END IF;
		END $$;
	});
	$node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('decoded', 'test_decoding')}) if $level eq 'logical';
	$node->safe_psql('postgres', 'CREATE SEQUENCE n');
	my ($out, $err);
	IPC::Run::run(
		[
			'pgbench', '-n', '-c', 8, '-j', 2, '-t', $rounds, '--failures-detailed', '--max-tries=100', '-h', $node->host, '-p', $node->port,
			'-f', "$claim", '-f', "$call", 'postgres'
		],
		'>', \$out, '2>', \$err);
	unlike($err, qr/aborted|ERROR/, 'all clients came to their end') or diag($err);
	note($out);
	my ($keys) = split /\n/, $node->safe_psql('postgres', 'SELECT count(*) FROM idem.claim');
	cmp_ok($keys, '>', $rounds / 2, 'many keys');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT seq FROM effect GROUP BY seq HAVING count(*) > 1) d}), 0, 'no work was done twice');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM idem.claim c FULL JOIN effect e USING (seq) WHERE c.seq IS NULL OR e.seq IS NULL}), 0, '… and none is missing');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM idem.claim JOIN effect USING (seq) WHERE by_call <> (response IS NOT NULL)}), 0, '… and the answer is that of whoever did it');
	my $both = $node->safe_psql('postgres', 'SELECT count(*) FILTER (WHERE by_call) > 0 AND count(*) FILTER (WHERE NOT by_call) > 0 FROM effect');
	is($both, 't', 'both routes won');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_logical_slot_peek_changes('decoded', NULL, NULL) WHERE data LIKE 'table idem.claim: DELETE%'}), 0, '... and no row that lost was decoded') if $level eq 'logical';
	is($node->safe_psql('postgres', q{BEGIN; SELECT count(idem_claim('locks', g::text)) FROM generate_series(1, 100) g; SELECT count(*) FROM pg_locks WHERE locktype = 'spectoken'; COMMIT}), "100\n0", '... and no lock is left of a row');
	$node->stop;
}

# A lock that was taken in vain leaves no trace.
my $node = idem_node('traces', 'fsync = off', "deadlock_timeout = '20ms'");
$node->safe_psql('postgres', q{CREATE ROLE holder LOGIN SUPERUSER});

# the holder found no such lock, and stands still before it makes it; meanwhile another makes it through SQL. So many renewals are more than
# fit into the page, and need new entries in the index
my ($admin, $holder) = (IdemTest::Session->new($node), IdemTest::Session->new($node, user => 'holder'));
$admin->ask('SET idem.force_sql = on');
$holder->ask($_) foreach 'BEGIN', q{SELECT idem_lock('vain', '1 hour')}, 'ROLLBACK', 'BEGIN';
$holder->stop_at_roles($admin, 'holder', q{SELECT idem_lock('vain', CASE WHEN pg_advisory_xact_lock_shared(1) IS NOT NULL THEN interval '1 hour' END)});
is($admin->ask(q{SET ROLE holder; SELECT idem_lock('vain', '1 hour')}), '1', 'a lock is taken through SQL');
$admin->ask('COMMIT');
is($holder->answer, '', '... and directly at the same time, in vain');
$admin->ask(q{SET lock_timeout = '20s'});
is($admin->ask(q{SELECT count(*) FILTER (WHERE idem_lock_renew('vain', 1, '1 hour')) FROM generate_series(1, 300)}), '300', '... which does not hold up the renewals');
$holder->ask('ROLLBACK');
$_->end for $admin, $holder;

# so it is where an insertion is confirmed, in a record of its own
foreach my $call (q{idem_lock('named', '1 hour')}, q{idem_token_issue('form', 'subject', '1 hour', 9)}, q{idem_stock_add('item', 1)}, q{idem_stock_reserve('s', '1', 'item', 1)})
{
	my $from = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	my $to = $node->safe_psql('postgres', "SET idem.force_sql = off; SET synchronous_commit = on; SELECT $call IS NOT NULL; SELECT pg_current_wal_insert_lsn()") =~ s/.*\n//r;
	my ($records, $complaint) = run_command([ 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $from, '-e', $to ]);
	like($records, qr/\bHEAP_CONFIRM\b/, "$call: can be taken back without a trace") or diag($complaint);
}
$node->stop;
done_testing();
