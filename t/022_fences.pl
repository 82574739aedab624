# Pins that fences only grow: across release, expiry, take-over, rollback, a prepared transaction, restart, a crash (also with
# synchronous_commit off), dump and restore; and that what was granted before still is, or is refused, after it.

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
# the WAL writer must not flush what a crash is to lose, at least not soon
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nwal_writer_delay = '10s'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION idem');

my $db = 'postgres';
my $fence = 0;

sub sql { return $node->safe_psql($db, $_[0]); }

# The next grants of the lock and of the key, whoever has them now: greater than any before, by as much as is said.
sub next_grants
{
	my ($after, $by) = @_;

	sql(q{UPDATE idem.lock SET lease_until = now() - interval '1 second' WHERE lease_until > now();
		UPDATE idem.claim SET lease_until = now() - interval '1 second' WHERE status = 'r' AND lease_until > now()});
	$fence += $by;
	is(sql(q{SELECT idem_lock('l', '1 hour'), fence FROM idem_begin('f', '1', '1 hour')}), "$fence|$fence", "after $after");
}

next_grants('nothing', 1);
sql(q{SELECT idem_unlock('l', 1), idem_fail('f', '1', 1)});
next_grants('release', 1);
next_grants('expiry, and a take-over', 1);
sql(qq{BEGIN; SELECT idem_unlock('l', $fence), idem_fail('f', '1', $fence); SELECT idem_lock('l'), idem_begin('f', '1'); ROLLBACK});
is(sql(qq{SELECT fence FROM idem.lock UNION ALL SELECT fence FROM idem.claim}), "$fence\n$fence", 'a rollback takes the grant back');
next_grants('rollback', 1);

# not pg_ctl's own: that would start the program which ran, without what the matrix puts before it for the sanitizers
sub restart
{
	$node->stop;
	$node->start;
	return;
}

# prepared: being taken, for as long as it takes, and across a restart
sql(qq{SELECT idem_unlock('l', $fence), idem_fail('f', '1', $fence)});
sql(q{BEGIN; SELECT idem_lock('l', '1 hour'), idem_begin('f', '1', '1 hour'); PREPARE TRANSACTION 'p'});
$fence++;
restart();
is(sql(q{SELECT idem_lock('l') IS NULL}), 't', 'a lock taken in a prepared transaction is not to be had');
my ($result, $out, $err) = $node->psql($db, q{SET lock_timeout = '100ms'; SELECT idem_begin('f', '1')});
like($err, qr/lock timeout/, '... and an attempt waits for it');
is(sql(qq{SET idem.force_sql = on; SELECT idem_lock('l') IS NULL, idem_lock_renew('l', $fence)}), 't|f', '... through SQL, too');
sql(q{COMMIT PREPARED 'p'});
is(sql(qq{SELECT idem_lock_check('l', $fence), idem_lock('l') IS NULL, (idem_begin('f', '1')).status, idem_renew('f', '1', $fence) > now()}), '|t|running|t', '... until it is committed');
next_grants('a prepared transaction', 1);

restart();
is(sql(qq{SELECT idem_lock_check('l', $fence), idem_lock('l') IS NULL, (idem_begin('f', '1')).status}), '|t|running', 'what is held is held after a restart');
next_grants('restart', 1);
$node->stop('immediate');
$node->start;
next_grants('a crash', 1);

# a grant is durable when its commit has returned, even if other commits are not. On a busy machine the WAL writer may come
# before the crash does, and save the canary: then once more
sql(q{CREATE TABLE canary (i int)});
my $lost;
for (1 .. 20)
{
	my ($lock, $key) = map { sql($_) } (
		q{SET synchronous_commit = off; SELECT idem_unlock('l', fence) FROM idem.lock WHERE name = 'l' \g /dev/null
			SELECT idem_lock('l', '1 hour')},
		q{SET synchronous_commit = off; SELECT idem_fail('f', '1', fence) FROM idem.claim \g /dev/null
			SELECT fence FROM idem_begin('f', '1', '1 hour')});
	$fence++;
	is("$lock|$key", "$fence|$fence", 'granted with synchronous_commit off');
	sql(q{SET synchronous_commit = off; INSERT INTO canary VALUES (1)});
	$node->stop('immediate');
	$node->start;
	$lost = sql(q{SELECT count(*) = 0 FROM canary});
	next_grants('a crash with synchronous_commit off', 1);
	last if $lost eq 't';
	sql(q{TRUNCATE canary});
}
is($lost, 't', 'a crash has lost what was committed asynchronously');
# the same, each grant the last thing before the crash
foreach my $grant (q{SELECT idem_lock('last')}, q{SELECT fence FROM idem_begin('f', 'last')})
{
	is(sql("SET synchronous_commit = off; $grant"), 1, $grant);
	$node->stop('immediate');
	$node->start;
}
is(sql(q{SELECT fence FROM idem.lock WHERE name = 'last' UNION ALL SELECT fence FROM idem.claim WHERE seq = 'last'}), "1\n1", '... are known after it');

# dump and restore: fences, leases and owners
sql(q{CREATE ROLE worker; SET ROLE worker; SELECT idem_lock('of worker'), idem_begin('f', 'of worker')});
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
sql('CREATE DATABASE restored');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', $dump ], 'restore');
my $all = q{SELECT * FROM idem.lock ORDER BY name; SELECT * FROM idem.claim ORDER BY source, seq};
my $before = sql($all);
$db = 'restored';
is(sql($all), $before, 'locks and keys are as they were');
is(sql(qq{SELECT idem_lock_check('l', $fence), idem_lock('l') IS NULL, (idem_begin('f', '1')).status}), '|t|running', 'what is held is held after dump and restore');
($result, $out, $err) = $node->psql($db, q{CREATE ROLE other; SET ROLE other; SELECT idem_lock('of worker')});
like($err, qr/permission denied for lock/, '... by the same role');
next_grants('dump and restore', 1);
($result, $out, $err) = $node->psql($db, "SELECT idem_complete('f', '1', $fence - 1)");
like($err, qr/no longer the current one/, 'and a worker from before the dump is refused');

done_testing();
