# What the TAP tests share: a node with idem in it, sessions that can wait, many clients at once.
package IdemTest;

use strict;
use warnings;

use Carp;
use Exporter 'import';
use File::Temp;
use IPC::Run;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(idem_node clients sqlstate wait_until);

# idem_node(NAME, CONF-LINE...): a started node with the extension.
sub idem_node
{
	my ($name, @conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	$node->append_conf('postgresql.conf', join("\n", 'max_connections = 100', @conf, ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION idem');
	return $node;
}

# clients(NODE, NUMBER, TRANSACTIONS, SCRIPT, PGBENCH-OPTION...): runs the pgbench script in that many sessions at once;
# answers what pgbench printed, and dies if a client was lost. Deadlocks and serialization failures are in the output.
sub clients
{
	my ($node, $number, $transactions, $script, @options) = @_;
	my $file = File::Temp->new;
	my ($out, $err);

	print $file $script;
	close $file;
	IPC::Run::run(
		[
			'pgbench', '-n', '-c', $number, '-j', 2, '-t', $transactions, '--failures-detailed',
			'-h', $node->host, '-p', $node->port, '-f', "$file", @options, 'postgres'
		],
		'>', \$out, '2>', \$err) or croak "pgbench: $err$out";
	return $out;
}

# sqlstate(NODE, SQL, PSQL-OPTION...): the SQLSTATE that SQL fails with; empty if it does not.
sub sqlstate
{
	my ($node, $sql, %params) = @_;
	my (undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql", on_error_stop => 0, %params);
	return $err =~ /ERROR: +(\w{5})/ ? $1 : '';
}

# wait_until(NODE, QUERY): until QUERY answers t.
sub wait_until
{
	my ($node, $query) = @_;
	$node->poll_query_until('postgres', $query) or croak "timed out: $query";
	return;
}

# A psql that stays connected: its statements may wait while the test goes on.
package IdemTest::Session;

use Carp;

my $asked = 0;

# new(CLASS, NODE, OPTION => VALUE...): connected, and told to go on after errors.
sub new
{
	my ($class, $node, %options) = @_;
	my $self = bless { in => '', out => '', err => '' }, $class;

	$self->{timer} = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
	$self->{psql} = IPC::Run::start(
		[
			'psql', '-XAtq', '-f', '-', '-h', $node->host, '-p', $node->port,
			'-U', $options{user} // $ENV{PGUSER},
			'-d', $options{dbname} // 'postgres'
		],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timer});
	$self->ask('\set VERBOSITY sqlstate');
	$self->{pid} = $self->ask('SELECT pg_backend_pid()');
	return $self;
}

# tell(SQL): sends it, and does not wait for the answer.
sub tell
{
	my ($self, $sql) = @_;
	$self->{mark} = 'answered ' . ++$asked;
	$self->{in} .= "$sql\n;\n\\echo $self->{mark}\n\\warn $self->{mark}\n";
	$self->{psql}->pump_nb;
	return;
}

# answer(): waits for what was told to be done; its output, or ERROR and the SQLSTATE.
sub answer
{
	my ($self) = @_;
	my $mark = $self->{mark};

	$self->{timer}->start($PostgreSQL::Test::Utils::timeout_default);
	until ($self->{out} =~ /^\Q$mark\E$/m && $self->{err} =~ /^\Q$mark\E$/m)
	{
		# a timer ends the pumping once, and raises nothing
		croak 'session ' . ($self->{pid} // '') . ' does not answer' if $self->{timer}->is_expired;
		$self->{psql}->pump;
	}
	my ($out, $err) = ($self->{out}, $self->{err});
	$self->{out} = $self->{err} = '';
	s/^\Q$mark\E\n//m for $out, $err;
	chomp $out;
	return $err =~ /(?:ERROR|FATAL): +(\w{5})/ ? "ERROR $1" : $out;
}

# ask(SQL): both.
sub ask
{
	my ($self, $sql) = @_;
	$self->tell($sql);
	return $self->answer;
}

# waits(NODE): returns when it waits for a lock.
sub waits
{
	my ($self, $node) = @_;
	IdemTest::wait_until($node,
		"SELECT wait_event_type IS NOT DISTINCT FROM 'Lock' FROM pg_stat_activity WHERE pid = $self->{pid}");
	return;
}

# until_waits(OTHER, WHAT): returns when that session waits for a lock on a table, or of a kind. It is asked of this session: while
# the catalog of roles is locked nobody can connect.
sub until_waits
{
	my ($self, $other, $what) = @_;
	my $query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $other->{pid} AND coalesce(relation::regclass::text, locktype) = '$what'";
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;

	while ($self->ask($query) ne '1')
	{
		croak "session $other->{pid} does not wait for $what" if time > $end;
		select undef, undef, undef, 0.01;
	}
	return;
}

# stop_at_roles(ADMIN, ROLE, SQL): tells SQL, which begins with pg_advisory_xact_lock_shared(1), and returns when it stands still where it
# reads the catalog of roles, whose cache ADMIN has made stale, and which it has locked, in a transaction that it ends.
sub stop_at_roles
{
	my ($self, $admin, $role, $sql) = @_;

	$admin->ask('SELECT pg_advisory_lock(1)');
	$self->tell($sql);
	$admin->until_waits($self, 'advisory');
	$admin->ask($_) foreach "ALTER ROLE $role CONNECTION LIMIT 9", 'BEGIN', 'LOCK TABLE pg_catalog.pg_authid IN ACCESS EXCLUSIVE MODE',
	  'SELECT pg_advisory_unlock(1)';
	$admin->until_waits($self, 'pg_authid');
	return;
}

# end(): ends psql, also one whose server is gone.
sub end
{
	my ($self) = @_;
	$self->{in} .= "\\q\n";
	eval { $self->{psql}->finish; 1 } or $self->{psql}->kill_kill;
	return;
}

1;
