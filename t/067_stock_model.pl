# Pins stock under everything at once: sessions that call random verbs for the same few orders and items, on both routes, at three
# levels, in savepoints that are kept or rolled back, in prepared transactions, cut short by lock_timeout, statement_timeout and cancels,
# while others expire orders, add and remove, and items grow buckets. The books balance in every snapshot; what was told and committed
# is what is stored; transactions of one call never deadlock. IDEM_STOCK_OPERATIONS: how many calls.
# soak: IDEM_STOCK_OPERATIONS=100000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use StockBooks;
use Test::More;
use Time::HiRes qw(usleep);

my $operations = $ENV{IDEM_STOCK_OPERATIONS} || 5000;
my $seed = $ENV{IDEM_STOCK_SEED} || int(rand(2**31));
srand($seed);
note("IDEM_STOCK_SEED=$seed");

my $sessions = 10;
my $node = stock_server('model', 'autovacuum = off', 'max_prepared_transactions = 40');
my $dir = PostgreSQL::Test::Utils::tempdir();
my @items = qw(a b c);

$node->safe_psql('postgres', <<'END');
CREATE SEQUENCE tick;
-- what a call was told, in its own transaction; exact: it has the order's row locked, so its place among the ticks is the true one
CREATE TABLE told (tick bigint DEFAULT nextval('tick'), kind text, k text, item text, quantity numeric, ttl interval, answer boolean, exact boolean);

CREATE FUNCTION op(kind text, k text, i text, q numeric, ttl interval, may_wait boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer boolean;
BEGIN
	CASE kind
		WHEN 'reserve' THEN answer := idem_stock_reserve('m', k, i, q, ttl, may_wait);
		WHEN 'items' THEN answer := idem_stock_reserve_items('m', k, ARRAY['c', 'a', 'b'], ARRAY[q, q, q], ttl, may_wait);
		WHEN 'amend' THEN answer := idem_stock_amend('m', k, i, q);
		WHEN 'was' THEN answer := idem_stock_amend('m', k, i, q, (SELECT l.quantity FROM idem_stock_lookup('m', k) AS l WHERE l.item = i));
		WHEN 'renew' THEN PERFORM idem_stock_renew('m', k, ttl);
		WHEN 'confirm' THEN answer := idem_stock_confirm('m', k);
		WHEN 'release' THEN answer := idem_stock_release('m', k);
		WHEN 'add' THEN PERFORM idem_stock_add(i, q, CASE WHEN random() < 0.1 THEN 3 END); answer := true;
		WHEN 'remove' THEN answer := idem_stock_remove(i, q);
	END CASE;
	INSERT INTO told (kind, k, item, quantity, ttl, answer, exact) VALUES (kind, k, i, q, ttl, answer,
		EXISTS (SELECT FROM idem.hold AS h WHERE h.source = 'm' AND h.seq = k AND pg_xact_status(h.xmin::text::xid8) = 'in progress')
		-- idem changes what is current, also what repeatable read does not see: then both the version of the snapshot and ours are visible, and
		-- an index scan answers the first one of a HOT chain; not so under serializable, which refuses the change and would lock all that is read
		OR current_setting('transaction_isolation') = 'repeatable read' AND EXISTS (SELECT FROM idem.hold AS h
			WHERE h.source || '' = 'm' AND h.seq || '' = k AND pg_xact_status(h.xmin::text::xid8) = 'in progress'));
	RETURN answer;
END $$;

-- one snapshot: what is there and what is held or sold is what was added and not removed; nothing is below zero
CREATE VIEW wrong AS
	SELECT item, available, taken, added FROM (SELECT unnest(ARRAY['a', 'b', 'c', 'hot']) AS item) AS items,
		LATERAL (SELECT coalesce(sum(quantity), 0) AS available, coalesce(min(quantity), 0) AS lowest FROM idem.stock AS s WHERE s.item = items.item) AS s,
		LATERAL (SELECT coalesce(sum(q), 0) AS taken, coalesce(min(q), 0) AS least FROM idem.hold, unnest(items, quantities) AS t (i, q)
			WHERE i = items.item AND status IN ('h', 'c')) AS h,
		LATERAL (SELECT coalesce(sum(quantity * CASE kind WHEN 'add' THEN 1 ELSE -1 END), 0) AS added FROM told
			WHERE told.item = items.item AND kind IN ('add', 'remove') AND answer) AS t
	WHERE available + taken <> added OR lowest < 0 OR least < 0;
CREATE TABLE unbalanced AS SELECT clock_timestamp() AS at, * FROM wrong WHERE false;
CREATE PROCEDURE look() LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		INSERT INTO unbalanced SELECT clock_timestamp(), * FROM wrong;
		COMMIT;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
-- expires, cancels somebody, sometimes
CREATE PROCEDURE disturb(cancels boolean) LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		PERFORM pg_cancel_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE cancels AND state = 'active' AND query LIKE 'SELECT op(%'
			ORDER BY random() LIMIT 1) AS a;
		COMMIT;
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT op('add', NULL, 'a', 300, NULL, true), op('add', NULL, 'b', 80, NULL, true), op('add', NULL, 'c', 60, NULL, true), op('add', NULL, 'hot', 1000000, NULL, true), idem_stock_add('b', 20, 4);
INSERT INTO told (kind, item, quantity, answer) VALUES ('add', 'b', 20, true);
END

my %weight = (reserve => 45, items => 14, amend => 9, was => 4, renew => 2, confirm => 3, release => 9, add => 7, remove => 7);
my @kinds = map { ($_) x $weight{$_} } sort keys %weight;

# a random call; orders are the same for all sessions for a while
sub call
{
	my ($progress) = @_;
	my $kind = $kinds[ rand @kinds ];
	my $key = int($progress * $operations / 12) + int(rand(8));
	my $item = $items[ rand @items ];
	my $quantity = $kind eq 'amend' || $kind eq 'was' ? int(rand(9)) : $kind eq 'add' || $kind eq 'remove' ? 1 + int(rand(12)) : 1 + $key % 4 + (rand() < 0.1 ? 20 : 0);
	my $ttl = rand() < 0.3 ? "'" . (5, 50, 5000)[ rand 3 ] . " ms'" : 'NULL';
	my $wait = rand() < 0.1 ? 'false' : 'true';

	return "SELECT op('$kind', '$key', '$item', $quantity, $ttl, $wait);\n";
}

# what one session does: settings, transactions, and a mark where a new one begins
sub script
{
	my ($session, $calls, $single) = @_;
	my ($sql, $n) = ("\\set VERBOSITY verbose\n", 0);
	my $transaction = 0;

	while ($n < $calls)
	{
		my $id = "$session " . $transaction++;
		my $level = ('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')[ rand 4 ];

		$sql .= 'SET idem.force_sql = ' . (rand() < 0.4 ? 'on' : 'off') . ";\n";
		$sql .= 'SET lock_timeout = ' . (rand() < 0.1 ? 1 + int(rand(60)) : 20_000) . ";\n";
		$sql .= 'SET statement_timeout = ' . (rand() < 0.05 ? 1 + int(rand(40)) : 0) . ";\n";
		if ($single || rand() < 0.2)
		{
			$sql .= "SET default_transaction_isolation = '" . lc($level) . "';\n" . call($n++ / $calls);
			$sql .= "RESET default_transaction_isolation;\n";
			next;
		}
		$sql .= "BEGIN ISOLATION LEVEL $level;\n";
		for (1 .. 1 + int(rand(3)))
		{
			my $savepoint = rand() < 0.4;

			$sql .= "SAVEPOINT s;\n" if $savepoint;
			$sql .= call($n++ / $calls);
			$sql .= rand() < 0.5 ? "ROLLBACK TO s;\n" : "RELEASE s;\n" if $savepoint;
		}
		# many at one item, which therefore spreads
		if (rand() < 0.4)
		{
			$sql .= "SELECT op('reserve', 'hot $id', 'hot', 1 + random()::int, NULL, true);\nSELECT pg_sleep(0.005);\n";
			$n++;
		}
		my $end = rand();
		# so that others meet it
		$sql .= 'SELECT pg_sleep(' . (0.005, 0.005, 0.005, 0.08)[ rand 4 ] . ");\n" if rand() < 0.4;
		if ($end < 0.15)
		{
			$sql .= "PREPARE TRANSACTION '$id';\n" . (rand() < 0.3 ? "SELECT pg_sleep(0.02);\n" : '');
			# said again, should it be cancelled: what stays prepared would hold up the others to the end (42704: it was done)
			$sql .= "SET statement_timeout = 0;\n" . ((rand() < 0.7 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$id';\n") x 3;
		}
		else { $sql .= $end < 0.3 ? "ROLLBACK;\n" : "COMMIT;\n" }
	}
	return $sql;
}

sub start
{
	my ($name, @args) = @_;
	return IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), @args ], '<', '/dev/null', '>', "$dir/$name.out", '2>', "$dir/$name.err");
}

# all sessions at once; the errors that they had, and the deadlocks among them
sub phase
{
	my ($name, $calls, $single) = @_;
	my @running;
	my $before = $node->safe_psql('postgres', 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()');

	for my $session (1 .. $sessions)
	{
		append_to_file("$dir/$name.$session.sql", script("$name $session", int($calls / $sessions), $single));
		push @running, start("$name.$session", '-f', "$dir/$name.$session.sql");
	}
	my @disturbing = (start("$name.look", '-c', 'CALL look()'), start("$name.cancel", '-c', "CALL disturb(true)"));
	my $expiring = 1;
	my $until = time + 1200;
	for my $run (1 .. 1_000_000)
	{
		$node->psql('postgres', "SET client_min_messages = warning; SET idem.force_sql = " . ($run % 2 ? 'on' : 'off') . '; CALL idem_stock_expire(' . (1 + $run % 20) . ')',
			stderr => \my $err);
		is($err, '', "$name: expire") if $err;
		last unless grep { $_->pumpable } @running;
		die "it takes too long\n" if time > $until;
		usleep(30_000);
	}
	$_->finish foreach @running;
	$_->signal('INT') foreach @disturbing;
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL %'});
	$_->finish foreach @disturbing;

	my %errors;
	foreach my $session (1 .. $sessions)
	{
		my $err = slurp_file("$dir/$name.$session.err");
		$errors{$1}++ while $err =~ /ERROR: +(\w{5}):/g;
	}
	note("$name: " . join(', ', map { "$_ $errors{$_}" } sort keys %errors));
	# 25P01: BEGIN itself was cancelled
	my @other = grep { !/^(40001|40P01|55P03|57014|25P0[12]|ID404|ID409|ID412|ID422|42704|3B001)$/ } keys %errors;
	is("@other", '', "$name: no other error");
	is($errors{'40P01'} // 0, 0, "$name: no deadlock") if $single;
	return;
}

phase('single calls', 0.4 * $operations, 1);
phase('transactions', 0.6 * $operations, 0);

my @prepared = split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');
$node->safe_psql('postgres', "ROLLBACK PREPARED '$_'") foreach @prepared;
is($node->safe_psql('postgres', 'SELECT count(*), min(item) FROM unbalanced'), '0|', 'the books balanced whenever somebody looked');
is($node->safe_psql('postgres', 'SELECT count(*) FROM wrong'), 0, 'and do at the end');

# told is what is stored: the calls that had the row of their order locked, one after the other, make it what it is; what others
# were told was so by a call before them
my (%order, @broken);
my $calls = 0;
foreach my $line (split /\n/, $node->safe_psql('postgres', q{SELECT kind, k, item, quantity, ttl IS NOT NULL, answer, exact FROM told
	WHERE kind NOT IN ('add', 'remove') ORDER BY tick}))
{
	my ($kind, $key, $item, $quantity, $ttl, $answer, $exact) = split /\|/, $line;
	my $order = $order{$key} //= { status => '-', parts => {}, had => {} };
	my $was = $order->{status};

	if ($exact eq 'f')
	{
		next unless $kind eq 'renew' || $answer eq 't';
		push @broken, "order $key: $line was never so"
		  unless $kind =~ /amend|was/ ? $order->{had}{$item}{$quantity}
		  : $kind =~ /reserve|items/  ? !grep { !exists $order->{parts}{$_} } $kind eq 'items' ? @items : $item
		  : 0; # the others have always written
		next;
	}
	$calls++;
	$order->{ttl} ||= $ttl eq 't' && $kind =~ /reserve|items|renew/;
	next unless $kind eq 'renew' || $answer eq 't';
	if ($kind eq 'reserve' || $kind eq 'items')
	{
		# a retry finds what it wants, also if it was confirmed
		next unless grep { !exists $order->{parts}{$_} } $kind eq 'items' ? @items : $item;
		push @broken, "$line of one that is $was" if $was ne '-' && $was ne 'h';
		$order->{status} = 'h';
		$order->{parts}{$_} //= $quantity foreach $kind eq 'items' ? @items : $item;
		$order->{had}{$_}{ $order->{parts}{$_} // 0 } = 1 foreach @items;
	}
	elsif ($kind eq 'amend' || $kind eq 'was')
	{
		push @broken, "$line of one that is $was" if $was ne 'h';
		$order->{parts}{$item} = $quantity if $quantity > 0 || exists $order->{parts}{$item};
		$order->{had}{$item}{$quantity} = 1;
	}
	elsif ($kind eq 'confirm')
	{
		push @broken, "$line of one that is $was" if $was ne 'h';
		$order->{status} = 'c';
	}
	elsif ($kind eq 'release')
	{
		push @broken, "$line of one that is $was" if $was ne 'h' && $was ne '-';
		$order->{status} = 'r';
	}
}
foreach my $line (split /\n/, $node->safe_psql('postgres', q{SELECT seq, status, (SELECT string_agg(i || ' ' || trim_scale(q), ', ' ORDER BY i)
	FROM unnest(items, quantities) AS t (i, q)) FROM idem.hold WHERE source = 'm'}))
{
	my ($key, $status, $parts) = split /\|/, $line, -1;
	my $order = delete $order{$key};
	my $expected = join ', ', map { "$_ $order->{parts}{$_}" } sort keys %{ $order->{parts} };

	push @broken, "order $key is $status $parts, told was $order->{status} $expected"
	  if $parts ne $expected || ($status ne $order->{status} && !($status eq 'x' && $order->{status} eq 'h' && $order->{ttl}));
}
push @broken, map { "order $_ is not there" } grep { $order{$_}{status} ne '-' } keys %order;
is(join("\n", @broken), '', 'told is what is stored')
  or diag($node->safe_psql('postgres', 'SELECT * FROM told WHERE k IN (' . join(', ', map { /^order (\d+)/ ? "'$1'" : () } @broken, 'order 0') . ') ORDER BY tick'));
cmp_ok($calls, '>', $operations / 20, "of $calls calls");

cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM idem.stock WHERE item = 'hot'}), '>', 1, 'an item where buyers meet has spread');

# and all of it can be given back
$node->safe_psql('postgres', q{SELECT count(idem_stock_release('m', seq)) FROM idem.hold WHERE status = 'h'});
is($node->safe_psql('postgres', 'SELECT count(*) FROM wrong'), 0, 'the books balance after all is given back');
note($node->safe_psql('postgres', q{SELECT 'buckets: ' || string_agg(item || ' ' || n, ', ') FROM (SELECT item, count(*) AS n FROM idem.stock GROUP BY 1) AS s}));

$node->stop;
done_testing();
