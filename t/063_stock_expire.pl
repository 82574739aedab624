# Pins that idem_stock_expire gives back a pile of overdue holds while 16 clients go on buying, shows its progress, and that two
# of them at once, a retry and a confirmation meanwhile do no harm. IDEM_STOCK_OVERDUE=100000 and IDEM_STOCK_SECONDS=20 for the
# figures of the issue: buyers' p99 latency at most doubles.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use StockBooks;
use Test::More;

my $overdue = $ENV{IDEM_STOCK_OVERDUE} || 10_000;
my $seconds = $ENV{IDEM_STOCK_SECONDS} || 3;
my $node = stock_server('expire', 'fsync = on', 'synchronous_commit = on');
my $dir = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('postgres', q{SELECT idem_stock_add('hot', 1000000000, 16)});

# the latencies of 16 buyers, in ms
my $run = 0;
sub buyers
{
	my ($seconds) = @_;
	my $prefix = $dir . '/log' . ++$run;
	my $printed = pgbench($node, [ '-c', 16, '-j', 2, '-T', $seconds, '-M', 'prepared', '-l', "--log-prefix=$prefix" ],
		["\\set n random(1, 1000000000000)\nSELECT idem_stock_reserve('buyer', :n::text, 'hot', 1);\n"]);

	my ($rate) = $printed =~ /^tps = ([0-9.]+)/m;
	return ($rate, map { (split / /)[2] / 1000 } map { split /\n/, slurp_file($_) } glob("$prefix.*"));
}

# so many holds that are due
sub pile_up
{
	$node->safe_psql('postgres', qq{
		SELECT count(idem_stock_reserve('overdue', n::text || clock_timestamp(), 'hot', 1, '1 hour')) FROM generate_series(1, $overdue / 10) AS n;
	}) foreach 1 .. 10;
	$node->safe_psql('postgres', q{UPDATE idem.hold SET expires_at = clock_timestamp() - interval '1 minute' WHERE status = 'h' AND source = 'overdue'});
	$node->safe_psql('postgres', 'VACUUM ANALYZE idem.hold; VACUUM idem.stock; CHECKPOINT');
}

pile_up();
buyers(1);
my ($rate, @alone) = buyers($seconds);

# expire begins with the buyers, and again as long as they buy, so that each of their seconds is one beside it
my $log = "$dir/expire.log";
my $expiring = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', 'CALL idem_stock_expire()' ], '>', $log, '2>&1');
my ($rate_beside, @beside) = buyers($seconds);
$expiring->finish;
my ($p99, $p99_beside) = (percentile(0.99, @alone), percentile(0.99, @beside));

is($node->safe_psql('postgres', q{SELECT status, count(*) FROM idem.hold WHERE source = 'overdue' GROUP BY 1}), "x|$overdue", 'all are given back');
is(books($node, 'hot', 1_000_000_000), 'balance', 'books');
my @progress = slurp_file($log) =~ /NOTICE: +expired \d+ holds, (\d+) so far/g;
is(scalar(@progress), $overdue / 1000, 'progress is shown after each batch');
is($progress[-1], $overdue, 'up to the end');
diag(sprintf 'p99 of 16 buyers: alone %.2f ms (%.0f/s), beside idem_stock_expire of %d holds %.2f ms (%.0f/s)',
	$p99, $rate, $overdue, $p99_beside, $rate_beside);
SKIP:
{
	skip 'figures only with IDEM_STOCK_OVERDUE', 1 unless $ENV{IDEM_STOCK_OVERDUE};
	cmp_ok($p99_beside, '<=', 2 * $p99, 'p99 at most doubles');
}

# two at once, and orders that are confirmed, released and asked for again meanwhile, at any default isolation
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION meddle(n int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	which text := (SELECT seq FROM idem.hold WHERE expires_at IS NOT NULL OFFSET n LIMIT 1);
BEGIN
	IF which IS NULL THEN
		RETURN NULL;
	ELSIF n % 3 = 0 THEN
		RETURN idem_stock_release('overdue', which);
	ELSIF n % 3 = 1 THEN
		RETURN idem_stock_reserve('overdue', which, 'hot', 1);
	END IF;
	RETURN idem_stock_confirm('overdue', which);
EXCEPTION WHEN SQLSTATE 'ID412' THEN
	RETURN false;
END $$;
END
$overdue = 5000;
pile_up();
my @levels = ('read committed', 'repeatable read', 'serializable');
my @expiring = map {
	IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres') . " options='-c default_transaction_isolation=" . ($_ =~ s/ /\\\\ /r) . q{'}, '-c', 'CALL idem_stock_expire(50)' ],
		'>', "$log.$_", '2>&1')
} @levels;
pgbench($node, [ '-c', 4, '-j', 2, '-t', 300 ], ["\\set n random(0, 900)\nSELECT meddle(:n);\n"]);
$_->finish foreach @expiring;
unlike(slurp_file("$log.$_"), qr/ERROR|FATAL/, "no error under $_") foreach @levels;
is($node->safe_psql('postgres', q{SELECT count(*) FROM idem.hold WHERE source = 'overdue' AND (status = 'h' OR expires_at IS NOT NULL)}),
	'0', 'none is left');
is(books($node, 'hot', 1_000_000_000), 'balance', 'books after two at once');

$node->stop;
done_testing();
