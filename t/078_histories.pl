# Pins that what random transactions saw and did has an order. At each level every version of an object (a key, a lock,
# a row, an item) has one author and one successor, and nobody sees what nobody commits; at serializable the order
# also agrees with all that was read, as History.pm judges. Both routes at once. The checker is shown what it must find:
# a claim that selects and then inserts, a serializable history made at a lower level, and a read of what was rolled back.
# IDEM_HISTORY_TRANSACTIONS: how many at serializable, half as many at each other level.
# soak: IDEM_HISTORY_TRANSACTIONS=100000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use History;
use IdemTest;
use Test::More;

my $transactions = $ENV{IDEM_HISTORY_TRANSACTIONS} // 500;
my $node = idem_node('histories', 'fsync = off', 'autovacuum = off', 'deadlock_timeout = 20ms', 'log_min_messages = fatal');
# a key is in use for so many transactions, counting those that are tried again
my $life = 60;

# step() does something to one object, and notes which version it saw and which one it made
$node->safe_psql('postgres', <<'SQL');
CREATE SEQUENCE clock MINVALUE 0;
CREATE TABLE history (transaction bigint, object text, got integer, made integer);
CREATE TABLE token (k integer PRIMARY KEY, t text);
CREATE TABLE goods (id integer PRIMARY KEY, qty integer);
CREATE TABLE doc (id integer PRIMARY KEY, version integer);
CREATE TRIGGER v BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
CREATE TABLE purchase (id integer PRIMARY KEY, status text);
CREATE TABLE named (id integer PRIMARY KEY);
CREATE TABLE taken (k integer);
SELECT idem_machine('history', (SELECT string_agg('s' || i, ' -> ' ORDER BY i) FROM generate_series(0, 20) i));

CREATE FUNCTION step(kind text, k integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	object text := split_part(kind, ' ', 1) || k;
	key text := k;
	got integer;
	made integer;
	fence bigint;
	l record;
BEGIN
	CASE kind
	WHEN 'claim', 'claim answer', 'claim call', 'claim look' THEN
		BEGIN
			IF kind = 'claim' AND idem_claim('h', key) THEN
				got := 0; made := 1;
			ELSIF kind = 'claim answer' AND idem_respond('h', key, '"done"') THEN
				got := 1; made := 2;
			ELSIF kind = 'claim call' THEN
				PERFORM set_config('test.ran', 'f', true), idem_call('h', key, 'run', '0');
				IF current_setting('test.ran')::boolean THEN
					got := 0; made := 2;
				END IF;
			END IF;
		EXCEPTION WHEN SQLSTATE 'ID404' OR SQLSTATE 'ID409' OR SQLSTATE 'ID412' THEN
		END;
		IF made IS NULL THEN
			l := idem_lookup('h', key);
			got := CASE WHEN l.status IS NULL THEN 0 WHEN l.response IS NULL THEN 1 ELSE 2 END;
		END IF;
	WHEN 'attempt', 'attempt fail', 'attempt look' THEN
		IF kind = 'attempt' THEN
			l := idem_begin('a', key, '1 hour');
		ELSE
			l := idem_lookup('a', key);
		END IF;
		got := coalesce(2 * l.fence - CASE l.status WHEN 'open' THEN 0 WHEN 'granted' THEN 2 ELSE 1 END, 0);
		IF l.status = 'granted' THEN
			made := got + 1;
		ELSIF kind = 'attempt fail' AND l.status = 'running' THEN
			BEGIN
				IF idem_fail('a', key, l.fence) THEN
					made := got + 1;
				END IF;
			EXCEPTION WHEN SQLSTATE 'ID412' THEN
			END;
		END IF;
	WHEN 'lock', 'lock free' THEN
		IF kind = 'lock' THEN
			fence := idem_lock(key, '1 hour');
			IF fence IS NULL THEN
				RETURN NULL;	-- somebody is at it, whether he commits or not
			END IF;
			got := 2 * fence - 2; made := got + 1;
		ELSE
			SELECT lock.fence, lease_until INTO l FROM idem.lock WHERE name = key ORDER BY lock.fence DESC LIMIT 1;
			got := coalesce(2 * l.fence - (l.lease_until IS NOT NULL)::integer, 0);
			IF l.lease_until IS NOT NULL AND idem_unlock(key, l.fence) THEN
				made := got + 1;
			END IF;
		END IF;
	WHEN 'token', 'token look' THEN
		IF kind = 'token' AND idem_token_consume((SELECT t FROM token WHERE token.k = step.k), 'h') THEN
			got := 0; made := 1;
		ELSE
			got := (idem_token_status((SELECT t FROM token WHERE token.k = step.k), 'h') = 'used')::integer;
		END IF;
	WHEN 'limit' THEN
		PERFORM idem_token_issue('limit', key, max_issues => 10000, per => '1 day');
		-- below serializable a snapshot may be older than what idem has changed: then a scan of the table shows both versions
		-- of the row. That of an index would stop at the older one, and from 18 on one may be had for the second column alone.
		SELECT max(issued) INTO made FROM idem.token_rate WHERE subject || '' = key;
		got := made - 1;
	WHEN 'deduct', 'deduct look' THEN
		IF kind = 'deduct' AND idem_deduct('goods', 'qty', 1, k) THEN
			made := 6 - (SELECT qty FROM goods WHERE id = k);
			got := made - 1;
		ELSE
			got := 6 - (SELECT qty FROM goods WHERE id = k);
		END IF;
	WHEN 'version', 'version look' THEN
		IF kind = 'version' THEN
			UPDATE doc SET id = id WHERE id = k RETURNING version INTO made;
			got := made - 1;
		ELSE
			SELECT version INTO got FROM doc WHERE id = k;
		END IF;
	WHEN 'advance', 'advance look' THEN
		BEGIN
			IF kind = 'advance' AND idem_advance('history', 'purchase', 'status',
				's' || (SELECT ltrim(status, 's')::integer + 1 FROM purchase WHERE id = k), k) THEN
				made := (SELECT ltrim(status, 's') FROM purchase WHERE id = k);
				got := made - 1;
			END IF;
		EXCEPTION WHEN SQLSTATE 'ID460' OR SQLSTATE '22023' THEN
		END;
		IF made IS NULL THEN
			got := (SELECT ltrim(status, 's') FROM purchase WHERE id = k);
		END IF;
	WHEN 'insert' THEN
		got := 1;
		IF (SELECT inserted FROM idem_insert(ROW(k)::named)) THEN
			got := 0; made := 1;
		END IF;
	WHEN 'stock', 'stock look' THEN
		IF kind = 'stock' AND idem_stock_reserve(key, txid_current() || ' ' || random(), key, 1) THEN
			made := 6 - idem_stock_available(key);
			got := made - 1;
		ELSE
			got := 6 - idem_stock_available(key);
		END IF;
	WHEN 'wrong' THEN
		IF EXISTS (SELECT FROM taken WHERE taken.k = step.k) THEN
			got := 1;
		ELSE
			INSERT INTO taken VALUES (k);
			got := 0; made := 1;
		END IF;
	END CASE;
	INSERT INTO history VALUES (txid_current(), object, got, made);
	RETURN got || coalesce(' ' || made, '');
END $$;
CREATE FUNCTION run(request json) RETURNS json LANGUAGE sql AS $$ SELECT to_json(set_config('test.ran', 't', true)) $$;

-- objects for so many keys, in so many buckets
CREATE PROCEDURE afresh(n integer, buckets integer) LANGUAGE plpgsql AS $$
BEGIN
	ALTER SEQUENCE clock RESTART;
	TRUNCATE history, token, goods, doc, purchase, named, taken, idem.claim, idem.lock, idem.token_spent, idem.token_rate, idem.stock, idem.hold;
	INSERT INTO token SELECT k, idem_token_issue('h') FROM generate_series(0, n) k;
	INSERT INTO goods SELECT k, 6 FROM generate_series(0, n) k;
	INSERT INTO doc SELECT k, 0 FROM generate_series(0, n) k;
	INSERT INTO purchase SELECT k, 's0' FROM generate_series(0, n) k;
	PERFORM idem_stock_add(k::text, 6, buckets) FROM generate_series(0, n) k;
END $$;
SQL

my @kinds = (
	'claim', 'claim answer', 'claim call', 'claim look', 'attempt', 'attempt fail', 'attempt look', 'lock', 'lock free', 'token', 'token look',
	'limit', 'deduct', 'deduct look', 'version', 'version look', 'advance', 'advance look', 'insert', 'stock', 'stock look'
);

# history(LEVEL): its steps
sub history
{
	return map { [ map { $_ eq '' ? undef : $_ } split /\|/, $_, -1 ] }
	  split /\n/, $node->safe_psql('postgres', 'SELECT transaction, object, got, made FROM history');
}

# transactions(LEVEL, NUMBER): so many random ones, by 8 clients, half of them through SQL; what fails is tried again
sub transactions
{
	my ($level, $n) = @_;
	my $clients = 8;
	# below serializable two buyers of an item that has spread itself take of it at once, and neither comes after the other
	my @these = grep { $level eq 'SERIALIZABLE' || !/^stock/ } @kinds;
	my $array = 'ARRAY[' . join(', ', map { "'$_'" } @these) . ']';
	my $step = "\\set kind random(1, @{[ scalar @these ]})\n\\set k :window + random(0, 2)\nSELECT step(($array)[:kind], :k);\n";

	my $keys = int($n / $life) * 2 + 10;

	$node->safe_psql('postgres', "CALL afresh($keys + 2, " . ($level eq 'SERIALIZABLE' ? 2 : 1) . ')');
	return clients($node, $clients, int($n / $clients) + 1, <<"SCRIPT", '--max-tries=10000');
SELECT set_config('idem.force_sql', (:client_id % 2 = 0)::text, false), nextval('clock') / $life % $keys AS window \\gset
\\set more random(0, 2)
BEGIN ISOLATION LEVEL $level;
$step$step\\if :more > 0
$step\\endif
\\if :more > 1
$step\\endif
COMMIT;
SCRIPT
}

foreach my $level ('SERIALIZABLE', 'REPEATABLE READ', 'READ COMMITTED')
{
	my $n = $level eq 'SERIALIZABLE' ? $transactions : int($transactions / 2);
	my $out = transactions($level, $n);
	my @history = history();
	my @faults = History::faults($level eq 'SERIALIZABLE', @history);
	my %committed = map { $_->[0] => 1 } @history;

	like($out, qr/number of failed transactions: 0 /, "$level: all transactions committed in the end");
	cmp_ok(scalar keys %committed, '>=', $n * 0.9, "$level: " . keys(%committed) . ' transactions, ' . @history . ' steps, '
		. grep({ defined $_->[3] } @history) . ' of them writing');
	is(join("\n", @faults), '', "$level: their history has an order");
	note("figures: $level: " . keys(%committed) . ' transactions, ' . @history . ' steps');
}

#
# The controls
#
my ($s1, $s2) = map { IdemTest::Session->new($node) } 1, 2;

# skew(LEVEL): each of two transactions sees that the other's key is free, and claims its own; one answer for both commits
sub skew
{
	my ($level) = @_;
	$node->safe_psql('postgres', 'CALL afresh(5, 1)');
	$_->ask("BEGIN ISOLATION LEVEL $level") foreach $s1, $s2;
	$s1->ask(q{SELECT step('claim look', 1)});
	$s2->ask(q{SELECT step('claim look', 2)});
	$s1->ask(q{SELECT step('claim', 2)});
	$s2->ask(q{SELECT step('claim', 1)});
	return join ' ', map { $_->ask('COMMIT') || 'committed' } $s1, $s2;
}

is(skew('REPEATABLE READ'), 'committed committed', 'write skew at repeatable read');
like(join("\n", History::faults(1, history())), qr/^no order for transactions \d+, \d+$/, '… is seen by the checker');
is(join("\n", History::faults(0, history())), '', '… and is no fault at that level');
like(skew('SERIALIZABLE'), qr/^committed ERROR 40001$|^ERROR 40001 committed$/, 'write skew at serializable: one is refused');
is(join("\n", History::faults(1, history())), '', '… and what is left has an order');

$node->safe_psql('postgres', 'CALL afresh(5, 1)');
$_->ask('BEGIN') foreach $s1, $s2;
is($s1->ask(q{SELECT step('wrong', 1)}) . ', ' . $s2->ask(q{SELECT step('wrong', 1)}), '0 1, 0 1', 'select, then insert: two winners');
$_->ask('COMMIT') foreach $s1, $s2;
like(join("\n", History::faults(0, history())), qr/wrong1: version 1 is by \d+ and by \d+/, '… are seen by the checker');

like(join("\n", History::faults(0, [ 1, 'x', 0, 1 ], [ 2, 'x', 2, undef ])), qr/version 2 was seen, and nobody made it/, 'a read of what was rolled back is seen');
like(join("\n", History::faults(0, [ 1, 'x', 0, 1 ], [ 2, 'y', 0, 1 ], [ 1, 'y', 1, undef ], [ 2, 'x', 1, undef ])), qr/no order/, 'circular sight is seen');
is(join("\n", History::faults(1, [ 1, 'x', 0, 1 ], [ 2, 'x', 1, 2 ], [ 3, 'x', 1, undef ])), '', 'a reader between two authors is in order');

$_->end foreach $s1, $s2;
$node->stop;
done_testing();
