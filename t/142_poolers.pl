# A pooler and a scheduler between idem and its callers, where they are installed.
#
# pgbouncer in transaction mode and in statement mode, under the load of the fault tests, on half as many connections as
# clients, while backends are killed: every promise is kept. Nothing of idem lives in a session: a claim, a lease, a lock
# and a token are rows.
#
# pg_cron runs the two procedures as a role that is no superuser, one CALL in a job. Two commands in one job are one
# transaction, in which a procedure cannot commit: 25001.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Oracle;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $wanted = $ENV{IDEM_FAULT_KILLS} // 3;
my $started = time;
my ($pgbouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
my $has_cron = -e sharedir() . '/extension/pg_cron.control';
my ($node, $pooler, $cron, $last);

sub sharedir
{
	my ($dir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--sharedir' ]);

	chomp $dir;
	return $dir;
}

plan skip_all => 'neither pgbouncer nor pg_cron is installed' unless $pgbouncer || $has_cron;

# pooler_start(MODE): pgbouncer before the node; where to connect.
sub pooler_start
{
	my ($mode, %settings) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $user = $ENV{PGUSER};

	append_to_file("$dir/ini", <<"END" . join '', map { "$_ = $settings{$_}\n" } sort keys %settings);
[databases]
postgres = host=${\$node->host} port=${\$node->port} dbname=postgres user=$user
[pgbouncer]
pool_mode = $mode
listen_port = 6432
unix_socket_dir = $dir
auth_type = any
admin_users = $user
default_pool_size = 8
server_login_retry = 0.1
ignore_startup_parameters = options, extra_float_digits
logfile = $dir/log
log_connections = 0
log_disconnections = 0
END
	$pooler = { dir => $dir };
	# to a file, for nobody would read a pipe, and it would wait
	$pooler->{run} = IPC::Run::start([ $pgbouncer, "$dir/ini" ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');
	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if -S "$dir/.s.PGSQL.6432";
		usleep(50_000);
	}
	return "host=$dir port=6432 dbname=postgres";
}

# What pgbouncer's console answers.
sub console
{
	my ($command) = @_;
	my ($out, $err) = run_command([ 'psql', '-XAtq', '-d', "host=$pooler->{dir} port=6432 dbname=pgbouncer", '-c', $command ]);

	return $out . $err;
}

sub pooler_stop
{
	$pooler->{run}->signal('TERM');
	eval { $pooler->{run}->finish };
	return;
}

# through(SQL, OPTION...): what it answers through the pooler, or the SQLSTATE.
sub through
{
	my ($sql) = @_;
	my ($out, $err) = run_command([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', "host=$pooler->{dir} port=6432 dbname=postgres", '-c', $sql ]);

	return $err =~ /(?:ERROR|FATAL): +(\w{5})/ ? $1 : $out;
}

sub kill_one
{
	for (1 .. 100)
	{
		# it may not be back yet after the one before
		my (undef, $pid) = $node->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'load' ORDER BY random() LIMIT 1");

		return if $pid && kill('KILL', $pid);
		usleep(50_000);
	}
	BAIL_OUT('no backend to kill');
}

# The load through the pooler, with backends killed; and what came of it.
sub under_load
{
	my ($what, %options) = @_;

	# keys begin anew
	fresh($last) if $last;
	my $load = $last = Load->new($node, %options);

	$load->start;
	foreach my $n (1 .. $wanted)
	{
		$load->await(200 + int rand 200);
		kill_one();
	}
	$load->await(300);
	$load->stop;
	# the pool is idle, and the oracle waits for the last backend of the load to end
	is(console('RECONNECT'), '', 'the pool is emptied');
	judged($load, "$what, $wanted backends killed");
	return;
}

# as many as it takes until all jobs have run once: a job begins at the full minute
if ($has_cron)
{
	$cron = PostgreSQL::Test::Cluster->new('cron');
	$cron->init;
	$cron->append_conf('postgresql.conf',
		"shared_preload_libraries = 'pg_cron'\ncron.database_name = 'postgres'\ncron.host = '" . $cron->host . "'\ncron.log_run = on\n");
	$cron->start;
	$cron->safe_psql('postgres', <<'SQL');
CREATE EXTENSION pg_cron;
CREATE EXTENSION idem;
CREATE ROLE idem_ops LOGIN;
CREATE ROLE idem_app LOGIN;
GRANT USAGE ON SCHEMA cron TO idem_ops, idem_app;
GRANT EXECUTE ON PROCEDURE idem_purge TO idem_ops;
SELECT idem_stock_add('tea', 100);
SET ROLE idem_app;
SELECT count(*) FROM generate_series(1, 2500) AS g, idem_claim('cron', g::text);
SELECT idem_stock_reserve('cron', '1', 'tea', 5, ttl => '1 millisecond'), idem_stock_reserve('cron', '2', 'tea', 7);
RESET ROLE;
UPDATE idem.claim SET claimed_at = claimed_at - interval '40 days', completed_at = completed_at - interval '40 days' WHERE source = 'cron' AND seq::int <= 2000;
SET ROLE idem_ops;
SELECT cron.schedule('purge', '* * * * *', $$CALL idem_purge('30 days', 500)$$);
SELECT cron.schedule('expire', '* * * * *', 'CALL idem_stock_expire()');
SELECT cron.schedule('both', '* * * * *', $$CALL idem_purge('30 days'); CALL idem_stock_expire()$$);
SELECT cron.schedule('limited', '* * * * *', $$SET statement_timeout = '1h'; CALL idem_purge('30 days')$$);
SET ROLE idem_app;
SELECT cron.schedule('not allowed', '* * * * *', $$CALL idem_purge('30 days')$$);
SQL
}

SKIP:
{
	skip 'pgbouncer is not installed', 1 unless $pgbouncer;
	my ($version) = (run_command([ $pgbouncer, '--version' ]))[0] =~ /PgBouncer (\d+\.\d+)/;

	$node = load_node('pool');

	my $conninfo = pooler_start('transaction');
	under_load("pgbouncer $version, transaction mode", conninfo => $conninfo);

	# what a transaction begins another backend goes on with
	is(through("SELECT idem_lock('pooled', '1 minute')"), '1', 'a lock taken in one transaction');
	is(through("SELECT idem_lock_check('pooled', 1); SELECT idem_unlock('pooled', 1)"), "\nt", 'is held in the next, and released');
	is(through("BEGIN; SELECT idem_claim('pooled', '1'); ROLLBACK"), 't', 'a claim that was rolled back');
	is(through("SELECT idem_claim('pooled', '1')"), 't', 'is free for the next backend');
	SKIP:
	{
		skip "pgbouncer $version keeps no prepared statements (1.21 does)", 1 if $version < 1.21;
		pooler_stop();
		$conninfo = pooler_start('transaction', max_prepared_statements => 100);
		under_load("pgbouncer $version, transaction mode, prepared statements", conninfo => $conninfo, prepared => '');
		my $script = PostgreSQL::Test::Utils::tempdir() . '/prepared';
		append_to_file($script, "\\set n random(1, 500)\nSELECT idem_claim('prepared', :n);\n");
		my ($out, $err) = run_command([ 'pgbench', '-n', '-M', 'prepared', '-c', 16, '-t', 100, '-f', $script, $conninfo ]);
		like($out . $err, qr/number of failed transactions: 0 /, 'prepared statements: 16 clients on 8 connections');
	}
	pooler_stop();

	$conninfo = pooler_start('statement');
	is(through("BEGIN"), '08P01', 'statement mode refuses a transaction block');
	under_load("pgbouncer $version, statement mode, what is one statement", conninfo => $conninfo, kinds => 'batch,call,insert,state,stock');
	is(through("CALL idem_purge('1 day')"), '', 'statement mode: a procedure that commits');
	is(through("CALL idem_stock_expire()"), '', 'and the other');
	pooler_stop();
	$node->stop;
}

SKIP:
{
	skip 'pg_cron is not installed', 1 unless $has_cron;

	# each of the five has ended at least once
	$cron->poll_query_until('postgres',
		"SELECT count(DISTINCT jobid) = 5 FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')") or BAIL_OUT('pg_cron runs nothing');
	my %ran = map { split /\|/, $_, 2 } split /\n/, $cron->safe_psql('postgres', <<'SQL');
SELECT DISTINCT ON (jobname) jobname, status || ': ' || split_part(return_message, E'\n', 1)
FROM cron.job_run_details JOIN cron.job USING (jobid)
WHERE status IN ('succeeded', 'failed') ORDER BY jobname, runid
SQL
	like($ran{purge}, qr/^succeeded: /, 'pg_cron: CALL idem_purge, as a role that is no superuser');
	like($ran{expire}, qr/^succeeded: /, 'pg_cron: CALL idem_stock_expire');
	is($cron->safe_psql('postgres', "SELECT count(*) FROM idem.claim WHERE source = 'cron'"), 500, '2000 old keys are gone, 500 new ones are not');
	is($cron->safe_psql('postgres', "SELECT idem_stock_available('tea')"), 93, 'what was due is back in stock');
	like($ran{$_}, qr/^failed: ERROR: .*transaction/, "pg_cron: $_, two commands in one job, fail: $ran{$_}") foreach 'both', 'limited';
	like($ran{'not allowed'}, qr/^failed: ERROR: +permission denied for procedure idem_purge/, 'pg_cron: a role that may not purge');
	$cron->stop;
}

figures('poolers', $started);
done_testing();
