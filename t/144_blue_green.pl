# Blue/green: from one server to another, of a newer major perhaps, by logical replication, while clients do all primitives: just the
# steps of doc/operations.md, which this test runs. Everything is there then, answers what it answered, and all that is sent again changes nothing.
#
# The green server is that of the test. IDEM_BLUE is where another is installed (/usr/lib/postgresql/15, with idem);
# without it both are the same. script/upgrade runs it over majors. IDEM_BLUE_GREEN_SKIP=wait,sequences leaves
# steps of the switch out, to see that the oracle says so.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $started = time;
my $copied;    # when: what green makes itself is younger
my $page = slurp_file("$FindBin::RealBin/../doc/operations.md");
my @steps = $page =~ /^<!-- run by t\/144_blue_green\.pl: \w+ -->\n```sh\n(.*?)^```\n/msg;
my ($copy, $switch) = @steps;
is(@steps, 2, 'doc/operations.md has the steps: the copy, and the switch');
$switch =~ s/^# \Q$_\E .*?(?=^# |\z)//ms or die "no step $_" foreach split /,/, $ENV{IDEM_BLUE_GREEN_SKIP} // '';

my $blue = PostgreSQL::Test::Cluster->new('blue', $ENV{IDEM_BLUE} ? (install_path => $ENV{IDEM_BLUE}) : ());
my $green = PostgreSQL::Test::Cluster->new('green');
foreach my $node ($blue, $green)
{
	$node->init(allows_streaming => 'logical');
	Oracle::load_conf($node);
	$node->start;
}
my @versions = map { $_->safe_psql('postgres', 'SHOW server_version') =~ s/ .*//r } $blue, $green;
load_tables($blue);
$blue->safe_psql('postgres', slurp_file("$Oracle::sources/records.sql"));
$blue->safe_psql('postgres', <<'SQL');
CREATE ROLE app LOGIN;
GRANT USAGE ON SCHEMA load TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA load TO app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA load TO app;
ALTER TABLE token REPLICA IDENTITY FULL;
-- the oracle counts what tokens have done, and one of the records has been consumed
INSERT INTO load.effect (kind, key, client) VALUES ('token', 'of the records', 0);
SQL

# where the application finds its database: what a pooler would be told
my $service = PostgreSQL::Test::Utils::tempdir() . '/service.conf';
$ENV{PGSERVICEFILE} = $service;

sub application_uses
{
	my ($node) = @_;

	append_to_file("$service.new", sprintf "[app]\nhost=%s\nport=%d\ndbname=postgres\nuser=app\n", $node->host, $node->port);
	rename "$service.new", $service or die "$service: $!";
	return;
}

# shell(TEXT): runs steps of the page; what they say.
sub shell
{
	my ($text) = @_;
	my ($from, $to) = map { sprintf 'host=%s port=%d dbname=postgres user=postgres', $_->host, $_->port } $blue, $green;
	local @ENV{qw(blue green)} = ($from, $to);
	my $said = '';

	my $well = IPC::Run::run([ 'bash', '-euo', 'pipefail', '-c', $text ], '<', \undef, '>', \$said, '2>&1', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	note $said;
	return $well;
}

# ask(NODE, SQL): what it answers, line by line; an error is answered by its SQLSTATE.
sub ask
{
	my ($node, $sql) = @_;
	my ($out, $both) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('postgres') ], '<', \$sql, '>', \$both, '2>&1');
	return $both;
}

# What must be the same on both: every row of idem, and what the application has. Green has a token key of its own beside.
sub rows
{
	my ($node) = @_;
	my $row = q{SELECT '%s', count(*), sum(hashtextextended(t::text, 0)::numeric) FROM %1$s t;};
	my $sql = join '', map { sprintf $row, $_ } qw(idem.policy idem.lock idem.token_rate orders token);

	return ask($node, "$sql SELECT load.digest(); SELECT * FROM idem.token_key WHERE created_at < $copied ORDER BY id");
}

# Requests of every kind that were made before, made again: no one of them may do anything.
my $retries = <<'SQL';
SELECT idem_retention('aged'), idem_retention('shop');
SELECT idem_claim('aged', '1500000000');
SELECT idem_token_status(live, 'form', 'alice'), idem_token_status(used, 'form', 'alice'), idem_token_status(earlier, 'form', 'alice'), idem_token_status(live, 'form', 'bob') FROM token;
SELECT idem_token_consume(used, 'form', 'alice') FROM token;
SELECT idem_token_issue('limited', '', max_issues => 1, per => '1 day');
SELECT idem_verdict('order', 'paid', 'created'), idem_verdict('order', 'paid', 'shipped'), idem_verdict('order', 'created', 'done');
SET SESSION AUTHORIZATION alice;
SELECT count(*) FILTER (WHERE idem_claim('shop', k::text, format('{"n": %s}', k)::jsonb)), count(*) FROM generate_series(1, 2000) k;
SELECT idem_claim('shop', '7', '{"n": 8}');
SELECT idem_claim('bob', '1');
SELECT idem_response('bob', '1');
SELECT idem_response('shop', '1'), md5(idem_response('shop', '2')::text);
SELECT k, b.status, b.fence, b.response FROM unnest('{runs,done,failed,cancelled}'::text[]) k, LATERAL idem_begin('send', k) b;
SELECT idem_complete('send', 'done', 1, '"sent"');
SELECT idem_lock('nightly') IS NULL;
SELECT idem_lock_check('freed', 3);
SELECT idem_stock_available('apple'), idem_stock_available('hot');
SELECT idem_stock_reserve('cart', 'held', 'apple', 3), idem_stock_reserve('cart', 'never', 'apple', 1), idem_stock_confirm('cart', 'sold'), idem_stock_release('cart', 'back');
SET idem.force_sql = on;
SELECT count(*) FILTER (WHERE idem_claim('shop', k::text)) FROM generate_series(1, 2000) k;
SET SESSION AUTHORIZATION bob;
SELECT idem_response('bob', '1');
SQL

$copied = "'" . $blue->safe_psql('postgres', 'SELECT clock_timestamp()') . "'";
application_uses($blue);
my $load = Load->new($blue, conninfo => 'service=app', clients => 8);
$load->start;
$load->await(200);
ok(shell($copy), 'the copy, under load') or BAIL_OUT('no copy');
$load->await(200);
my $before = ask($blue, $retries);
# green falls behind for a while, so that it matters whether it is waited for
my $apply = $green->safe_psql('postgres', "SELECT pid FROM pg_stat_subscription WHERE subname = 'green' AND relid IS NULL");
kill 'STOP', $apply;
$load->await(50);
my $waker = fork // die "fork: $!";
if ($waker == 0)
{
	sleep 3;
	kill 'CONT', $apply;
	POSIX::_exit(0);
}
ok(shell($switch), 'the switch, under load') or BAIL_OUT('no switch');
waitpid $waker, 0;
my @at_switch = map { rows($_) } $blue, $green;
is($at_switch[1], $at_switch[0], 'green has every row that blue has');
application_uses($green);
$load->{node} = $green;
$load->await(200);
$load->stop;

is(ask($green, $retries), $before, 'retries are answered as they were on blue');
like($before, qr/ID410.*ID429.*0\|2000.*ID422.*42501.*"for Bob"/s, '... and all of them were answered');
$load->again;    # as the role of the application
judged($load, "blue $versions[0], green $versions[1]");
is(ask($green, <<'SQL'), "t|t|4\nt|2\nt|t\nopen|granted|3\nt\nt|t\n92|1000\nt|f|t\nERROR:  ID412\n1|shipped|3|6\n", 'what was begun on blue goes on: leases, fences, holds, tokens, states');
SET SESSION AUTHORIZATION alice;
SELECT idem_lock('nightly') IS NULL, idem_lock_renew('nightly', 1), idem_lock('freed');
SELECT idem_unlock('nightly', 1), idem_lock('nightly');
RESET SESSION AUTHORIZATION;
SELECT idem_token_consume(live, 'form', 'alice'), idem_token_consume(earlier, 'form', 'alice') FROM token;
SET SESSION AUTHORIZATION alice;
SELECT k, b.status, b.fence FROM unnest('{open}'::text[]) k, LATERAL idem_begin('send', k) b;
SELECT idem_complete('send', 'runs', 1, '1');
SELECT idem_stock_release('cart', 'held hot'), idem_stock_confirm('cart', 'held');
SELECT idem_stock_available('apple'), idem_stock_available('hot');
RESET SESSION AUTHORIZATION;
UPDATE orders SET status = 'created' WHERE id = 1;
SELECT idem_advance('order', 'orders', 'status', 'shipped', 1), idem_advance('order', 'orders', 'status', 'paid', 1), idem_deduct('orders', 'qty', 4, 1);
UPDATE orders SET version = 9 WHERE id = 1;
TABLE orders;
SQL
$_->stop foreach $blue, $green;

figures("blue $versions[0], green $versions[1]", $started);
done_testing();
