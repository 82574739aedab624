# Pins that random queries (sqlsmith, of Debian's package of that name) which call idem's functions crash nothing, leak
# nothing and meet no internal error of ours. IDEM_SQLSMITH_SECONDS: how long, 5 by default, 120 for a run, 7200 for a soak;
# IDEM_SQLSMITH_SEED. Skipped where sqlsmith is not installed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{IDEM_SQLSMITH_SECONDS} || 5;
my $seed = $ENV{IDEM_SQLSMITH_SEED} || 1;
my ($sqlsmith) = grep { -x } map { "$_/sqlsmith" } split /:/, $ENV{PATH};
plan skip_all => 'sqlsmith is not installed' unless $sqlsmith;

my $node = idem_node('smith', 'log_error_verbosity = verbose', 'track_functions = all', 'restart_after_crash = on', 'lock_timeout = 100ms', 'allow_system_table_mods = on');

# Most of what it makes of polymorphic operators is no valid query; nobody needs them in this server.
$node->safe_psql('postgres', q{DELETE FROM pg_operator WHERE EXISTS (SELECT FROM pg_type t WHERE t.oid IN (oprleft, oprright) AND typname IN ('anyrange', 'anymultirange', 'anyelement', 'anyenum', 'record'))});

# It takes its functions from what it sees as pg_proc: ours, and some of the server's to make arguments with. Columns give
# values of every type that ours take, for sqlsmith itself knows nulls and numbers.
$node->safe_psql('postgres', q{
	CREATE ROLE smith LOGIN;
	REVOKE ALL ON ALL TABLES IN SCHEMA information_schema FROM PUBLIC;	-- large, and nothing to us
	GRANT SELECT ON information_schema.tables TO PUBLIC;
	CREATE SCHEMA focus;
	CREATE VIEW focus.pg_proc AS SELECT * FROM pg_catalog.pg_proc WHERE prokind = 'f' AND prorettype <> 'void'::regtype AND proname LIKE 'idem\_%'
		OR proname IN ('int4pl', 'int8mul', 'numeric_sub', 'textcat', 'upper', 'md5', 'to_json', 'to_jsonb', 'jsonb_typeof', 'json_typeof', 'array_append', 'interval_pl', 'make_interval', 'now', 'random', 'quote_ident', 'length', 'sum', 'max', 'count');
	ALTER ROLE smith SET search_path = focus, public, pg_catalog;
	ALTER ROLE smith SET statement_timeout = '10s';
	GRANT USAGE ON SCHEMA focus TO smith;
	GRANT SELECT ON focus.pg_proc TO smith;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO smith;
	CREATE FUNCTION echo(json) RETURNS json LANGUAGE sql AS 'SELECT $1';
	CREATE TABLE product (id int PRIMARY KEY, stock int, status text, version int, note text UNIQUE);
	INSERT INTO product SELECT n, 1000, 'a', 1, n::text FROM generate_series(1, 5) n;
	CREATE TABLE word (t text, u text, source text, seq text, item text, machine text, token text, j json, jb jsonb, i interval, f regproc, r regclass, n name, q numeric, b bool, l bigint, k int, ts text[], qs numeric[]);
	INSERT INTO word SELECT x, 'a', 's' || g % 3, g::text, 'item', 'orders', idem_token_issue('s1', 'a'), '{"a": 1}', '{"b": [1]}', g * interval '1 second', CASE WHEN g % 2 = 0 THEN 'echo' ELSE 'now' END::regproc,
		(ARRAY['product', 'product_pkey', 'word', 'idem.claim', 'pg_class'])[1 + g % 5]::regclass, (ARRAY['stock', 'status', 'id', ''])[1 + g % 4], g - 2, g % 2 = 0, g, g, ARRAY[x, 'item'], ARRAY[1, g]
	FROM generate_series(0, 4) g, unnest(ARRAY['a', 'item']) x;
	GRANT ALL ON product, word TO smith;
	SELECT idem_machine('orders', 'a -> b -> c'), idem_stock_add('item', 1000000, 4);
	CREATE TRIGGER version BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION idem_version('version');
	CREATE TRIGGER state BEFORE INSERT OR UPDATE ON product FOR EACH ROW EXECUTE FUNCTION idem_state('orders', 'status');
});
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

# two of them, one on each route
my @smiths;
for my $route (qw(off on))
{
	my ($out, $err) = ('', '');
	my $target = $node->connstr('postgres') . " user=smith options='-c idem.force_sql=$route'";
	push @smiths, IPC::Run::start([ $sqlsmith, "--target=$target", '--exclude-catalog', '--seed=' . $seed++ ], '<', \undef, '>', \$out, '2>', \$err);
}
sub calls { return $node->safe_psql('postgres', q{SELECT count(*) || ' functions, ' || coalesce(sum(calls), 0) || ' calls' FROM pg_stat_user_functions WHERE funcname LIKE 'idem\_%'}) }
sub functions { return (calls() =~ /^(\d+)/)[0] }

# so long, and longer where the machine is so busy that they have hardly begun by then
my $until = time + $seconds;
while (grep { $_->pumpable } @smiths)
{
	last if time >= $until && (functions() > 5 || time >= $until + 300);
	sleep 1;
}
for my $smith (@smiths)
{
	ok($smith->pumpable, 'sqlsmith went on to the end');
	$smith->kill_kill(grace => 3);
}

# a query goes on without its client until its time is up; who ends has reported his calls, and should have no lock
wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'smith'});
my ($calls, $functions) = (calls(), functions());
cmp_ok($functions, '>', 5, 'it did call our functions');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the server was not restarted');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
	WHERE backend_type = 'client backend' AND (locktype = 'advisory' OR relation::regclass::text LIKE 'idem.%')}), '0', 'no lock is left');
$node->stop;

# an internal error is ours if it was raised in a file of ours; line by line, for the log of hours is larger than the memory
my %ours = map { s{.*/}{}r => 1 } glob("$FindBin::RealBin/../src/*.c");
my ($errors, $internal, @wrong) = (0);
open my $log, '<', $node->logfile or die "the log: $!";
while (my $line = <$log>)
{
	chomp $line;
	push @wrong, $line if $line =~ /PANIC|TRAP|terminated by signal|WARNING:.*leak/;
	if ($line =~ /ERROR:  /)
	{
		$errors++;
		($internal) = $line =~ /(ERROR:  XX\d{3}: .*)/;
	}
	elsif ($line =~ /LOCATION:  \w+, ([\w.]+):(\d+)/)
	{
		push @wrong, "$internal $1:$2" if defined $internal && $ours{$1};
		undef $internal;
	}
}
close $log;
is(join("\n", @wrong), '', 'no crash, no leak, no internal error of ours');
note("$seconds s: $calls, $errors errors");
diag("sqlsmith, $seconds s: $calls, $errors errors in the log") if $ENV{IDEM_SQLSMITH_SECONDS};

done_testing();
