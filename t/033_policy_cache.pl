# What a session knows of policies is what is committed, at its next call: after a change elsewhere, a rollback, a prepared change, a
# purge, and when the extension was dropped and made again; and it reads nothing while nothing changes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use IdemTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = idem_node('policies', 'max_prepared_transactions = 5');
my $n = 0;

# The key is made new for each call, of an age in minutes.
sub claim
{
	my ($session, $age, $source) = @_;
	$source //= 'a';
	$n++;
	return $session->ask("SELECT idem_claim('$source', extract(epoch FROM clock_timestamp() - interval '$age minutes')::bigint || '-$n')");
}

for my $route (qw(off on))
{
	my @sessions = map { IdemTest::Session->new($node) } 1 .. 2;
	my ($admin, $client) = @sessions;
	$client->ask("SET idem.force_sql = $route");

	is(claim($client, 90), 't', "force_sql $route: without a policy");
	$admin->ask(q{SELECT idem_policy('a', '1 hour', 'unix')});
	is(claim($client, 90), 'ERROR ID410', 'a policy is made elsewhere');
	is(claim($client, 30), 't', '… and what is new enough is claimed');
	is(claim($client, 90, 'b'), 't', '… another source has none');
	$admin->ask(q{BEGIN; SELECT idem_policy('a', '2 hours')});
	is(claim($client, 90), 'ERROR ID410', 'a change that is not committed');
	is(claim($admin, 90), 't', '… is one for its own transaction');
	$admin->ask('COMMIT');
	is(claim($client, 90), 't', '… and for all when it is committed');
	$admin->ask(q{BEGIN; SELECT idem_policy('a', '1 hour')});
	$admin->ask('ROLLBACK');
	is(claim($_, 90), 't', 'a change that is rolled back') for @sessions;
	$admin->ask(q{BEGIN; SELECT idem_policy('a', '1 hour'); PREPARE TRANSACTION 'p'});
	is(claim($client, 90), 't', 'a change that is prepared');
	$admin->ask(q{COMMIT PREPARED 'p'});
	is(claim($client, 90), 'ERROR ID410', '… and committed');
	$admin->ask(q{SELECT idem_policy('a', key_time => 'none')});
	is(claim($client, 90), 't', 'without key_time');
	$admin->ask(q{SELECT idem_policy('a', '1 year', 'unix')});
	is(claim($client, 90), 't', 'a long retention');
	$admin->ask(q{SELECT idem_policy('a', not_before => now() - interval '1 hour')});
	is(claim($client, 90), 'ERROR ID410', 'a mark');

	# in the middle of a transaction that began before
	for my $level ('REPEATABLE READ', 'SERIALIZABLE')
	{
		$client->ask("BEGIN ISOLATION LEVEL $level");
		is(claim($client, 30), 't', "$level: before");
		$admin->ask(q{SELECT idem_policy('a', not_before => now() - interval '20 minutes')}) if $level eq 'SERIALIZABLE';
		$admin->ask(q{SELECT idem_policy('a', not_before => now() - interval '40 minutes')}) if $level ne 'SERIALIZABLE';
		is(claim($client, $level eq 'SERIALIZABLE' ? 30 : 50), 'ERROR ID410', '… and after');
		$client->ask('ROLLBACK');
	}

	# nothing is read while nothing changes: the table is not even locked
	$client->ask('BEGIN');
	claim($client, 1);
	is($admin->ask("SELECT count(*) FROM pg_locks WHERE pid = $client->{pid} AND relation = 'idem.policy'::regclass"), 0, 'what is known is not read again');
	$client->ask('ROLLBACK');

	# more sources than are kept
	is($client->ask(q{SELECT count(*) FILTER (WHERE idem_claim('s' || i, 'x')) FROM generate_series(1, 3000) i}), 3000, '3000 sources');
	cmp_ok($client->ask(q{SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name LIKE 'idem policy%'}), '<', 2_000_000, '… take little memory');

	# the extension is dropped and made again
	$admin->ask('SET client_min_messages = warning; DROP EXTENSION idem; CREATE EXTENSION idem');
	is(claim($client, 90), 't', 'a new extension has no policies');
	$admin->ask(q{SELECT idem_policy('a', '1 hour', 'unix')});
	is(claim($client, 90), 'ERROR ID410', '… and takes one');
	$admin->ask('DROP EXTENSION idem; CREATE EXTENSION idem');
	$_->end for @sessions;
}

# Between the look at a policy and the insertion: the call stands still there, for it must read the catalog of roles, whose cache was made stale, and
# which is locked. (Nobody can connect meanwhile, or ask for anything that depends on who asks.)
$node->safe_psql('postgres', q{CREATE ROLE stopped LOGIN; SELECT idem_stock_add('thing', 100)});
for my $route (qw(off on))
{
	my ($admin, $client) = (IdemTest::Session->new($node), IdemTest::Session->new($node, user => 'stopped'));
	my $key = q{extract(epoch FROM clock_timestamp() - interval '%d seconds')::bigint};
	my @calls = (
		[ 'claim', "SELECT pg_advisory_xact_lock_shared(1), idem_claim('s', $key || '-c')", qr/^ERROR ID410$/ ],
		[ 'begin', "SELECT pg_advisory_xact_lock_shared(1), (idem_begin('s', $key || '-b')).status", qr/^ERROR ID410$/ ],
		[ 'cancel', "SELECT pg_advisory_xact_lock_shared(1), idem_cancel('s', $key || '-a')", qr/^ERROR ID410$/ ],
		[ 'batch', "SELECT pg_advisory_xact_lock_shared(1), idem_claim_batch('s', ARRAY[$key || '-1', $key || '-2', $key || '-3'])", qr/^(?:[^\n]*,gone\)\n?){3}$/ ],
		[ 'reserve', "SELECT pg_advisory_xact_lock_shared(1), idem_stock_reserve('s', $key || '-r', 'thing', 1)", qr/^ERROR ID410$/ ],
		[ 'release', "SELECT pg_advisory_xact_lock_shared(1), idem_stock_release('s', $key || '-l')", qr/^ERROR ID410$/ ]);

	$client->ask("SET idem.force_sql = $route");
	$admin->ask(q{SELECT idem_policy('s', '1 hour', 'unix')});
	for my $call (@calls)
	{
		my ($name, $sql, $wanted) = @$call;

		$sql =~ s/%d/10/g;
		# what the call needs of the catalogs is known
		(my $before = $sql) =~ s/pg_advisory_xact_lock_shared\(1\)/1/;
		$client->ask('BEGIN');
		unlike($client->ask($before), $wanted, "force_sql $route, $name: new enough");
		$client->ask('ROLLBACK');
		$client->stop_at_roles($admin, 'stopped', $sql);
		$admin->ask(q{SELECT idem_policy('s', not_before => clock_timestamp())});
		$admin->ask('COMMIT');
		like($client->answer, $wanted, "force_sql $route, $name: too old when it is inserted");
		$admin->ask(q{DELETE FROM idem.policy; DELETE FROM idem.claim; DELETE FROM idem.hold});
		$admin->ask(q{SELECT idem_policy('s', '1 hour', 'unix')});
	}
	$_->end for $admin, $client;
}

done_testing();
