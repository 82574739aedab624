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
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(load_node crash judged verdict log_complaints fresh);

our $sources = dirname(__FILE__) . '/load';
our $program;

# load_node(NAME, CONF-LINE...): a started node with idem and the tables of the load. fsync is off: the machine lives on.
sub load_node
{
	my ($name, @conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf',
		join("\n", 'max_connections = 100', 'max_prepared_transactions = 40', "log_line_prefix = '%m [%p] %e '", 'log_statement = none',
			'restart_after_crash = on', 'autovacuum_naptime = 1', 'deadlock_timeout = 100ms', @conf, ''));
	$node->start;
	command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr('postgres'), '-f', "$sources/load.sql" ], "$name: tables");
	return $node;
}

# crash(NODE, WITHOUT-START): SIGKILL for the postmaster. Its backends notice when they next wait, and may commit till then.
sub crash
{
	my ($node, $without_start) = @_;

	$node->kill9;
	for (1 .. 3000)
	{
		last if !grep { (readlink // '') eq $node->data_dir } glob '/proc/[0-9]*/cwd';
		usleep(10_000);
	}
	# an init that is slow to bury the dead would make the next start believe that this one lives
	unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	$node->start unless $without_start;
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
	my $found = verdict($load, $node);
	$node //= $load->{node};

	if ($found eq '')
	{
		my $before = $node->safe_psql('postgres', 'SELECT load.digest()');

		$load->again($node);
		my $after = $node->safe_psql('postgres', 'SELECT load.digest()');
		my %was = map { $_ => 1 } split /\n/, $before;
		$found = join "\n", map { "again: $_" } grep { !$was{$_} } split /\n/, $after;
		$found .= verdict($load, $node);
	}
	$found .= log_complaints($node, \$load->{log_offset}{ $node->name });
	is($found, '', "$what: " . ($load->{totals}{tickets} // 0) . ' requests');
	return $found eq '';
}

# log_complaints(NODE, \OFFSET): what must not be in the log, from the offset on, which moves to the end.
sub log_complaints
{
	my ($node, $offset) = @_;
	my $log = slurp_file($node->logfile, $$offset // 0);

	$$offset = -s $node->logfile;
	return join "\n", map { "log: $_" } grep {
		/PANIC:|TRAP:|WARNING:.*leak|deadlock detected|invalid page|was terminated by signal (?!9\b)|\] XX\w{3} (?:ERROR|FATAL|WARNING)/
	} split /\n/, $log;
}

# fresh(LOAD): forgets all, in the database too, so that a long run does not grow; a new load of the same options.
sub fresh
{
	my ($load) = @_;

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

package Load;

use Carp;
use Time::HiRes qw(usleep);

# new(NODE, OPTION => VALUE...): not started yet. Options: those of the program without dashes; conninfo if it is not NODE's.
sub new
{
	my ($class, $node, %options) = @_;

	return bless {
		node => $node, options => {%options}, dir => File::Temp::tempdir(DIR => PostgreSQL::Test::Utils::tempdir()), from => 0, totals => {},
		log_offset => { $node->name => -s $node->logfile } }, $class;
}

sub command
{
	my ($self, %more) = @_;
	my %options = (conninfo => $self->{node}->connstr('postgres'), %{ $self->{options} }, dir => $self->{dir}, %more);

	return [ Oracle::program(), map { defined $options{$_} ? ("--$_", $options{$_} eq '' ? () : $options{$_}) : () } sort keys %options ];
}

sub start
{
	my ($self, %more) = @_;

	croak 'the load is running' if $self->{run};
	$self->{out} = $self->{err} = '';
	$self->{run} = IPC::Run::start($self->command(%more), '<', \undef, '>', \$self->{out}, '2>', \$self->{err}, IPC::Run::timeout(600));
	$self->await(1);
	return;
}

# count(): how many tickets were drawn so far.
sub count
{
	my ($self) = @_;

	open my $state, '<:raw', "$self->{dir}/state" or return 0;
	read $state, my $next, 8;
	close $state;
	return unpack 'q', $next // "\0" x 8;
}

# await(N): until N more tickets than now were drawn.
sub await
{
	my ($self, $more) = @_;
	my $goal = $self->count + $more;
	my $end = time + 180;

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
	$self->{totals} = { $self->{out} =~ /(\w+) (\d+)\b/g };
	$self->{cuts} = [ $1 =~ /\d+/g ] if $self->{out} =~ /cuts ([\d ]+)/;
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

# again(NODE): every request once more.
sub again
{
	my ($self, $node) = @_;

	$self->{run} = IPC::Run::start(
		$self->command(again => '', from => $self->{from}, proxy => undef, seconds => undef, tickets => undef, deadline => undef,
			$node ? (conninfo => $node->connstr('postgres')) : ()),
		'<', \undef, '>', \$self->{out}, '2>', \$self->{err}, IPC::Run::timeout(600));
	$self->finish;
	$self->{from} = $self->count;
	return;
}

1;
