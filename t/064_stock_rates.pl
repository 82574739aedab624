# Pins that a refusal writes no WAL, and shows the rates of buying one hot item beside the plain conditional UPDATE of one row with
# the same journal: figures to look at. IDEM_STOCK_RATES=seconds makes a test of them, by hand (5 or more, on a machine that does nothing else).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use StockBooks;
use Test::More;

my $seconds = $ENV{IDEM_STOCK_RATES} || 1;
my $rounds = $ENV{IDEM_STOCK_RATES} ? 7 : 1;
my $node = stock_server('rates', 'fsync = on', 'synchronous_commit = on', 'autovacuum = off', 'wal_level = minimal', 'max_wal_senders = 0');

$node->safe_psql('postgres', <<'END');
CREATE TABLE plain (item text PRIMARY KEY, quantity numeric NOT NULL) WITH (fillfactor = 50);
CREATE TABLE journal (source text COLLATE "C", seq text COLLATE "C", item text, quantity numeric,
	at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (source, seq, item));
INSERT INTO plain VALUES ('hot', 1e12), ('none', 0);
SELECT idem_stock_add('hot', 1e12, 16), idem_stock_add('one', 1e12);
SELECT idem_stock_add('none', 1, 16), idem_stock_add('few', 10, 16), idem_stock_reserve('web', 'last', 'none', 1);
END

# refusals: nothing at all, little left, several items, the order released, the retry of what is held
$node->safe_psql('postgres', q{SELECT idem_stock_release('web', 'gone')});
foreach my $refused (
	q{idem_stock_reserve('web', n::text, 'none', 1)},
	q{idem_stock_reserve('web', n::text, 'few', 11)},
	q{idem_stock_reserve_items('web', n::text, ARRAY['few', 'none'], ARRAY[1, 1])},
	q{idem_stock_reserve_items('web', 'last', ARRAY['few', 'none'], ARRAY[11, 1])},
	q{idem_stock_reserve('web', 'gone', 'few', 1)},
	q{NOT idem_stock_reserve('web', 'last', 'none', 1)},
	q{idem_stock_release('web', 'gone')})
{
	my $bytes;

	# the server may write a record of its own in between
	for (1 .. 5)
	{
		$bytes = $node->safe_psql('postgres', qq{
			BEGIN;
			SELECT pg_current_wal_insert_lsn() AS before \\gset
			SELECT count(*) FILTER (WHERE $refused) FROM generate_series(1, 1000) AS n \\gset
			SELECT :count || '|' || pg_wal_lsn_diff(pg_current_wal_insert_lsn(), :'before') || '|' || coalesce(pg_current_xact_id_if_assigned()::text, 'no xid');
			COMMIT; });
		last if $bytes eq '0|0|no xid';
	}
	is($bytes, '0|0|no xid', "no WAL, no transaction id: $refused");
}

# each in turn, in as many rounds, and the median of the ratios
sub rate
{
	my ($clients, $script) = @_;
	my ($tps) = pgbench($node, [ '-c', $clients, '-j', 2, '-T', $seconds, '-M', 'prepared' ], ["\\set n random(1, 1000000000000)\n$script"]) =~ /^tps = ([0-9.]+)/m;

	return $tps // 0;
}

sub compare
{
	my ($what, $clients, $goal, $plain, $idem) = @_;
	my (@ratios, @rates);

	for (1 .. $rounds)
	{
		my @pair = (rate($clients, $plain), rate($clients, $idem));

		# a busy machine may do nothing at all in the time
		push @ratios, $pair[1] / $pair[0] if $pair[0] > 0;
		push @rates, sprintf '%.0f:%.0f', @pair;
	}
	my $median = percentile(0.5, @ratios) // 0;
	diag(sprintf '%s, %d clients: %.2f (plain:idem %s)', $what, $clients, $median, join ', ', @rates);
	cmp_ok($median, '>=', $goal, $what) if $ENV{IDEM_STOCK_RATES};
}

# the strongest plain way: one statement, one round trip
my $plain = <<'END';
WITH j AS (INSERT INTO journal (source, seq, item, quantity) VALUES ('web', :n::text, 'hot', 1) ON CONFLICT DO NOTHING RETURNING 1)
UPDATE plain SET quantity = quantity - 1 WHERE item = 'hot' AND quantity >= 1 AND EXISTS (SELECT FROM j);
END
compare('16 buckets', 16, 4, $plain, "SELECT idem_stock_reserve('web', :n::text, 'hot', 1);\n");
compare('one bucket', 16, 0.9, $plain, "SELECT idem_stock_reserve('web', :n::text, 'one', 1);\n");
compare('refusals', 16, 0.9, "UPDATE plain SET quantity = quantity - 1 WHERE item = 'none' AND quantity >= 1;\n",
	"SELECT idem_stock_reserve('web', :n::text, 'none', 1);\n");

is(books($node, 'hot', 1e12), 'balance', 'books');
is(books($node, 'one', 1e12), 'balance', 'books of one bucket');

$node->stop;
done_testing();
