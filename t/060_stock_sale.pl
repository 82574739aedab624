# Pins the flash sale: 64 clients buy 1 to 3 of 10,000 pieces in 16 buckets until nothing is left. Every piece is sold once,
# the last one too, and the log shows nobody refused who could have been served; a wrong way to do it is caught by the log.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Utils;
use StockBooks;
use Test::More;

my $pieces = $ENV{IDEM_STOCK_PIECES} || 10_000;
my $clients = $ENV{IDEM_STOCK_CLIENTS} || 64;
my $node = stock_server('sale', 'track_commit_timestamp = on');

$node->safe_psql('postgres', <<"END");
CREATE TABLE refused (way text, seq text, quantity numeric, at timestamptz);
CREATE TABLE granted (way text, seq text, quantity numeric);

-- the wrong way: what is locked is passed by, and then it is sold out
CREATE TABLE wrong_stock (bucket int PRIMARY KEY, quantity numeric) WITH (fillfactor = 50);
INSERT INTO wrong_stock SELECT n, $pieces / 16 FROM generate_series(1, 16) AS n;
CREATE FUNCTION wrong_reserve(wanted numeric) RETURNS boolean LANGUAGE plpgsql AS \$\$
DECLARE
	free int := (SELECT bucket FROM wrong_stock WHERE quantity >= wanted LIMIT 1 FOR UPDATE SKIP LOCKED);
BEGIN
	PERFORM pg_sleep(0.001);	-- or one processor alone might never come upon it
	UPDATE wrong_stock SET quantity = quantity - wanted WHERE bucket = free;
	RETURN free IS NOT NULL;
END \$\$;

CREATE FUNCTION buy(way text, seq text, wanted numeric) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	IF (CASE WHEN way = 'idem' THEN idem_stock_reserve('sale', seq, 'hot', wanted) ELSE wrong_reserve(wanted) END) THEN
		INSERT INTO granted VALUES (way, seq, wanted);
	ELSE
		INSERT INTO refused VALUES (way, seq, wanted, clock_timestamp());
	END IF;
END \$\$;

-- pieces only ever go, so who was refused could have been served if enough was there after it; a commit's time is just before
-- it can be seen
CREATE FUNCTION wrongly_refused(which text, pieces numeric) RETURNS bigint LANGUAGE sql AS \$\$
	WITH g AS (SELECT pg_xact_commit_timestamp(xmin) AS at, quantity FROM (SELECT DISTINCT ON (seq) xmin, quantity FROM granted
			WHERE way = which ORDER BY seq, pg_xact_commit_timestamp(xmin)) AS first),
	l AS (SELECT at, quantity AS wanted, NULL::numeric AS sold FROM refused WHERE way = which UNION ALL SELECT at, NULL, quantity FROM g),
	run AS (SELECT wanted, pieces - coalesce(sum(sold) OVER (ORDER BY at), 0) AS there FROM l)
	SELECT count(*) FROM run WHERE wanted <= there \$\$;
SELECT idem_stock_add('hot', $pieces, 16);
END

# an order may be asked for several times: its number says how much it wants
my $orders = int(1.5 * $pieces);
my @load = ('-c', $clients, '-j', 2, '-t', int(2 * $pieces / $clients) + 1, '-M', 'prepared');
pgbench($node, \@load, ["\\set n random(1, $orders)\nSELECT buy('idem', :n::text, 1 + :n % 3);\n"]);

# what is left is less than somebody wanted; now everybody wants one piece
pgbench($node, [ '-c', $clients, '-j', 2, '-t', 5 ], ["\\set n random(1, 1000000000)\nSELECT buy('idem', 'one ' || :n, 1);\n"]);

is(books($node, 'hot', $pieces), 'balance', 'books');
is($node->safe_psql('postgres', q{SELECT idem_stock_available('hot')}), '0', 'the last piece is sold');
is($node->safe_psql('postgres', q{SELECT sum(q) FROM idem.hold, unnest(quantities) AS q}), $pieces, 'every piece is sold once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT seq FROM granted EXCEPT SELECT seq FROM idem.hold) AS g}),
	'0', 'every grant is recorded');
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT seq FROM idem.hold EXCEPT SELECT seq FROM granted) AS h}),
	'0', 'everything recorded was granted');
is($node->safe_psql('postgres', "SELECT wrongly_refused('idem', $pieces)"), '0', 'nobody was refused who could have been served');
is($node->safe_psql('postgres', q{SELECT count(*) FROM refused JOIN granted USING (way, seq)
	WHERE pg_xact_commit_timestamp(granted.xmin) < pg_xact_commit_timestamp(refused.xmin) - interval '1 second'}),
	'0', 'no order is refused that was granted before');
is($node->safe_psql('postgres', q{SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()}), '0', 'no deadlock');
note($node->safe_psql('postgres', q{SELECT count(*) || ' orders, ' || (SELECT count(*) FROM refused) || ' refusals' FROM idem.hold}));

# the negative control
pgbench($node, \@load, ["\\set n random(1, 1000000000)\nSELECT buy('wrong', :n::text, 1 + :n % 3);\n"]);
cmp_ok($node->safe_psql('postgres', "SELECT wrongly_refused('wrong', $pieces)"), '>', 0, 'the log catches the wrong way');

# a prepared transaction holds its bucket over a restart: others pass it by, or wait for it if nothing else is left
$node->safe_psql('postgres', q{SELECT idem_stock_add('two', 2, 2); BEGIN; SELECT idem_stock_reserve('sale', 'p', 'two', 1); PREPARE TRANSACTION 'p'});
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT idem_stock_reserve('sale', 'q', 'two', 1)}), 't', 'passes by a prepared transaction');
my ($status, $out, $err) = $node->psql('postgres', q{SET lock_timeout = '100ms'; SELECT idem_stock_reserve('sale', 'r', 'two', 1)});
like($err, qr/lock timeout/, 'waits for a prepared transaction');
($status, $out, $err) = $node->psql('postgres', q{SET lock_timeout = '100ms'; SELECT idem_stock_reserve('sale', 'p', 'two', 1)});
like($err, qr/lock timeout/, 'a retry waits for it, too');
is($node->safe_psql('postgres', q{COMMIT PREPARED 'p'; SELECT idem_stock_reserve('sale', 'p', 'two', 1), idem_stock_reserve('sale', 'r', 'two', 1)}),
	't|f', 'after its commit');
is(books($node, 'two', 2), 'balance', 'books with a prepared transaction');

# nor is it waited for when somebody else at the item ends, on either route
my ($rival, $buyer) = map { IdemTest::Session->new($node) } 1, 2;
foreach my $route ('off', 'on')
{
	$node->safe_psql('postgres', "SELECT idem_stock_add('end $route', 4, 2); BEGIN; SELECT idem_stock_reserve('sale', 'p $route', 'end $route', 1); PREPARE TRANSACTION 'p'");
	$rival->ask('BEGIN');
	is($rival->ask("SELECT idem_stock_reserve('sale', 'r $route', 'end $route', 1)"), 't', "force_sql $route: the rival");
	$buyer->ask("SET idem.force_sql = $route; SET lock_timeout = '60s'");
	$buyer->tell("SELECT idem_stock_reserve('sale', 'b $route', 'end $route', 1)");
	$buyer->waits($node);
	$rival->ask('COMMIT');
	is($buyer->answer, 't', "force_sql $route: the rival's end is enough");
	$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
	is(books($node, "end $route", 4), 'balance', "force_sql $route: books");
}
$_->end foreach $rival, $buyer;

$node->stop;
done_testing();
