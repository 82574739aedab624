# A Citus cluster on sockets: a coordinator and workers, where the server has Citus; otherwise the test is skipped.
#
#	my @node = citus_cluster(2, 'citus.shard_count = 8');    # the coordinator, and two workers
#	my $new = citus_node('worker3', 'citus.shard_count = 8');    # with Citus, and not of the cluster yet
#	add_worker($node[0], $new);
package CitusCluster;

use strict;
use warnings;

use Exporter 'import';
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(citus_cluster make_cluster citus_node add_worker answer has_citus);

# has_citus(): skips the test where the server has no Citus.
sub has_citus
{
	my ($sharedir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--sharedir' ]);

	plan skip_all => 'this server has no Citus' unless -e "$sharedir/extension/citus.control";
	return;
}

# citus_node(NAME, CONF-LINE...): a started server with Citus, as it must be before it can be made part of a cluster. If the first of
# what follows the name is a reference: options of PostgreSQL::Test::Cluster.
sub citus_node
{
	my ($name, @conf) = @_;
	my %options = ref $conf[0] ? %{ shift @conf } : ();
	my $node = PostgreSQL::Test::Cluster->new($name, %options);

	$node->init(allows_streaming => 'logical');
	$node->append_conf('postgresql.conf',
		join("\n",
			"shared_preload_libraries = 'citus'", 'wal_level = logical', 'max_connections = 150', 'max_prepared_transactions = 150',
			"citus.node_conninfo = 'sslmode=disable'", 'citus.enable_statistics_collection = off', "citus.local_hostname = '" . $node->host . "'",
			'citus.distributed_deadlock_detection_factor = 2', 'citus.recover_2pc_interval = 1s', 'restart_after_crash = on',
			'deadlock_timeout = 100ms', "log_line_prefix = '%m [%p] %e '", 'log_statement = none', 'autovacuum_naptime = 1',
			'max_worker_processes = 20', 'max_replication_slots = 20', 'max_wal_senders = 20', @conf, ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION citus');
	return $node;
}

# citus_cluster(WORKERS, CONF-LINE...): the coordinator, and that many workers.
sub citus_cluster
{
	my ($workers, @conf) = @_;

	return make_cluster(map { citus_node($_, @conf) } 'coordinator', map { "worker$_" } 1 .. $workers);
}

# make_cluster(COORDINATOR, WORKER...): of nodes that are there.
sub make_cluster
{
	my ($coordinator, @workers) = @_;

	$coordinator->safe_psql('postgres', sprintf q{SELECT citus_set_coordinator_host('%s', %d)}, $coordinator->host, $coordinator->port);
	add_worker($coordinator, $_) for @workers;
	return ($coordinator, @workers);
}

# add_worker(COORDINATOR, NODE): it is of the cluster from now on.
sub add_worker
{
	my ($coordinator, $node) = @_;

	$coordinator->safe_psql('postgres', sprintf q{SELECT citus_add_node('%s', %d)}, $node->host, $node->port);
	return;
}

# answer(NODE, SQL, ROLE): what psql prints, or ERROR and the SQLSTATE.
sub answer
{
	my ($node, $sql, $role) = @_;
	my ($out, $err) = ('', '');

	$node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql", stdout => \$out, stderr => \$err, on_error_stop => 0,
		extra_params => $role ? [ '-U', $role ] : []);
	return $err =~ /(?:ERROR|FATAL): +(\w{5})/ ? "ERROR $1" : $out;
}

1;
