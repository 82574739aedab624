# Patroni with three nodes and strict synchronous mode, where patroni and etcd are installed (not running): its leader is lost under the load of the
# fault tests, in several ways. Nothing that was acknowledged is lost, nothing is there twice, and all sent again changes nothing.
# Where writes do not wait for a standby, and the standbys are behind, the same test must show what is lost.
#
# IDEM_FAULT_PATRONI: how many faults, of these in turn.
#	killed      all processes of the leader, patroni's too, as if its machine had gone
#	behind      the same, when both standbys have stopped to receive for a while
#	switchover  by hand
#	postmaster  only the postmaster; patroni decides what to do
#	lease       the leader's patroni is stopped until another leads, and goes on then: for that time two servers take connections
# IDEM_FAULT_PATRONI_ONLY: one of them. The control comes after more than one fault.
# soak: IDEM_FAULT_PATRONI=20

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use HTTP::Tiny;
use JSON::PP;
use Oracle;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use version;

my %program = map { my $name = $_; $name => (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/bin')[0] } qw(patroni etcd);
plan skip_all => 'patroni and etcd are not both installed' if grep { !$_ } values %program;

my $wanted = $ENV{IDEM_FAULT_PATRONI} // 1;
my @ways = $ENV{IDEM_FAULT_PATRONI_ONLY} // qw(killed behind switchover postmaster lease);
my $started = time;
my ($version) = (run_command([ $program{patroni}, '--version' ]))[0] =~ /(\d+(?:\.\d+)+)/;

# Before 3.0.3 a patroni that wakes up after its lease, and talks to etcd by its third protocol, takes the lead from whoever has got it
# (patroni/patroni#2689): "lease" finds that what the other has acknowledged is lost. IDEM_FAULT_PATRONI_ETCD=etcd3 shows it.
my $protocol = $ENV{IDEM_FAULT_PATRONI_ETCD} // (version->parse($version) < version->parse('3.0.3') ? 'etcd' : 'etcd3');
my $http = HTTP::Tiny->new(timeout => 5);
my %children;    # what we have started: pid and name
my ($etcd, @members, %made);

# Whatever happens to the test, its programs end.
END
{
	my $status = $?;

	kill 'CONT', keys %children;
	kill 'KILL', keys %children;
	waitpid $_, 0 foreach keys %children;
	Oracle::power_off($_->{node}) foreach grep { server($_) } @members;
	$? = $status;
}

# spawn(LOG, COMMAND...): starts it; its pid.
sub spawn
{
	my ($log, @command) = @_;
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null' or POSIX::_exit(1);
		open STDOUT, '>>', $log or POSIX::_exit(1);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(1);
		exec @command or POSIX::_exit(1);
	}
	$children{$pid} = $command[0];
	return $pid;
}

# bury(PID, SIGNAL): ends what we have started.
sub bury
{
	my ($pid, $signal) = @_;

	kill $signal, $pid;
	waitpid $pid, 0;
	delete $children{$pid};
	return;
}

# until_true(WHAT, CODE): waits for it.
sub until_true
{
	my ($what, $code) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	until ($code->())
	{
		if (time > $end)
		{
			diag encode_json(cluster());
			BAIL_OUT("$what: waited in vain");
		}
		usleep(100_000);
	}
	return;
}

sub start_etcd
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my ($port, $peer) = map { 'http://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;

	chmod 0700, $dir;
	spawn("$PostgreSQL::Test::Utils::log_path/143_patroni_etcd.log",
		$program{etcd}, '--data-dir', $dir, '--log-level', 'error', '--enable-v2', '--listen-client-urls', $port, '--advertise-client-urls', $port,
		'--listen-peer-urls', $peer, '--initial-advertise-peer-urls', $peer, '--initial-cluster', "default=$peer");
	until_true('etcd', sub { $http->get("$port/health")->{content} =~ /"health":"true"/ });
	($etcd) = $port =~ m{//(.*)};
	return;
}

# A member: its node in the sense of the test modules, with patroni's configuration.
sub member
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $api = '127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();
	my $file = $node->basedir . '/patroni.json';
	my ($bindir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--bindir' ]);
	my $address = '127.0.0.1:' . $node->port;
	my @strict = map { JSON::PP::true } 1 .. 2;

	# JSON is YAML
	append_to_file($file, encode_json({
		scope => 'idem', name => $name, restapi => { listen => $api, connect_address => $api }, $protocol => { host => $etcd },
		bootstrap => {
			dcs => {
				ttl => 10, loop_wait => 1, retry_timeout => 4, maximum_lag_on_failover => 1 << 30,
				synchronous_mode => JSON::PP::true, synchronous_mode_strict => JSON::PP::true,
				postgresql => {
					use_pg_rewind => JSON::PP::true,
					parameters => {
						max_connections => 100, max_prepared_transactions => 60, log_line_prefix => '%m [%p] %e ', fsync => 'off',
						autovacuum_naptime => 1, deadlock_timeout => '100ms', wal_keep_size => '512MB' } } },
			initdb => [ { auth => 'trust' }, { encoding => 'UTF8' }, { locale => 'C' }, 'no-sync' ] },
		postgresql => {
			listen => $address, connect_address => $address, data_dir => $node->data_dir, bin_dir => $bindir, use_unix_socket => JSON::PP::true,
			pgpass => $node->basedir . '/pgpass', basebackup => [ { checkpoint => 'fast' } ],
			# what diverged is of no worth, and some of it pg_rewind refuses
			remove_data_directory_on_rewind_failure => JSON::PP::true,
			remove_data_directory_on_diverged_timelines => JSON::PP::true,
			authentication => { superuser => { username => 'postgres' }, replication => { username => 'postgres' } },
			parameters => { unix_socket_directories => $node->host } } }));
	return { name => $name, node => $node, api => $api, file => $file };
}

sub start_patroni
{
	my ($member) = @_;

	$member->{pid} = spawn($member->{node}->logfile, $program{patroni}, $member->{file});
	return;
}

# server(MEMBER): its server is running; the node knows the postmaster's pid then.
sub server
{
	my ($member) = @_;
	my $file = $member->{node}->data_dir . '/postmaster.pid';
	my ($pid) = -e $file ? eval { slurp_file($file) =~ /^(\d+)/ } : ();

	$pid = undef if $pid && (readlink("/proc/$pid/cwd") // '') ne $member->{node}->data_dir;
	$member->{node}{_pid} = $pid;
	return $pid;
}

# cluster(): what patroni says of its members, by name; from any that answers.
sub cluster
{
	foreach my $member (grep { $_->{pid} && !$_->{stopped} } @members)
	{
		my $answer = $http->get("http://$member->{api}/cluster");

		return { map { $_->{name} => $_ } @{ decode_json($answer->{content})->{members} } } if $answer->{success};
	}
	return {};
}

# leader(BUT): the member that leads and takes writes, if it is not BUT.
sub leader
{
	my ($but) = @_;
	my $cluster = cluster();

	foreach my $member (grep { !$but || $_ != $but } @members)
	{
		my $said = $cluster->{ $member->{name} } // {};

		next unless ($said->{role} // '') eq 'leader' && $said->{state} eq 'running' && server($member);
		my ($status, $out) = $member->{node}->psql('postgres', 'SELECT pg_is_in_recovery()');
		return $member if ($status // 1) == 0 && $out eq 'f';
	}
	return;
}

# complete(SYNCHRONOUS): all members run, and each standby streams; one of them is waited for if it should. The leader.
sub complete
{
	my ($synchronous) = @_;
	my $leader;

	until_true('three members', sub {
		$leader = leader() or return;
		my ($status, $out) = $leader->{node}->psql('postgres', <<'SQL');
SELECT count(*) FILTER (WHERE state = 'streaming' AND application_name LIKE 'patroni%'), count(*) FILTER (WHERE sync_state = 'sync'),
	current_setting('synchronous_standby_names') FROM pg_stat_replication
SQL
		# the server may wait for a standby that patroni has not noted yet: then none would take over
		return if $synchronous && !grep { $_->{role} eq 'sync_standby' } values %{ cluster() };
		return ($status // 1) == 0 && $out =~ ($synchronous ? qr/^2\|1\|"?patroni\d"?$/ : qr/^2\|0\|$/);
	});
	server($_) foreach @members;
	return $leader;
}

# Where the clients look for whoever takes writes.
sub all_of
{
	my @nodes = map { $_->{node} } @_;

	return sprintf "host=%s port=%s dbname=postgres target_session_attrs=read-write",
	  join(',', map { $_->host } @nodes), join(',', map { $_->port } @nodes);
}

# The member's machine goes: the server first, or what patroni would do next is another fault.
sub machine_goes
{
	my ($member) = @_;

	kill 'STOP', $member->{pid};
	server($member);
	power_off($member->{node});
	bury(delete $member->{pid}, 'KILL');
	return;
}

# receivers(SIGNAL): of all standbys, wherever they stream from.
sub receivers
{
	my ($signal) = @_;

	foreach my $member (@members)
	{
		kill $signal, grep { (eval { slurp_file("/proc/$_/cmdline") } // '') =~ /walreceiver/ } Oracle::processes($member->{node});
	}
	return;
}

# The faults; each answers the leader that it leaves.
my %fault = (
	killed => sub {
		my ($leader, $load) = @_;

		machine_goes($leader);
		return awaited($leader);
	},
	behind => sub {
		my ($leader, $load) = @_;

		receivers('STOP');
		# what waits for them is not answered; without strict synchronous mode the load goes on
		$load->{lossy} ? $load->await(200) : usleep(1_500_000);
		machine_goes($leader);
		# and what the network had is gone, too
		receivers('TERM');
		receivers('CONT');
		return awaited($leader);
	},
	switchover => sub {
		my ($leader, $load) = @_;
		my $answer;

		# patroni refuses for as long as it knows of no standby that is up to date
		until_true('switchover', sub {
			$answer = $http->post("http://$leader->{api}/switchover", { content => encode_json({ leader => $leader->{name} }) });
			return $answer->{success} || leader($leader);
		});
		return awaited($leader);
	},
	postmaster => sub {
		my ($leader, $load) = @_;
		my $was = server($leader);
		my $now;

		kill 'KILL', $was;
		until_true('a leader', sub { $now = leader(); return $now && ($now != $leader || server($now) != $was) });
		return $now;
	},
	lease => sub {
		my ($leader, $load) = @_;

		kill 'STOP', $leader->{pid};
		$leader->{stopped} = 1;
		my $now = awaited($leader);
		ok(server($leader), 'lease: two servers take connections');
		$load->await(100);
		delete $leader->{stopped};
		kill 'CONT', $leader->{pid};
		return $now;
	});

# awaited(BUT): another leads.
sub awaited
{
	my ($but) = @_;
	my $now;

	until_true('another leader', sub { $now = leader($but) });
	return $now;
}

# strike(WAY, LEADER, LOAD): the load runs, the fault comes, the load goes on with whoever leads, and all members are there again. The leader.
sub strike
{
	my ($way, $leader, $load) = @_;

	$load->{node} = $leader->{node};
	# whoever loses a connection tries the one that led last
	$load->{options}{conninfo} = all_of((grep { $_ != $leader } @members), $leader);
	$load->start;
	$load->await(100 + int rand 100);
	my $before = time;
	my $now = $fault{$way}->($leader, $load);
	my $took = time - $before;
	$load->await(100);
	$load->stop;
	start_patroni($_) foreach grep { !$_->{pid} } @members;
	$load->{node} = $now->{node};
	note sprintf '%s: %s, then %s, after %.1f s', $way, $leader->{name}, $now->{name}, $took;
	return;
}

start_etcd();
@members = map { member("patroni$_") } 1 .. 3;
start_patroni($_) foreach @members;
my $leader = complete(1);
Oracle::load_tables($leader->{node});
my $load = Load->new($leader->{node});

foreach my $n (1 .. $wanted)
{
	my $way = $ways[ ($n - 1) % @ways ];

	strike($way, $leader, $load);
	$leader = complete(1);
	$load->{node} = $leader->{node};
	judged($load, "$n: $way") or last;
	$made{$way}++;
	last if time_is_up();
	$load = fresh($load) if $n % 10 == 0;
}

if ($wanted > 1)
{
	# the control: nothing is waited for, and what the standbys have not received when the leader's machine goes is lost
	$http->request('PATCH', "http://$leader->{api}/config", { content => encode_json({ synchronous_mode => JSON::PP::false, synchronous_mode_strict => JSON::PP::false }) });
	$leader = complete(0);
	$load->{node} = $leader->{node};
	$load = fresh($load);
	$load->{lossy} = 1;
	strike('behind', $leader, $load);
	$leader = complete(0);
	$load->{node} = $leader->{node};
	my $found = verdict($load);
	like($found, qr/^lost: claim \d+ was acknowledged, and is not there/m, 'no synchronous mode: the oracle shows what is lost');
	note $found;
}

bury($_->{pid}, 'TERM') foreach @members;    # and each stops its server
figures("patroni $version, $protocol: " . join(', ', map { "$made{$_} $_" } sort keys %made) . ($wanted > 1 ? ', 1 without synchronous mode' : ''), $started);
done_testing();
