# Copies that are made while clients do all primitives, each judged by what was acknowledged when it was begun: pg_dump and
# restore; base backup and recovery up to the last commit of a primary that was lost, and to a point in time before it, where
# the oracle must show what is lost; logical replication of the caller's tables, over a crash of the publisher.
# soak:

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $started = time;
my $node = load_node('copied', 'wal_level = logical', 'max_wal_senders = 10', 'wal_keep_size = 1GB');
my $load = Load->new($node, clients => 4);
my @callers = map { "load.$_" } qw(effect product thing doc document history guarded);
my $digests = 'SELECT line FROM load.digest() AS line WHERE line LIKE $$load.%$$';

# logical replication of the caller's tables, whose triggers do not run again where they are applied
my $subscriber = load_node('subscriber');
$subscriber->safe_psql('postgres', 'TRUNCATE ' . join(', ', @callers));
$node->safe_psql('postgres', 'CREATE PUBLICATION callers FOR TABLE ' . join(', ', @callers));
$load->start;
$load->await(50);
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION callers CONNECTION '" . $node->connstr . " dbname=postgres' PUBLICATION callers");
$subscriber->wait_for_subscription_sync($node, 'callers');
$load->await(50);
crash($node);
$load->await(50);
$load->stop;
judged($load, 'publisher');
$node->wait_for_catchup('callers');
is($subscriber->safe_psql('postgres', $digests), $node->safe_psql('postgres', $digests), 'the subscriber has what the publisher has');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM idem.claim'), 0, '... of the caller\'s tables, not of claims');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION callers DISABLE');
$node->safe_psql('postgres', 'DELETE FROM load.document WHERE key = $$0$$');
isnt($subscriber->safe_psql('postgres', $digests), $node->safe_psql('postgres', $digests), '... and a row more would be noticed');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION callers SET (slot_name = NONE); DROP SUBSCRIPTION callers');
$node->safe_psql('postgres', 'SELECT pg_drop_replication_slot($$callers$$); DROP PUBLICATION callers');
$load = fresh($load);

# pg_dump under load
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init;
Oracle::load_conf($restored);
$restored->start;
$load->start;
$load->await(200);
my $then = $load->copy($restored);
my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump under load');
$load->stop;
command_ok([ 'psql', '-Xq', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', $restored->connstr('postgres'), '-f', $dump ], 'restore');
is(verdict($then), '', 'restored: all that was acknowledged is there');
$then->again;    # what was under way
judged($then, 'restored');
judged($load, 'dumped');
$restored->stop;

# base backups under load: one to be recovered to the end, one to a point in time
$load->start;
$load->await(100);
$node->backup($_) foreach 'end', 'point';
$load->await(100);
my $halfway = $load->copy($node);
$node->safe_psql('postgres', 'SELECT pg_create_restore_point($$halfway$$)');
$load->await(100);
$load->stop;
$then = $load->copy($node);
power_off($node);

# What was lost with its machine but for the WAL: recovered from a backup.
sub recovered
{
	my ($name, @conf) = @_;
	my $copy = PostgreSQL::Test::Cluster->new($name);

	$copy->init_from_backup($node, $name);
	$copy->append_conf('postgresql.conf', join("\n", 'restore_command = \'cp "' . $node->data_dir . '/pg_wal/%f" "%p"\'', @conf, ''));
	$copy->set_recovery_mode;
	$copy->start;
	$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or BAIL_OUT('recovery does not end');
	return $copy;
}

my $end = recovered('end');
judged($then, 'recovered to the end', $end);
$end->stop;
my $point = recovered('point', 'recovery_target_name = halfway', 'recovery_target_action = promote');
$halfway->{node} = $point;
my $found = verdict($then, $point);
like($found, qr/^lost: claim \d+ was acknowledged, and is not there/m, 'recovered to a point in time: the oracle shows what is lost');
unlike($found, qr/^(effect|claim|books|state|amcheck): /m, '... and what is there is whole');
$halfway->again($point);
is(verdict($halfway, $point), '', '... and what was acknowledged by then is there, also when it is sent again');
$point->stop;

figures('a dump, a base backup, a recovery to a point in time, logical replication over a crash', $started);
done_testing();
