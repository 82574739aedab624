# What a call answers was true at a moment of it, though it reads the key, the policy of its source and the clock one after the other, and
# others write in between. The call stands still there: for the catalog of roles, whose cache was made stale and which is locked, or for
# idem.policy.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;

use IdemTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = idem_node('judged');
$node->safe_psql('postgres', q{CREATE ROLE caller LOGIN; GRANT EXECUTE ON FUNCTION idem_lock_break, idem_stock_add TO caller});

my $old = q{(extract(epoch FROM clock_timestamp() - interval '10 days')::bigint || '-%s')};
my $over = q{UPDATE idem.%s SET lease_until = clock_timestamp() - interval '1 minute'};
my $renewed = q{UPDATE idem.%s SET lease_until = clock_timestamp() + interval '1 hour'};

# stopped behind the key: what it is, before it, the call, meanwhile, the answer
my @behind_the_key = (
	[ 'a lock that is renewed is broken', q{SELECT idem_lock('n', '1 hour')}, sprintf($over, 'lock'), q{idem_lock_break('n')}, sprintf($renewed, 'lock'), 't' ],
	[ '… and is held', q{SELECT idem_lock('n', '1 hour')}, sprintf($over, 'lock'), q{(idem_lock_lookup('n')).held}, sprintf($renewed, 'lock'), 't' ],
	[ 'an attempt that is renewed runs', q{SELECT idem_begin('a', '1', '1 hour')}, sprintf($over, 'claim'), q{(idem_begin('a', '1', takeover => false)).status}, sprintf($renewed, 'claim'), 'running' ],
	[ '… in a batch, too', q{SELECT idem_begin('a', '1', '1 hour')}, sprintf($over, 'claim'), q{(SELECT status FROM idem_begin_batch('a', '{1}', takeover => false))}, sprintf($renewed, 'claim'), 'running' ],
	[ '… and for who looks', q{SELECT idem_begin('a', '1', '1 hour')}, sprintf($over, 'claim'), q{(idem_lookup('a', '1')).status}, sprintf($renewed, 'claim'), 'running' ],
	[ 'and if nobody renews it, it has expired', q{SELECT idem_begin('a', '1', '1 hour')}, sprintf($over, 'claim'), q{(idem_begin('a', '1', takeover => false)).status}, 'SELECT 1', 'expired' ],
	[
		'an old key that is on record, and completed just now, is not gone',
		q{SELECT count(idem_begin('p', k, '1 hour')) FROM unnest('{1,2,3}'::text[]) AS k},
		q{SELECT idem_policy('p', '1 day', 'unix', not_before => now())},
		q{(SELECT string_agg(status, ' ') FROM idem_begin_batch('p', '{1,2,3}'))},
		q{SELECT idem_complete('p', k, 1) FROM unnest('{2,3}'::text[]) AS k}, qr/^running (?:running|done) (?:running|done)$/
	],
	[
		'… for claims, too',
		q{SELECT count(idem_begin('p', k, '1 hour')) FROM unnest('{1,2,3}'::text[]) AS k},
		q{SELECT idem_policy('p', '1 day', 'unix', not_before => now())},
		q{(SELECT string_agg(status, ' ') FROM idem_claim_batch('p', '{1,2,3}'))},
		q{SELECT idem_complete('p', k, 1) FROM unnest('{2,3}'::text[]) AS k}, qr/^running (?:running|done) (?:running|done)$/
	]);

# stopped before the policy: what it is, the call, meanwhile, the answer
my @before_the_policy = (
	[ 'a key is begun, and then too old: there was none', q{idem_complete('p', '1', 1)}, q{SELECT idem_begin('p', '1', '1 hour')}, qr/^ERROR ID404$/ ],
	[ '… for who answers', q{idem_respond('p', '1', '{}')}, q{SELECT idem_begin('p', '1', '1 hour')}, qr/^ERROR ID404$/ ],
	[ '… for who looks it is there', q{(idem_lookup('p', '1')).status}, q{SELECT idem_begin('p', '1', '1 hour')}, 'running' ],
	[ '… and if nobody begins it, it is gone', q{(idem_lookup('p', '1')).status}, 'SELECT 1', 'gone' ],
	[ 'an order is made, and then too old', q{idem_stock_reserve('p', '1', 'none', 1)}, q{SELECT idem_stock_add('none', 1), idem_stock_reserve('p', '1', 'none', 1)}, 't' ],
	[ '… and if nobody makes it, it is gone', q{idem_stock_reserve('p', '1', 'none', 1)}, 'SELECT 1', qr/^ERROR ID410$/ ],
	[ 'there is no order', q{idem_stock_confirm('p', '1')}, q{SELECT idem_stock_add('none', 1), idem_stock_reserve('p', '1', 'none', 1)}, qr/^ERROR ID404$/ ]);

# The time is in the key; the tables are empty again.
sub timed { return $_[0] =~ s/'p', '(\d)'/sprintf("'p', $old", $1)/ger =~ s/'\{1,2,3\}'(?:::text\[\])?/sprintf("ARRAY[$old, $old, $old]", 1, 2, 3)/ger =~ s/'\{2,3\}'(?:::text\[\])?/sprintf("ARRAY[$old, $old]", 2, 3)/ger; }

sub is_answer
{
	my ($got, $wanted, $what) = @_;
	return ref $wanted ? like($got, $wanted, $what) : is($got, $wanted, $what);
}

for my $route (qw(off on))
{
	my ($admin, $client) = (IdemTest::Session->new($node), IdemTest::Session->new($node, user => 'caller'));

	# the time in a key is that of its run
	my $second = $admin->ask(q{SELECT extract(epoch FROM clock_timestamp() - interval '10 days')::bigint});
	my $key = sub { return timed($_[0]) =~ s/extract\(epoch FROM clock_timestamp\(\) - interval '10 days'\)::bigint/$second/gr; };

	$client->ask("SET idem.force_sql = $route");

	for my $case (@behind_the_key)
	{
		my ($what, $before, $change, $call, $meanwhile, $wanted) = map { ref $_ ? $_ : $key->($_) } @$case;

		$admin->ask(q{DELETE FROM idem.claim; DELETE FROM idem.lock; DELETE FROM idem.policy; SELECT idem_policy('another', '1 day')});
		$client->ask($before);
		# what the call needs of the catalogs is known
		$client->ask($_) foreach 'BEGIN', "SELECT $call", 'ROLLBACK';
		$admin->ask($change);
		$client->stop_at_roles($admin, 'caller', "SELECT CASE WHEN pg_advisory_xact_lock_shared(1) IS NOT NULL THEN $call END");
		unlike($admin->ask($meanwhile), qr/ERROR/, "force_sql $route: $what");
		$admin->ask('COMMIT');
		is_answer($client->answer, $wanted, '… is the answer');
	}

	for my $case (@before_the_policy)
	{
		my ($what, $call, $meanwhile, $wanted) = map { ref $_ ? $_ : $key->($_) } @$case;

		$admin->ask(q{DELETE FROM idem.claim; DELETE FROM idem.hold; DELETE FROM idem.stock; DELETE FROM idem.policy});
		$admin->ask(q{SELECT idem_policy('p', '100 days', 'unix')});
		$client->ask($_) foreach 'BEGIN', "SELECT $call", 'ROLLBACK';
		# what the session knows of policies is stale
		$admin->ask(q{SELECT idem_policy('p', '99 days', 'unix')});
		$admin->ask('BEGIN');
		$admin->ask(q{LOCK TABLE idem.policy IN ACCESS EXCLUSIVE MODE});
		$client->tell("SELECT $call");
		$admin->until_waits($client, 'idem.policy');
		$admin->ask('SET LOCAL ROLE caller');
		unlike($admin->ask($meanwhile), qr/ERROR/, "force_sql $route: $what");
		$admin->ask('RESET ROLE');
		$admin->ask(q{SELECT idem_policy('p', not_before => now())});
		$admin->ask('COMMIT');
		is_answer($client->answer, $wanted, '… is the answer');
	}

	# a row moves on, and its machine is defined anew: each of the three pairs would let the message apply, the old row and the new machine not
	$admin->ask(q{DROP TABLE IF EXISTS moving; DROP TYPE IF EXISTS place; CREATE TYPE place AS ENUM ('s0', 's2', 'x'); CREATE TABLE moving (id int PRIMARY KEY, at place)});
	$admin->ask(q{INSERT INTO moving VALUES (1, 's0'); GRANT ALL ON moving TO caller; SELECT idem_machine('moving', 's0 -> x; s1 -> s2 -> x; s1 -> x')});
	$client->ask($_) foreach 'BEGIN', q{SELECT idem_advance('moving', 'moving', 'at', 'x', 1)}, 'ROLLBACK';
	$admin->ask(q{ALTER TYPE place RENAME VALUE 's0' TO 's1'});
	$admin->ask('BEGIN');
	$admin->ask('LOCK TABLE pg_catalog.pg_enum IN ACCESS EXCLUSIVE MODE');
	$client->tell(q{SELECT idem_advance('moving', 'moving', 'at', 'x', 1)});
	$admin->until_waits($client, 'pg_enum');
	unlike($admin->ask(q{UPDATE moving SET at = 's2'; SELECT idem_machine('moving', 'x -> s1; s2 -> x')}), qr/ERROR/, "force_sql $route: a row moves on, and its machine is defined anew");
	$admin->ask('COMMIT');
	is($client->answer, 't', '… is the answer');
	$_->end for $admin, $client;
}

done_testing();
