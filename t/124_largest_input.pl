# Each function whose work grows with its input is given a large one, and cancelled in the midst of it. A call that goes on long beyond its
# statement_timeout does not look for a cancel. Nothing here is held against a clock: how long a call takes on this machine is measured first,
# and a call that a busy machine kept from its processor is tried again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $node = idem_node('main', 'fsync = off');
$node->safe_psql('postgres', q{
	CREATE TABLE keys (a int, b int, n int, PRIMARY KEY (a, b));
	CREATE FUNCTION echo(r jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(1)';
	SELECT count(idem_stock_add('item ' || i, 1000)) FROM generate_series(1, 3000) i;
	SELECT idem_stock_reserve_items('large', 'known', array_agg('item ' || i ORDER BY i), array_agg(1)) FROM generate_series(1, 3000) i;
	SELECT count(idem_begin('large', 'unsettled ' || i, '1 day')) FROM generate_series(1, 20000) i;
	CREATE TABLE input AS SELECT
		('[' || repeat('1e131071,', 8000) || '1]')::jsonb AS numbers,
		(SELECT jsonb_agg(i || repeat('x', 50)) FROM generate_series(1, 100000) i) AS texts,
		(SELECT jsonb_object_agg('key ' || i, i) FROM generate_series(1, 100000) i) AS object,
		(SELECT array_agg('seq ' || md5(i::text)) FROM generate_series(1, 100000) i) AS seqs,
		(SELECT array_agg('item ' || i ORDER BY md5(i::text)) FROM generate_series(1, 50000) i) AS items,
		(SELECT array_agg(1::numeric) FROM generate_series(1, 50000) i) AS quantities,
		(SELECT string_agg('s' || i % 4096 || ' -> s' || (i * 7 + i / 4096) % 4096, '; ') FROM generate_series(0, 60000) i) AS machine,
		repeat('x', 20000000) AS long;
});

# call, and what it answers, or the SQLSTATE, when it is not cancelled
my @calls = (
	[ 'a request of numbers with long exponents', q{SELECT idem_claim('large', 'numbers', numbers) FROM input}, 't' ],
	[ 'a request of many texts', q{SELECT idem_claim('large', 'texts', texts) FROM input}, 't' ],
	[ 'a request of many keys', q{SELECT idem_call('large', 'object', 'echo', object) FROM input}, '1' ],
	[ 'something else to compare', q{SELECT idem_handle('large', 'compare', 'echo', '{}', true, object) FROM input}, '(f,1)' ],
	[ 'a batch of claims', q{SELECT count(*) FROM input, idem_claim_batch('large', seqs)}, '100000' ],
	[ 'a batch of claims that does not wait', q{SELECT count(*) FROM input, idem_claim_batch('large', seqs, false)}, '100000' ],
	[ 'a batch of attempts', q{SELECT count(*) FROM input, idem_begin_batch('large', seqs)}, '100000' ],
	[ 'all that is unsettled', q{SELECT count(*) FROM idem_unsettled('large', NULL)}, '20000' ],
	[ 'a state machine', q{SELECT idem_machine('large', machine) > 50000 FROM input}, 't' ],
	[ 'many items, too little of most', q{SELECT idem_stock_reserve_items('large', 'many', items, quantities) FROM input}, 'f' ],
	[ 'a known order and many items', q{SELECT idem_stock_reserve_items('large', 'known', items, quantities) FROM input}, 'f' ],
	[ 'an order of many items is released', q{SELECT idem_stock_release('large', 'known')}, 't' ],
	[ 'a long answer', q{SELECT idem_claim('large', 'answer'), idem_respond('large', 'answer', to_json(long)) FROM input}, 't|t' ],
	[ 'a long token', q{SELECT idem_token_consume(long, 'large') FROM input}, 'f' ],
	[ 'a long source', q{SELECT idem_claim(long, '1') FROM input}, '22023' ],
	[ 'a long seq', q{SELECT idem_claim('large', long) FROM input}, '22023' ],
	[ 'a long name', q{SELECT idem_lock(long) FROM input}, '22023' ],
	[ 'a long way of reading a key', q{SELECT idem_policy('large', '1 day', long) FROM input}, '22023' ],
	[ 'a long name of a state', q{SELECT idem_machine('long', long || ' -> b') FROM input}, '22023' ],
	[ 'a state of a long name', q{SELECT idem_machine('short', 'a -> b') = 1, idem_verdict('short', 'a', long) FROM input}, '22023' ],
	[ 'many values of a key', q{SELECT idem_lock_row('keys', VARIADIC seqs) FROM input}, '22023' ]);

# run(SQL, TIMEOUT in ms): what it answers, and how long it took; it is undone
sub run
{
	my ($sql, $timeout) = @_;
	my ($begun, $out, $err) = (time);

	$node->psql('postgres', "\\set VERBOSITY sqlstate\nBEGIN;\nSET LOCAL statement_timeout = $timeout;\n$sql;\nROLLBACK;", stdout => \$out, stderr => \$err, on_error_stop => 0);
	my $took = time - $begun;
	return ($err =~ /ERROR: +(\w{5})/ ? $1 : $out, $took);
}

foreach my $case (@calls)
{
	my ($what, $sql, $answer) = @$case;
	my ($got, $took) = run($sql, 0);
	my (undef, $empty) = run('SELECT 1', 0);

	is($got, $answer, $what);
	# of a call that is over before it could be cancelled nothing is to be seen; what is refused, is so before any work
	next if $took - $empty < 0.3 || $answer eq '22023';
	my $cancelled;
	foreach my $try (1 .. 4)
	{
		my $timeout = int(1000 * ($took - $empty) / 20) + 1;
		$timeout = 1 if $timeout < 1; # 0 would be none; the empty call was held up
		($got, my $now) = run($sql, $timeout);
		last if $cancelled = $got eq '57014';
		$took = $now if $now < $took;
	}
	ok($cancelled, '… and can be cancelled') or diag("$sql: $got, $took s");
}

# cost follows input: twice as much takes no more than a few times as long, where the square would take four times for each doubling
my @growing = (
	[ 'numbers', q{SELECT idem_claim('grow', '1', ('[' || repeat('1e131071,', %d) || '1]')::jsonb)}, 1000, 1 ],
	[ 'items of a known order', q{SELECT idem_stock_reserve_items('grow', 'known', array_agg('item ' || i), array_agg(1::numeric)) FROM generate_series(1, %d) i}, 3000, 1 ]);
foreach my $case (@growing)
{
	my ($what, $sql, $n) = @$case;
	my $memory = q{SELECT sum(total_bytes) FROM pg_backend_memory_contexts};
	my $session = IdemTest::Session->new($node);

	$session->ask("SET statement_timeout = '120s'");
	unlike($session->ask(sprintf $sql, 8 * $n), qr/ERROR/, "$what: eight times as many");
	cmp_ok($session->ask($memory), '<', 100_000_000, '… leave no memory behind');
	$session->end;
}

# Nor does it follow the order of the input. The server's qsort needs the square of the length for this one, which is made while a model of that
# sort runs: whatever it compares is decided as late as can be (McIlroy, A Killer Adversary for Quicksort).
sub worst_order
{
	my ($n) = @_;
	my @value = ($n) x $n;    # n: not decided yet
	my ($decided, $candidate, $presorted) = (0, -1, 0);
	my @a = (0 .. $n - 1);
	my $compare = sub {
		my ($x, $y) = @_;
		$value[ !$presorted && $x == $candidate ? $x : $y ] = $decided++ if $value[$x] == $n && $value[$y] == $n;
		$candidate = $value[$x] == $n ? $x : $value[$y] == $n ? $y : $candidate if !$presorted;
		return $value[$x] - $value[$y];
	};
	my $swap = sub { @a[@_] = @a[ reverse @_ ] };
	my $median = sub {
		my ($i, $j, $k) = @_;
		return $compare->(@a[ $i, $j ]) < 0
		  ? ($compare->(@a[ $j, $k ]) < 0 ? $j : $compare->(@a[ $i, $k ]) < 0 ? $k : $i)
		  : ($compare->(@a[ $j, $k ]) > 0 ? $j : $compare->(@a[ $i, $k ]) < 0 ? $i : $k);
	};
	my @todo = ([ 0, $n ]);
	while (my $part = pop @todo)
	{
		my ($from, $to) = @$part;
		my $length = $to - $from;
		my $at = $from + 1;
		$presorted = 1;
		$at++ while $at < $to && $compare->(@a[ $at - 1, $at ]) <= 0;
		$presorted = 0;
		next if $length < 7 || $at >= $to;    # what is left of the order does not matter
		my ($low, $middle, $high) = ($from, $from + int($length / 2), $to - 1);
		if ($length > 40)
		{
			my $d = int($length / 8);
			$low = $median->($low, $low + $d, $low + 2 * $d);
			$middle = $median->($middle - $d, $middle, $middle + $d);
			$high = $median->($high - 2 * $d, $high - $d, $high);
		}
		$swap->($from, $median->($low, $middle, $high)) if $length > 7;
		my ($b, $c) = ($from + 1, $to - 1);
		while (1)
		{
			$b++ while $b <= $c && $compare->(@a[ $b, $from ]) <= 0;
			$c-- while $b <= $c && $compare->(@a[ $c, $from ]) >= 0;
			last if $b > $c;
			$swap->($b++, $c--);
		}
		$swap->($from, $b - 1);
		push @todo, [ $b, $to ], [ $from, $b - 1 ];
	}
	return @value;
}

{
	my $n = 10000;
	my @worst = worst_order($n);
	my $sql = q{SELECT idem_stock_reserve_items('order', '1', array_agg(format('item %%s', lpad(v::text, 6, '0')) ORDER BY %s), array_agg(1::numeric)) FROM worst};
	my %took;

	$node->safe_psql('postgres', 'CREATE TABLE worst (i int GENERATED ALWAYS AS IDENTITY, v int); INSERT INTO worst (v) SELECT unnest(ARRAY[' . join(',', @worst) . '])');
	# a busy machine may be quiet for a moment, and for one order alone; the square of the length is there each time
	foreach (1 .. 10)
	{
		%took = ();
		foreach my $order (('i', 'md5(i::text)') x 5)
		{
			my (undef, $took) = run(sprintf($sql, $order), 120000);
			$took{$order} = $took if !defined $took{$order} || $took < $took{$order};
		}
		last if $took{i} < 4 * $took{'md5(i::text)'};
	}
	cmp_ok($took{i}, '<', 4 * $took{'md5(i::text)'}, 'items in the worst order take no longer than in any other');
}

$node->stop;
done_testing();
