# Pins what a stalled worker can still do, with real processes: it is stopped (SIGSTOP) past its lease, a successor takes over;
# going on, before the successor completes or after it, the first one gets ID412 from renew, complete, fail and lock_check, and
# the successor's answer stands.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{IDEM_STALL_ROUNDS} || 20;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION idem');

# waits until what a worker has printed matches
sub wait_for
{
	my ($worker, $pattern) = @_;

	$worker->{harness}->pump until $worker->{out} =~ $pattern || $worker->{timer}->is_expired;
	die "worker said only: $worker->{out}" unless $worker->{out} =~ $pattern;
	return $1;
}

foreach my $round (1 .. $rounds)
{
	my $worker = { in => '', out => '', timer => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default) };

	# two ways to stall: the worker's own process, or the server process that works for it
	my $stop_client = $round % 2;

	$worker->{harness} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres') ],
		'<', \$worker->{in}, '>', \$worker->{out}, '2>', '/dev/null',
		$worker->{timer});
	$worker->{in} .= "SELECT set_config('idem.force_sql', '" . ($round % 4 < 2 ? 'on' : 'off') . "', false) \\g /dev/null\n"
	  . "SELECT 'pid ' || pg_backend_pid() || ';';\n"
	  . "SELECT 'granted ' || fence || ';' FROM idem_begin('sms', '$round', '100 milliseconds');\n"
	  . "SELECT 'locked ' || idem_lock('gateway $round', '100 milliseconds') || ';';\n";
	my $backend = wait_for($worker, qr/pid (\d+);/);
	my $pid = $stop_client ? $worker->{harness}->{KIDS}[0]{PID} : $backend;
	is(wait_for($worker, qr/granted (\d+);.*locked 1;/s), 1, "round $round: the worker holds the key and the lock");
	kill('STOP', $pid) or die "kill: $!";

	# it will go on as if nothing had happened
	foreach my $call (
		"idem_renew('sms', '$round', 1)", "idem_complete('sms', '$round', 1, '\"stalled\"')",
		"idem_fail('sms', '$round', 1, '\"stalled\"', false)", "idem_lock_check('gateway $round', 1)")
	{
		$worker->{in} .= "SELECT $call;\n\\echo :LAST_ERROR_SQLSTATE\n";
	}
	$worker->{in} .= "SELECT 'renewed ' || idem_lock_renew('gateway $round', 1), 'unlocked ' || idem_unlock('gateway $round', 1);\n\\echo the end\n";
	$worker->{harness}->pump_nb;

	# both of them: the lock was asked for later, by as much as the machine was busy
	$node->poll_query_until('postgres',
		"SELECT status = 'expired' AND l.lease_until < clock_timestamp() FROM idem_lookup('sms', '$round'), idem.lock l WHERE name = 'gateway $round'")
	  or die 'the leases do not run out';
	my $complete = qq{SELECT idem_complete('sms', '$round', 2, '"successor"')};
	is( $node->safe_psql('postgres', qq{
			SELECT status, fence FROM idem_begin('sms', '$round');
			SELECT idem_lock('gateway $round');
			SELECT idem_lock_check('gateway $round', 2);}),
		"granted|2\n2\n",
		"round $round: the successor takes both over");
	is($node->safe_psql('postgres', $complete), 't', "round $round: ... and completes") if $round % 8 < 4;

	kill('CONT', $pid) or die "kill: $!";
	wait_for($worker, qr/(the end)/);
	$worker->{out} =~ s/.*locked 1;\n//s;
	is($worker->{out}, "ID412\nID412\nID412\nID412\nrenewed false|unlocked false\nthe end\n", "round $round: the stalled worker is refused");
	is($node->safe_psql('postgres', $complete), 't', "round $round: the successor completes") if $round % 8 >= 4;
	is($node->safe_psql('postgres', "SELECT status, fence, response FROM idem_lookup('sms', '$round')"),
		'done|2|"successor"', "round $round: the successor's answer stands");
	$worker->{in} .= "\\q\n";
	$worker->{harness}->finish;
}

done_testing();
