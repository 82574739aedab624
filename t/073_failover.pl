# Failover under 16 clients doing all primitives: all processes of the primary are killed at once, its synchronous standby is
# promoted, and the clients go there. Nothing that was acknowledged is lost, fences grow across it, and all sent again changes
# nothing. With a standby that is not waited for the same test must show loss. IDEM_FAULT_FAILOVERS: how often.
# soak: IDEM_FAULT_FAILOVERS=50

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

my $wanted = $ENV{IDEM_FAULT_FAILOVERS} // 2;
my $made = 0;
my $started = time;
my $failovers = 0;
my $primary = load_node('node0', "synchronous_standby_names = ''");

# A standby of the node, streaming; synchronous or not, as seen by the primary.
sub standby_of
{
	my ($node, $synchronous) = @_;
	my $name = 'node' . ++$made;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$node->backup($name, backup_options => [ '--checkpoint', 'fast' ]);
	$standby->init_from_backup($node, $name, has_streaming => 1);
	PostgreSQL::Test::Utils::system_log('rm', '-rf', $node->backup_dir . "/$name");
	$standby->start;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = '" . ($synchronous ? '*' : '') . "'");
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->reload;
	$node->poll_query_until('postgres',
		"SELECT sync_state = '" . ($synchronous ? 'sync' : 'async') . "' AND state = 'streaming' FROM pg_stat_replication")
	  or BAIL_OUT('the standby does not stream');
	return $standby;
}

# Where the clients look for whoever takes writes.
sub either
{
	my @nodes = @_;

	return sprintf "host=%s port=%s dbname=postgres target_session_attrs=read-write",
	  join(',', map { $_->host } @nodes), join(',', map { $_->port } @nodes);
}

# The standby takes over.
sub take_over
{
	my ($standby) = @_;

	# it was told of a primary that is no more
	$standby->append_conf('postgresql.conf', "primary_conninfo = ''");
	$standby->promote;
	return;
}

my $load = Load->new($primary);
foreach my $n (1 .. $wanted)
{
	my $standby = standby_of($primary, 1);

	$load->{node} = $standby;
	$load->{options}{conninfo} = either($primary, $standby);
	$load->start;
	$load->await(100 + int(rand(200)));
	power_off($primary);
	take_over($standby);
	$load->await(100);
	$load->stop;
	judged($load, "failover $n") or last;
	$primary->clean_node;
	$primary = $standby;
	$failovers++;
	last if time_is_up();
	$load = fresh($load) if $n % 10 == 0;
}

# the control: what the standby does not have when the primary is lost is lost, and the oracle says so
my $standby = standby_of($primary, 0);
$load->{node} = $primary;
$load->{options}{conninfo} = either($primary, $standby);
my $lossy = fresh($load);
$lossy->start;
$lossy->await(100);
$standby->stop;
$lossy->await(100);
$lossy->stop;
is(verdict($lossy), '', 'asynchronous: nothing is lost before the failover');
power_off($primary);
$standby->start;
take_over($standby);
my $found = verdict($lossy, $standby);
like($found, qr/^lost: claim \d+ was acknowledged, and is not there/m, 'asynchronous: the oracle shows what is lost');
like($found, qr/^lost: stock \d+ was acknowledged, and is not there/m, '... of stock');
unlike($found, qr/^(effect|claim|books|state): /m, '... and what is there is whole: effects and claims, books, states');

figures("$failovers failovers to a synchronous standby, 1 to an asynchronous one", $started);
$standby->stop;
done_testing();
