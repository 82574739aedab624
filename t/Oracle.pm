# The load of the fault tests and the oracle that judges what came of it.
#
#	my $node = load_node('crash', 'max_prepared_transactions = 40');   # idem, and the load's tables
#	my $load = Load->new($node, clients => 16);    # further options are those of t/load/load.c
#	$load->start;
#	$load->await(300);                             # until 300 more requests were begun
#	crash($node);                                  # or another fault
#	$load->stop;                                   # everything begun is pursued to its answer
#	judged($load, 'after the crash');              # one test: all promises are kept, also when all is sent again
#
# A load can be started and stopped many times; it goes on with new keys. What is judged is everything since new(). A
# suite that breaks the server many times makes a new Load now and then: fresh($load). For what must be caught:
#
#	my $wrong = Load->new($node, kinds => 'check');
#	…
#	isnt(verdict($wrong), '', 'select, then insert, is caught');
package Oracle;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use File::Basename;
use IPC::Run;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(load_node load_tables crash power_off judged verdict findings log_complaints fresh figures time_is_up);

our $sources = dirname(__FILE__) . '/load';
our $program;
our @ran = (0) x 16;    # counts of all loads

# load_node(NAME, CONF-LINE...): a started node with idem and the tables of the load. fsync is off: the machine lives on.
sub load_node
{
	my ($name, @conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1);
	load_conf($node, @conf);
	$node->start;
	load_tables($node);
	return $node;
}

# The settings that the oracle relies on.
sub load_conf
{
	my ($node, @conf) = @_;

	$node->append_conf('postgresql.conf',
		join("\n", 'max_connections = 100', 'max_prepared_transactions = 60', "log_line_prefix = '%m [%p] %e '", 'log_statement = none',
			'restart_after_crash = on', 'autovacuum_naptime = 1', 'deadlock_timeout = 100ms', @conf, ''));
	return;
}

# The tables of the load.
sub load_tables
{
	my ($node) = @_;

	my ($out, $err) = run_command([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr('postgres'), '-f', "$sources/load.sql" ]);
	croak $err if $err ne '';
	return;
}

# The processes of a server but the postmaster; what is left of them when it has gone.
sub processes
{
	my ($node) = @_;

	return grep { $_ != ($node->{_pid} // 0) } map { m{(\d+)} } grep { (readlink // '') eq $node->data_dir } glob '/proc/[0-9]*/cwd';
}

# The server has ended: it can be started again.
sub buried
{
	my ($node) = @_;

	$node->{_pid} = undef;
	# an init that is slow to bury the dead would make the next start believe that this one lives
	unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	return;
}

# crash(NODE, THEN): SIGKILL for the postmaster; its backends notice when they next wait, and may commit till then. And a start.
sub crash
{
	my ($node, $then) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	kill 'KILL', $node->{_pid};
	$then->() if $then;
	while (processes($node))
	{
		BAIL_OUT('backends outlive their postmaster') if time > $end;
		usleep(10_000);
	}
	buried($node);
	$node->start;
	return;
}

# power_off(NODE): SIGKILL for all processes of the server at the same moment, as if its machine had gone.
sub power_off
{
	my ($node) = @_;

	# the postmaster last, or a backend that sees it gone may stop waiting for the standby; and whatever it has started meanwhile
	kill 'KILL', processes($node), $node->{_pid};
	while (my @left = processes($node))
	{
		kill 'KILL', @left;
		usleep(10_000);
	}
	buried($node);
	return;
}

# The load program: IDEM_LOAD, or built by the first who needs it.
sub program
{
	$program //= $ENV{IDEM_LOAD};
	return $program if $program;
	my $built = PostgreSQL::Test::Utils::tempdir() . '/load';
	my ($out, $err) = run_command([ 'make', '-s', '-C', $sources, "PROGRAM=$built", "PG_CONFIG=" . ($ENV{PG_CONFIG} // 'pg_config') ]);
	croak "make: $out$err" unless -x $built;
	return $program = $built;
}

# verdict(LOAD, NODE): the promises that are broken, a line each; empty if none is. NODE, if the load's own is gone.
sub verdict
{
	my ($load, $node) = @_;
	$node //= $load->{node};
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'load'")
	  or croak 'backends of the load do not end';
	my ($out, $err) = run_command(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-v', "journals=$load->{dir}/journal.*", '-f', "$sources/judge.sql" ]);
	chomp($out, $err);
	return $out . $err . ($load->{status} // '');
}

# judged(LOAD, WHAT, NODE): a test that all is well; that sending all again changes nothing; and that the log is clean.
sub judged
{
	my ($load, $what, $node) = @_;

	return is(findings($load, $node), '', "$what: " . $load->count . ' requests');
}

sub findings
{
	my ($load, $node) = @_;
	my $found = verdict($load, $node);
	$node //= $load->{node};

	if ($found eq '')
	{
		my $before = $node->safe_psql('postgres', 'SELECT load.digest()');

		$load->again($node);
		my $after = $node->safe_psql('postgres', 'SELECT load.digest()');
		my %was = map { $_ => 1 } split /\n/, $before;
		$found = join '', map { "again: $_\n" } grep { !$was{$_} } split /\n/, $after;
		$found .= verdict($load, $node);
		$load->{from} = $load->count;    # what comes later is sent again later
	}
	return $found . log_complaints($node, \$load->{log_offset}{ $node->name }, $load->{expected});
}

my $circles = 0;    # deadlocks that were let pass

# log_complaints(NODE, \OFFSET, EXPECTED): what must not be in the log, from the offset on, which moves to the end.
sub log_complaints
{
	my ($node, $offset, $expected) = @_;
	my $log = slurp_file($node->logfile, $$offset // 0);

	$$offset = -s $node->logfile;
	my @complaints = grep { !$expected || $_ !~ $expected } grep {
		/PANIC:|TRAP:|WARNING:.*(?:leak|was not closed)|deadlock detected|invalid page|was terminated by signal (?!9\b)|\] XX\w{3} (?:ERROR|FATAL|WARNING)/
	} split /\n/, $log;
	# with what the server says of it further, such as who waited for whom
	return join "\n", map { "log: $_" } grep { !is_let_pass($_) }
	  map { $_ . ($log =~ /^\Q$_\E((?:\n\t.*|\n[^\t].*(?:DETAIL|HINT|CONTEXT|STATEMENT):.*)*)/m ? $1 : '') } @complaints;
}

# is_let_pass(COMPLAINT): is it a deadlock that may be, and one of the first three?
sub is_let_pass
{
	my ($complaint) = @_;

	return 0 if !is_known_circle($complaint) || $circles >= 3;
	$circles++;
	note "a deadlock that the manual allows: $complaint";
	return 1;
}

# is_known_circle(COMPLAINT): is it the one deadlock that doc/concurrency-store.md allows? Two calls on different routes: a claim that has lost
# its key waits for whoever has it, who waits to record the answer. It takes microseconds, so a test has few of them, if any.
sub is_known_circle
{
	my ($complaint) = @_;

	return
	     $complaint =~ /DETAIL:  Process (\d+) waits for ShareLock on transaction \d+; blocked by process (\d+)\.\n\tProcess \2 waits for ShareLock on transaction \d+; blocked by process \1\.$/m
	  && $complaint =~ /^\tProcess \d+: SELECT idem_(?:claim|call)\(.* -- directly$/m
	  && $complaint =~ /^\tProcess \d+: SELECT idem_(?:respond|call)\(.* -- through SQL$/m;
}

# fresh(LOAD): forgets all, in the database too, so that a long run does not grow; a new load of the same options.
sub fresh
{
	my ($load) = @_;

	# what is still under way of a load that was killed would meet the TRUNCATE in a deadlock
	$load->{node}->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'load'})
	  or croak 'backends of the load do not end';
	$load->{node}->safe_psql('postgres', <<'SQL');
TRUNCATE load.effect, load.bare, load.thing, load.document, load.history, load.guarded, idem.claim, idem.hold, idem.token_spent;
DELETE FROM load.product;
INSERT INTO load.product SELECT n, CASE n WHEN 8 THEN 50 ELSE 1000000000 END FROM generate_series(1, 8) n;
DELETE FROM load.doc;
INSERT INTO load.doc SELECT n FROM generate_series(1, 16) n;
DELETE FROM idem.stock;
SELECT idem_stock_add('item ' || n, 1000000000, CASE WHEN n % 2 = 0 THEN 1 ELSE 8 END) FROM generate_series(0, 4) n;
SQL
	return Load->new($load->{node}, %{ $load->{options} });
}

# Has script/soak given us so much time, and no more?
sub time_is_up { return $ENV{IDEM_SOAK_UNTIL} && time > $ENV{IDEM_SOAK_UNTIL}; }

# figures(WHAT, STARTED): what has run, for script/soak.
sub figures
{
	my ($what, $started) = @_;

	note sprintf 'figures: %s; %d requests, %d of them acknowledged, %d tries lost, %d refused, %.0f s', $what,
	  @ran[ 0 .. 3 ], Time::HiRes::time() - $started;
	return;
}

package Load;

use Carp;
use File::Copy ();
use Time::HiRes qw(usleep);

# new(NODE, OPTION => VALUE...): not started yet. Options: those of the program without dashes; conninfo if it is not NODE's, a list if
# clients are to be connected to several servers of a cluster.
sub new
{
	my ($class, $node, %options) = @_;

	return bless {
		node => $node, options => {%options}, dir => File::Temp::tempdir(DIR => PostgreSQL::Test::Utils::tempdir()), from => 0,
		log_offset => { $node->name => -s $node->logfile } }, $class;
}

sub command
{
	my ($self, %more) = @_;
	my %options = (conninfo => $self->{node}->connstr('postgres'), %{ $self->{options} }, dir => $self->{dir}, %more);

	return [ Oracle::program(), map { Load::option($_, $options{$_}) } sort keys %options ];
}

# option(NAME, VALUE): as the program has it; of a list once for each.
sub option
{
	my ($name, $value) = @_;

	return () unless defined $value;
	return map { ("--$name", $_) } @$value if ref $value;
	return ("--$name", $value eq '' ? () : $value);
}

sub start
{
	my ($self, %more) = @_;

	croak 'the load is running' if $self->{run};
	$self->{out} = $self->{err} = '';
	$self->{run} = IPC::Run::start($self->command(%more), '<', \undef, '>', \$self->{out}, '2>', \$self->{err}, IPC::Run::timeout(3 * $PostgreSQL::Test::Utils::timeout_default));
	$self->await(1);
	return;
}

# counts(): tickets drawn, requests acknowledged, tries lost, tries refused, bugs; and the cuts of the proxies, at the commit
# and earlier, five points each, and how many were silent.
sub counts
{
	my ($self) = @_;

	open my $state, '<:raw', "$self->{dir}/state" or return (0) x 16;
	read $state, my $numbers, 128;
	close $state;
	return unpack 'q4 l x4 q11', length($numbers) == 128 ? $numbers : "\0" x 128;
}

sub count { return ($_[0]->counts)[0]; }

# await(N): until N more tickets than now were drawn.
sub await
{
	my ($self, $more) = @_;
	my $goal = $self->count + $more;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while ($self->count < $goal)
	{
		$self->{run}->pump_nb;
		croak "the load makes no progress: $self->{err}" if time > $end || !$self->{run}->pumpable;
		usleep(5_000);
	}
	return;
}

# stop(): everything begun is pursued to its end.
sub stop
{
	my ($self) = @_;

	$self->{run}->signal('TERM');
	return $self->finish;
}

sub finish
{
	my ($self) = @_;
	my $run = delete $self->{run};

	$run->finish or $self->{status} = "load: $self->{err}";
	my @counts = $self->counts;
	$Oracle::ran[$_] += $counts[$_] - ($self->{seen}[$_] // 0) for 0 .. $#counts;
	$self->{seen} = \@counts;
	return;
}

# kill(): the clients die with what they were about to say.
sub kill
{
	my ($self) = @_;
	my $run = delete $self->{run};

	$run->signal('HUP');
	$run->finish;
	return;
}

# copy(NODE): a load of what was acknowledged until now, to be judged on a copy of the database when we have stopped.
sub copy
{
	my ($self, $node) = @_;
	my $copy = Load->new($node, %{ $self->{options} });

	$copy->{of} = $self;
	$copy->{options}{tickets} = $self->count;
	foreach my $file (glob "$self->{dir}/journal.*")
	{
		File::Copy::copy($file, $copy->{dir}) or croak "$file: $!";
	}
	return $copy;
}

# again(NODE): every request once more.
sub again
{
	my ($self, $node) = @_;

	# with the tokens of what was under way when the copy was made
	File::Copy::copy("$self->{of}{dir}/state", $self->{dir}) if $self->{of};
	$self->{out} = $self->{err} = '';
	$self->{run} = IPC::Run::start(
		$self->command(again => '', from => $self->{from}, proxy => undef, seconds => undef, deadline => undef,
			$node && !ref $self->{options}{conninfo} ? (conninfo => $node->connstr('postgres')) : ()),
		'<', \undef, '>', \$self->{out}, '2>', \$self->{err}, IPC::Run::timeout(3 * $PostgreSQL::Test::Utils::timeout_default));
	$self->finish;
	return;
}

1;
