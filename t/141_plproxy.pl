# examples/plproxy as it stands: four databases behind PL/Proxy. One key is placed once, whoever asks and however often; a
# batch is split by shard and answered in input order; with a shard down the others go on, and a retry heals; and twice as
# many shards know every key that the old ones knew.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $example = "$FindBin::RealBin/../examples/plproxy";
my $shards = 4;
my $scripts = 0;
my $proxy = idem_node('plproxy');

if ($proxy->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'plproxy'") == 0)
{
	$proxy->stop;
	plan skip_all => 'the extension plproxy is not installed';
}

# What a query answers in the proxy's database, as a role that is no superuser.
sub shop { return $proxy->safe_psql('shop', $_[0], extra_params => [ '-U', 'idem_clerk' ]); }

# The same in each of the databases that hold orders, summed.
sub everywhere
{
	my ($query) = @_;
	my $sum = 0;

	$sum += $proxy->safe_psql("shop$_", $query) for 0 .. $shards - 1;
	return $sum;
}

# A batch of the orders so numbered.
sub batch
{
	my ($source, @numbers) = @_;

	return sprintf q{SELECT seq, placed, answer ->> 'order' FROM place_orders('%s', ARRAY[%s], ARRAY[%s]::json[])}, $source,
	  join(',', map { "'$_'" } @numbers), join(',', map { qq('{"item": "tea", "quantity": $_}') } @numbers);
}

# pgbench in the proxy's database: so many clients, so many transactions of the script each.
sub shoppers
{
	my ($number, $transactions, $script) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/script';

	append_to_file($file . ++$scripts, $script);
	my ($out, $err) = run_command(
		[
			'pgbench', '-n', '-c', $number, '-j', 2, '-t', $transactions, '--failures-detailed', '-h', $proxy->host, '-p', $proxy->port,
			'-U', 'idem_clerk', '-D', 'r=0', '-f', $file . $scripts, 'shop'
		]);
	return $out . $err;
}

# A file of the example, run by a superuser.
sub psql_file
{
	my ($database, $file, %variables) = @_;

	command_ok(
		[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $proxy->connstr($database), (map { ('-v', "$_=$variables{$_}") } sort keys %variables), '-f', "$example/$file" ],
		"$file in $database");
	return;
}

sub where { return sprintf 'host=%s port=%s dbname=shop%d', $proxy->host, $proxy->port, $_[0]; }

$proxy->safe_psql('postgres', 'CREATE ROLE idem_clerk LOGIN');
foreach my $n (0 .. $shards - 1)
{
	$proxy->safe_psql('postgres', "CREATE DATABASE shop$n");
	psql_file("shop$n", 'partition.sql');
	$proxy->safe_psql("shop$n", 'GRANT SELECT, INSERT ON orders TO idem_clerk');
}
$proxy->safe_psql('postgres', 'CREATE DATABASE shop');
psql_file('shop', 'proxy.sql', map { ("p$_" => where($_)) } 0 .. $shards - 1);

# one at a time
my $order = q{SELECT placed, answer FROM place_order('web', '1', '{"item": "tea", "quantity": 1}')};
my $first = shop($order);
like($first, qr/^t\|\{"order" : "1", "shard" : "shop\d"\}$/, 'the first is placed');
is(shop($order), $first =~ s/^t/f/r, 'the second gets the same answer, and places nothing');
is(everywhere('SELECT count(*) FROM orders'), 1, 'one order');

my (undef, undef, $err) = $proxy->psql('shop', "\\set VERBOSITY verbose\n" . $order =~ s/tea/cup/r);
like($err, qr/key was used for another request/, 'another request under the same key: the error comes through');

# many at once, each key from several clients
my $out = shoppers(8, 100, <<'SQL');
\set n random(1, 400)
SELECT placed FROM place_order('rivals', :n::text, '{"item": "tea", "quantity": 1}');
SQL
like($out, qr{processed: 800/800\nnumber of failed transactions: 0 }, '8 clients, 800 calls, none failed');
my $keys = everywhere("SELECT count(*) FROM orders WHERE source = 'rivals'");
my $distinct = everywhere("SELECT count(*) FROM idem.claim WHERE source = 'rivals' AND response IS NOT NULL");
is($keys, $distinct, "$keys keys, an order and an answer for each");
for my $n (0 .. $shards - 1)
{
	cmp_ok($proxy->safe_psql("shop$n", 'SELECT count(*) FROM orders'), '>', $keys / 10, "shop$n has its share");
}

# batches
my @numbers = map { 1000 + (37 * $_) % 100 } 1 .. 100;
is(shop(batch('batch', @numbers)), join("\n", map { "$_|t|$_" } @numbers), 'a batch is answered in input order');
is(shop(batch('batch', 999, @numbers[ 0 .. 9 ], 999)), join("\n", '999|t|999', (map { "$_|f|$_" } @numbers[ 0 .. 9 ]), '999|f|999'),
	'old and new keys, one of them twice');
is(everywhere("SELECT count(*) FROM orders WHERE source = 'batch'"), 101, 'one order for each key');
# all clients go from one source to the next at about the same pace, half of them with the keys the other way round
$out = shoppers(8, 20, join("\n", '\set r :r + 1', '\if :client_id % 2 = 0', batch('crossing:r', 1 .. 40) . ';', '\else', batch('crossing:r', reverse 1 .. 40) . ';', '\endif', ''));
like($out, qr{processed: 160/160\nnumber of failed transactions: 0 }, 'the same batches in both orders, 8 clients: no deadlock');
is(everywhere("SELECT count(*) FROM orders WHERE source LIKE 'crossing%'"), 800, 'and one order for each key');

# a shard down
$proxy->safe_psql('postgres', 'ALTER DATABASE shop2 ALLOW_CONNECTIONS false');
$proxy->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'shop2'");
my ($up, $down) = (0, 0);
foreach my $n (1 .. 40)
{
	my ($status) = $proxy->psql('shop', "SELECT placed FROM place_order('down', '$n', '{\"item\": \"tea\", \"quantity\": 1}')",
		extra_params => [ '-U', 'idem_clerk' ]);
	$status == 0 ? $up++ : $down++;
}
is($up, $proxy->safe_psql('shop', "SELECT count(*) FROM generate_series(1, 40) n WHERE shard_of('down', n::text) & 3 <> 2"), "a shard down: $up keys of the others go on");
is($up + $down, 40, "and $down of its own fail");
my ($status) = $proxy->psql('shop', batch('halved', 1 .. 20), extra_params => [ '-U', 'idem_clerk' ]);
isnt($status, 0, 'a batch that needs it fails as a whole');
$proxy->safe_psql('postgres', 'ALTER DATABASE shop2 ALLOW_CONNECTIONS true');
my $again = shop(batch('halved', 1 .. 20));
is($again =~ s/\|[tf]\|/|?|/gr, join("\n", map { "$_|?|$_" } 1 .. 20), 'sent again when it is back, every order is answered');
is(everywhere("SELECT count(*) FROM orders WHERE source = 'halved'"), 20, 'and each was placed once');
shop("SELECT placed FROM generate_series(1, 40) n, place_order('down', n::text, '{\"item\": \"tea\", \"quantity\": 1}')");
is(everywhere("SELECT count(*) FROM orders WHERE source = 'down'"), 40, 'so are the single ones');

# twice as many shards: each old one is copied, and half of its keys are at home in the copy
my $orders = everywhere('SELECT count(*) FROM orders');
foreach my $n (0 .. 3)
{
	$proxy->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'shop$n'");
	$proxy->safe_psql('postgres', sprintf 'CREATE DATABASE shop%d TEMPLATE shop%d', $n + 4, $n);
}
$proxy->safe_psql('shop', 'ALTER SERVER shop OPTIONS (' . join(', ', map { "ADD p$_ '" . where($_) . "'" } 4 .. 7) . ')');
foreach my $n (0 .. 7)
{
	$proxy->safe_psql("shop$n", "CREATE FUNCTION home(source text, seq text) RETURNS integer LANGUAGE sql AS 'SELECT hashtext(source || ''/'' || seq) & 7'; DELETE FROM orders WHERE home(source, seq) <> $n");
}
$shards = 8;
is(everywhere('SELECT count(*) FROM orders'), $orders, 'eight shards of four: every order is at one of them');
is(shop(batch('batch', @numbers)), join("\n", map { "$_|f|$_" } @numbers), 'and every key is known where it is now looked for');
is(everywhere('SELECT count(*) FROM orders'), $orders, 'nothing was placed again');

$proxy->stop;
done_testing();
