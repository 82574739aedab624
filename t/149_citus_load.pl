# The load of the fault tests on a Citus cluster of one coordinator and two workers, judged by its oracle: clients are connected to every
# node, every other one with idem.force_sql; shards move under them, and workers are killed and started again. Skipped where the server
# has no Citus; t/140 says how to run it.
# soak: IDEM_FAULT_KILLS=60 IDEM_SHARD_MOVES=12

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use CitusCluster;
use IdemTest;
use Oracle;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

has_citus();
my $started = time;
my $kills = $ENV{IDEM_FAULT_KILLS} // 2;
my $moves = $ENV{IDEM_SHARD_MOVES} // 2;
my @nodes = citus_cluster(2, 'citus.shard_count = 4', "shared_preload_libraries = 'citus, idem'");
my $c = $nodes[0];
my $clients = 12;    # of each route on each node

load_tables($c);

# The load's own tables stay on the coordinator, and every node knows them: with their triggers, which distributed tables cannot have. A
# node that writes numbers its rows from a range of its own, and the oracle wants them in order: so the coordinator numbers them.
$c->safe_psql('postgres', <<'SQL');
ALTER TABLE load.guarded ALTER COLUMN id DROP IDENTITY;
CREATE SEQUENCE load.written;
CREATE FUNCTION load.number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := nextval('load.written'); RETURN NEW; END $$;
CREATE TRIGGER number BEFORE INSERT ON load.guarded FOR EACH ROW EXECUTE FUNCTION load.number();
CREATE OR REPLACE FUNCTION load.work(request json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
	answer json := format('{"by": %s,   "n":%s}', pg_backend_pid(), random());
BEGIN
	INSERT INTO load.effect (kind, key, client, body) VALUES ('call', request->>'key', pg_backend_pid(), answer::text);
	RETURN answer;
END $$;
SELECT idem_distribute();
SELECT citus_add_local_table_to_metadata(oid) FROM pg_class WHERE relnamespace = 'load'::regnamespace AND relkind = 'r' ORDER BY relname;
SQL
$ENV{PGOPTIONS} = '-c citus.enable_ddl_propagation=off';    # the oracle's own tables are for its session

my $load = Load->new($c, conninfo => [ map { $_->connstr('postgres') } @nodes ], tolerate => 'XX000,XX001,55000', clients => $clients);
$load->{expected} = qr/./;    # a killed worker is in the log

# what a node that was killed left prepared is ended by the node that began it
sub settled
{
	foreach my $node (@nodes)
	{
		wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'load'");
		$node->safe_psql('postgres', 'SELECT recover_prepared_transactions()');
	}
	wait_until($_, 'SELECT count(*) = 0 FROM pg_prepared_xacts') for @nodes;
	return;
}

sub checked
{
	my ($what) = @_;

	settled();
	judged($load, $what);
	foreach my $node (@nodes)
	{
		is($node->safe_psql('postgres', <<'SQL'), 't', 'every index of a shard has every row, on ' . $node->name);
SET citus.override_table_visibility = off;
SELECT count(bt_index_check(i.indexrelid, true)) > 0 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace IN ('idem'::regnamespace, 'load'::regnamespace)
SQL
	}
	return;
}

# kill_worker(NODE, HOW): SIGKILL for its postmaster, or SIGQUIT; and a start.
sub kill_worker
{
	my ($node, $how) = @_;

	return crash($node) if $how eq 'KILL';
	$node->stop('immediate');
	$node->start;
	return;
}

# requests that clients of each node were told the answer of, by the journals
sub acknowledged
{
	my @count = (0) x @nodes;

	foreach my $journal (glob "$load->{dir}/journal.*")
	{
		my ($client) = $journal =~ /(\d+)$/;

		$count[ $client % @nodes ] += () = slurp_file($journal) =~ /\tdone\t/g;
	}
	return @count;
}

my $moved = 0;
foreach my $n (1 .. $moves)
{
	my ($id, $group) = split / /, $c->safe_psql('postgres', q{SELECT s.shardid || ' ' || p.groupid FROM pg_dist_shard s JOIN pg_dist_placement p USING (shardid) WHERE logicalrelid = } .
		('idem.claim', 'idem.stock', 'idem.lock')[ $n % 3 ] =~ s/(.*)/'$1'::regclass/r . ' AND p.groupid > 0 ORDER BY random() LIMIT 1');
	my ($from, $to) = $group == $c->safe_psql('postgres', sprintf 'SELECT groupid FROM pg_dist_node WHERE nodeport = %d', $nodes[1]->port) ? @nodes[ 1, 2 ] : @nodes[ 2, 1 ];

	$load->start;
	$load->await(100);
	$c->safe_psql('postgres', sprintf q{SELECT citus_move_shard_placement(%d, '%s', %d, '%s', %d, 'force_logical')}, $id, $from->host, $from->port, $to->host, $to->port);
	$moved++;
	$load->await(100);
	$load->stop;
	last if time_is_up();
}
checked("$moved shards moved under load");

my $killed = 0;
foreach my $n (1 .. $kills)
{
	$load->start;
	$load->await(100);
	kill_worker($nodes[ 1 + $n % 2 ], $n % 4 < 2 ? 'KILL' : 'QUIT');
	$killed++;
	$load->await(150);
	$load->stop;
	if ($n % 10 == 0 && $n < $kills)
	{
		checked("$n workers killed");
	}
	last if time_is_up();
}
checked("$killed workers killed under load");
my @acknowledged = acknowledged();
is(scalar(grep { $_ > 0 } @acknowledged), 3, 'clients of every node were answered: ' . join ', ', map { $nodes[$_]->name . " $acknowledged[$_]" } 0 .. 2);

# the oracle must catch select, then insert
my $found = '';
for (1 .. 10)
{
	my $wrong = Load->new($c, %{ $load->{options} }, kinds => 'check', twice => 0.5);

	$wrong->start;
	$wrong->await(100);
	$wrong->stop;
	settled();
	$found = verdict($wrong);
	last if $found =~ /^effect: check \d+ was done/m;
}
like($found, qr/^effect: check \d+ was done/m, 'the oracle catches a wrong way: check');

figures("$moved shards moved, $killed workers killed", $started);
note 'versions: ' . $c->safe_psql('postgres', q{SELECT citus_version()}) . '; ' . $c->safe_psql('postgres', 'SELECT version()');
$_->stop for @nodes;
done_testing();
