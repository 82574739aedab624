# Pins that calls for the same orders do not deadlock, whatever they want of them, on both routes and at each isolation level, while
# others give back, expire and purge; that the books balance after that; and that a call which would add the last piece to an order
# is not refused because the same call elsewhere has just done so; and that an order which was made in vain, because another call made it
# first, holds nobody up. IDEM_STOCK_SECONDS: how long each load is on.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use IdemTest;
use StockBooks;
use Test::More;

my $seconds = $ENV{IDEM_STOCK_SECONDS} || 10;
my $node = stock_server('crossing', "deadlock_timeout = '20ms'", 'autovacuum = off');

sub no_deadlock
{
	my ($what, $printed) = @_;
	my ($done) = $printed =~ /actually processed: (\d+)/;
	my $log = slurp_file($node->logfile);

	cmp_ok($done, '>', 0, "$what: $done transactions");
	is($node->safe_psql('postgres', 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, "$what: no deadlock")
	  or diag($log =~ /(ERROR:  deadlock[^\n]*\n(?:\t[^\n]*\n|[^\n]*(?:DETAIL|HINT|CONTEXT|STATEMENT):  [^\n]*\n)*)/);
	unlike($log, qr/PANIC|(?:ERROR|FATAL):  (?!could not serialize|deadlock)/, "$what: no other error");
	return;
}

# an order changes every few milliseconds, so that several sessions are at it: it is made, twice, and given back, while others want all there is
my $order = "SELECT (extract(epoch FROM clock_timestamp()) * 300)::bigint AS id \\gset\n";
foreach my $route ('off', 'on')
{
	my $start = "SET idem.force_sql = $route;\n$order";

	$node->safe_psql('postgres', "SELECT idem_stock_add('$route', 20, 2)");
	no_deadlock("one item, force_sql $route", pgbench($node, [ '-c', 12, '-j', 2, '-T', $seconds ],
		[ "${start}SELECT idem_stock_reserve('$route', :id::text, '$route', 2);\n", 4 ],
		[ "${start}SELECT idem_stock_release('$route', seq) FROM idem.hold WHERE source = '$route' AND seq = :id::text;\n", 3 ],
		[ "${start}\\set n random(1, 1000000000)\nSELECT idem_stock_reserve('big', :n::text, '$route', 12);\nSELECT idem_stock_release('big', :n::text);\n", 3 ],
		[ "${start}SELECT idem_stock_release('$route', seq) FROM idem.hold WHERE source = '$route' AND status = 'h' LIMIT 1;\n", 1 ]));
	is(books($node, $route, 20), 'balance', "one item, force_sql $route: books");
}

# the same orders with other items, on either route
$node->safe_psql('postgres', q{SELECT idem_stock_add('a', 12, 3), idem_stock_add('b', 8), idem_stock_add('c', 12, 2)});
my @scripts;
foreach my $level ('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	my $begin = "\\set r random(0, 1)\nSET idem.force_sql = :r;\n\\set s random(0, 3)\n"
	  . "SELECT ((extract(epoch FROM clock_timestamp()) * 20)::bigint + :s)::text AS id \\gset\nBEGIN ISOLATION LEVEL $level;\n";

	push @scripts, map { [ "${begin}SELECT $_->[0];\nCOMMIT;\n", $_->[1] ] }
	  [ "idem_stock_reserve_items('m', ':id', ARRAY['b', 'a'], ARRAY[1, 3], '5 ms')", 3 ],
	  [ "idem_stock_reserve_items('m', ':id', ARRAY['a', 'b', 'c'], ARRAY[3, 1, 7])", 3 ],
	  [ "idem_stock_reserve('m', ':id', 'c', 7)", 3 ], [ "idem_stock_reserve('m', ':id', 'a', 3)", 2 ], [ "idem_stock_release('m', ':id')", 3 ];
}
s/':id'/:id::text/ foreach map { $_->[0] } @scripts;
push @scripts, [ "\\set r random(0, 1)\nSET idem.force_sql = :r;\nSET client_min_messages = warning;\nCALL idem_stock_expire(3);\n", 3 ],
  [ "SET client_min_messages = warning;\nCALL idem_purge('1 second', 50);\n", 1 ],
  [ "SELECT idem_stock_release('m', coalesce((SELECT seq FROM idem.hold WHERE source = 'm' AND status = 'h' ORDER BY random() LIMIT 1), '0'));\n", 3 ];
no_deadlock('several items', pgbench($node, [ '-c', 12, '-j', 2, '-T', $seconds, '--failures-detailed' ], @scripts));
is(books($node, $_->[0], $_->[1]), 'balance', "several items: books of $_->[0]") foreach [ 'a', 12 ], [ 'b', 8 ], [ 'c', 12 ];

# two clients add the only piece to the same order
my $n = 500;
foreach my $route ('off', 'on')
{
	my $adds = sub {
		my ($client) = @_;

		return "SET idem.force_sql = $route;\nINSERT INTO said SELECT '$route', i, idem_stock_reserve('last $route', i::text, '$route ' || i, 1)"
		  . " FROM (SELECT nextval('turn_$client') AS i) AS t;\n";
	};

	$node->safe_psql('postgres', <<"END");
CREATE TABLE IF NOT EXISTS said (route text, n bigint, held bool);
DROP SEQUENCE IF EXISTS turn_1, turn_2;
CREATE SEQUENCE turn_1;
CREATE SEQUENCE turn_2;
SELECT idem_stock_add('other', $n);
SELECT idem_stock_add('$route ' || i, 1), idem_stock_reserve('last $route', i::text, 'other', 1) FROM generate_series(1, $n) AS i;
END
	my @running = map {
		my $file = PostgreSQL::Test::Utils::tempdir() . '/add.sql';

		append_to_file($file, $adds->($_));
		IPC::Run::start([ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-t', $n, '-f', $file, 'postgres' ], '>', \my $out, '2>', \my $err);
	} 1, 2;
	$_->finish foreach @running;
	is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE NOT held) FROM said WHERE route = '$route'"),
		2 * $n . '|0', "the last piece, force_sql $route: nobody is refused");
}

# The buyer has found no such order, and stands still before it makes it. Meanwhile another makes it through SQL, so the buyer's is in vain; it
# is told true, and idles. A renewal through SQL needs new entries in the indexes, whose check would wait for a row that the buyer had left.
$node->safe_psql('postgres', q{CREATE ROLE buyer LOGIN SUPERUSER; SELECT idem_stock_add('vain', 10)});
my ($admin, $buyer) = (IdemTest::Session->new($node), IdemTest::Session->new($node, user => 'buyer'));
$admin->ask('SET idem.force_sql = on');
# what the call needs of the catalogs is known
$buyer->ask($_) foreach 'BEGIN', q{SELECT idem_stock_reserve('vain', '1', 'vain', 1, '1 hour')}, 'ROLLBACK', 'BEGIN';
$buyer->stop_at_roles($admin, 'buyer', q{SELECT pg_advisory_xact_lock_shared(1) IS NOT NULL AND idem_stock_reserve('vain', '1', 'vain', 1, '1 hour')});
is($admin->ask(q{SET ROLE buyer; SELECT idem_stock_reserve('vain', '1', 'vain', 1, '1 hour')}), 't', 'an order is made through SQL');
$admin->ask('COMMIT');
is($buyer->answer, 't', '… and directly, at the same time');
$admin->ask(q{SET lock_timeout = '20s'});
is($admin->ask(q{SELECT idem_stock_renew('vain', '1', '2 hours') > now()}), 't', '… which holds nobody up');
$buyer->ask('COMMIT');
is(books($node, 'vain', 10), 'balance', '… and the books balance');
$_->end for $admin, $buyer;

$node->stop;
done_testing();
