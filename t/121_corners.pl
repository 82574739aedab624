# Pins what only odd circumstances bring about: buckets of stock under shared locks, an order that must wait for what it adds,
# rows that somebody removed or damaged by hand, functions without their tables, parallel workers, indexes that are not as
# they were made, recursion through triggers, no row above read committed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Test::More;

my $node = idem_node('corners');
my ($s1, $s2, $s3) = map { IdemTest::Session->new($node) } 1 .. 3;
$s1->ask(q{SELECT idem_stock_add('item', 10, 2), idem_stock_add('other', 10), idem_machine('m', 'a -> b')});

for my $route (qw(off on))
{
	$_->ask("SET idem.force_sql = $route") for $s1, $s2, $s3;

	# several hold the row of a bucket: the one who changes it is waited for, and the others
	for my $end (qw(COMMIT ROLLBACK))
	{
		my $key = "$route $end";
		my $left = $s1->ask(q{SELECT idem_stock_available('item')});
		$s1->ask('BEGIN');
		is($s1->ask("SELECT idem_stock_reserve('s', 'first $key', 'item', 0.5)"), 't', "force_sql $route: an order that is not committed yet");
		$s2->ask('BEGIN');
		$s2->ask(q{SELECT FROM idem.stock WHERE item = 'item' FOR KEY SHARE});
		$s3->tell("SELECT idem_stock_reserve('s', 'second $key', 'item', $left)");
		$s3->waits($node);
		$s2->ask('COMMIT');
		$s1->ask($end);
		is($s3->answer, $end eq 'COMMIT' ? 'f' : 't', "another that wants all: decided by the first's $end");
		$s1->ask("SELECT idem_stock_release('s', '$_ $key')") for qw(first second);
	}

	# all buckets are held by two: whom to wait for is one of them, and then the other
	for my $order ([ $s1, $s2 ], [ $s2, $s1 ])
	{
		$s1->ask('BEGIN');
		$s1->ask(q{SELECT FROM idem.stock WHERE item = 'item' FOR NO KEY UPDATE});
		$s2->ask('BEGIN');
		$s2->ask(q{SELECT FROM idem.stock WHERE item = 'item' FOR KEY SHARE});
		$s3->tell("SELECT idem_stock_reserve('s', 'shared $route', 'item', 1)");
		$s3->waits($node);
		$_->ask('COMMIT') for @$order;
		is($s3->answer, 't', "force_sql $route: buckets that two others have locked");
		$s1->ask("SELECT idem_stock_release('s', 'shared $route'); DELETE FROM idem.hold WHERE seq = 'shared $route'");
	}

	# an order that is there waits for what it wants on top, and sees how that ended
	for my $end (qw(COMMIT ROLLBACK))
	{
		my $key = "more $route $end";
		$s1->ask("SELECT idem_stock_reserve('s', '$key', 'item', 1)");
		my $left = $s1->ask(q{SELECT idem_stock_available('other')});
		$s2->ask('BEGIN');
		$s2->ask("SELECT idem_stock_reserve('s', 'rival $key', 'other', $left)");
		$s3->tell("SELECT idem_stock_reserve_items('s', '$key', ARRAY['item', 'other'], ARRAY[1, 2])");
		$s3->waits($node);
		$s2->ask($end);
		is($s3->answer, $end eq 'COMMIT' ? 'f' : 't', "force_sql $route: more for an order, once the rival's $end is known");
		is($s1->ask("SELECT idem_stock_reserve('s', '$key', 'item', 1)"), 't', 'what it had it has');
		$s1->ask("SELECT idem_stock_release('s', '$_')") for $key, "rival $key";
		is($s1->ask(q{SELECT idem_stock_available('other') = 10, idem_stock_available('item') = 10}), 't|t', 'books');
	}

	# what somebody did to the rows by hand
	$s1->ask("SELECT idem_stock_add('gone $route', 5)");
	is($s1->ask("SELECT idem_stock_reserve('s', 'gone $route', 'gone $route', 2)"), 't', 'a hold');
	$s1->ask("DELETE FROM idem.stock WHERE item = 'gone $route'");
	is($s1->ask("SELECT idem_stock_release('s', 'gone $route'), idem_stock_available('gone $route')"), 't|2', 'its bucket is gone: it goes back to a new one');
	is($s1->ask("SELECT idem_stock_reserve('s', 'damaged $route', 'gone $route', 2)"), 't', 'another');
	$s1->ask("UPDATE idem.hold SET quantities = '{}' WHERE seq = 'damaged $route'");
	is($s1->ask("SELECT idem_stock_release('s', 'damaged $route')"), 'ERROR XX000', 'a damaged hold is an internal error, not a guess');
	$s1->ask("SELECT idem_claim('s', 'odd $route')");
	$s1->ask("UPDATE idem.claim SET status = '?' WHERE seq = 'odd $route'");
	is($s1->ask("SELECT idem_lookup('s', 'odd $route')"), 'ERROR XX000', 'so is a claim of no status');
	$s1->ask("DELETE FROM idem.claim WHERE seq = 'odd $route'; DELETE FROM idem.hold WHERE seq IN ('gone $route', 'damaged $route')");

	# no row, where the snapshot has the last word
	$s1->ask('CREATE TABLE IF NOT EXISTS product (id int PRIMARY KEY, stock int, status text)');
	for my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
	{
		$s1->ask("BEGIN ISOLATION LEVEL $level");
		is($s1->ask(q{SELECT idem_lock_row('product', 1)}), 'f', "force_sql $route, $level: no row to lock");
		is($s1->ask(q{SELECT idem_advance('m', 'product', 'status', 'a', 1)}), 'ERROR ID404', 'none to advance');
		$s1->ask('ROLLBACK');
	}
}

# A function of ours in a database that has not our tables
$node->safe_psql('postgres', 'CREATE DATABASE bare');
for my $function (qw(idem_claim idem_lookup))
{
	my ($returns) = $function eq 'idem_claim' ? 'text, text, jsonb, boolean) RETURNS boolean' : 'text, text, OUT text, OUT bigint, OUT json, OUT timestamptz, OUT timestamptz, OUT timestamptz, OUT name) RETURNS record';
	my (undef, undef, $err) = $node->psql('bare', "CREATE FUNCTION $function($returns LANGUAGE c AS 'idem', '$function'; SELECT $function('a', 'b'" . ($function eq 'idem_claim' ? ', NULL, true' : '') . ')');
	like($err, qr/ERROR:  relation "idem.claim" does not exist\n.*\nHINT:  Run CREATE EXTENSION idem/, "$function without the extension says what to do");
}

# In a parallel worker, through a wrapper that claims to be safe
$node->safe_psql('postgres', q{
	CREATE FUNCTION safe_claim(k text) RETURNS boolean LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN RETURN idem_claim('parallel', k); END$$;
	CREATE FUNCTION safe_status(k text) RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN RETURN (idem_lookup('parallel', k)).status; END$$;
});
my $force = $node->safe_psql('postgres', q{SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});
for my $call (q{SELECT safe_claim('k')}, q{SELECT safe_status('k')})
{
	is(sqlstate($node, "SET $force = on; $call"), '25000', "$call in a parallel worker is refused");
}
is($node->safe_psql('postgres', q{SELECT (idem_lookup('parallel', 'k')).status IS NULL}), 't', 'and did nothing');

# Tables that are not as they were made: through SQL, with the same answers
my $plans = q{SELECT CASE WHEN count(*) = 0 THEN 'direct' ELSE 'sql' END FROM pg_backend_memory_contexts WHERE name ~ '^CachedPlan' AND ident ~ '(FROM|INTO|UPDATE) idem\.(claim|hold)'};
my $pkey = 'ALTER TABLE idem.claim DROP CONSTRAINT claim_pkey; ';
my $hold = 'DROP INDEX idem.hold_expires_at; ';
$node->safe_psql('postgres', 'CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler') if $node->pg_version >= 15;
for (
	[ 'as they are', '', 'direct' ],
	[ 'a unique index in place of the primary key', $pkey . 'CREATE UNIQUE INDEX ON idem.claim (seq, source)' ],
	[ 'a deferrable primary key', $pkey . 'ALTER TABLE idem.claim ADD PRIMARY KEY (seq, source) DEFERRABLE', 'error' ],
	[ 'a primary key that includes', $pkey . 'ALTER TABLE idem.claim ADD PRIMARY KEY (seq, source) INCLUDE (fence)' ],
	[ 'a primary key the other way round', $pkey . 'ALTER TABLE idem.claim ADD PRIMARY KEY (source, seq)' ],
	[ 'a primary key of three columns', $pkey . 'ALTER TABLE idem.claim ADD PRIMARY KEY (seq, source, fence)', 'error' ],
	[ 'a primary key of another collation', $pkey . 'ALTER TABLE idem.claim ALTER seq TYPE text COLLATE "POSIX", ADD PRIMARY KEY (seq, source)' ],
	[ 'no primary key but a partial one', $pkey . 'CREATE UNIQUE INDEX ON idem.claim (seq, source) WHERE fence >= 0', 'error' ],
	[ 'a primary key that is not valid', q{UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idem.claim_pkey'::regclass}, 'error' ],
	[ 'a primary key of another operator class', $pkey . 'CREATE UNIQUE INDEX i ON idem.claim (seq text_pattern_ops, source); ALTER TABLE idem.claim ADD PRIMARY KEY USING INDEX i', 'error' ],
	[ 'a column that may be null', 'ALTER TABLE idem.claim ALTER fence DROP NOT NULL' ],
	[ 'a column that may not', 'DELETE FROM idem.claim WHERE claimed_at IS NULL; ALTER TABLE idem.claim ALTER claimed_at SET NOT NULL' ],
	[ 'a column of another type', 'ALTER TABLE idem.claim ALTER response TYPE text', 'error' ],
	[ 'a further column', 'ALTER TABLE idem.claim ADD note text' ],
	[ 'a check', 'ALTER TABLE idem.claim ADD CHECK (fence >= 0)' ],
	[ 'a rule', 'CREATE RULE r AS ON DELETE TO idem.claim DO ALSO NOTHING' ],
	[ 'row security', 'ALTER TABLE idem.claim ENABLE ROW LEVEL SECURITY' ],
	[ 'a child', 'CREATE TABLE child () INHERITS (idem.claim)' ],
	[ 'another index', 'CREATE INDEX ON idem.claim (claimed_at)' ],
	($node->pg_version >= 15 ? [ 'another access method', 'ALTER TABLE idem.claim SET ACCESS METHOD heap2' ] : ()),
	[ 'a further index without its condition', $hold . 'CREATE INDEX ON idem.hold (expires_at)' ],
	[ 'one with another condition', $hold . 'CREATE INDEX ON idem.hold (expires_at) WHERE expires_at IS NULL' ],
	[ 'one with a condition on another column', $hold . 'CREATE INDEX ON idem.hold (expires_at) WHERE decided_at IS NOT NULL' ],
	[ 'one with two conditions', $hold . q{CREATE INDEX ON idem.hold (expires_at) WHERE expires_at IS NOT NULL AND status = 'h'} ],
	[ 'one with a condition on an expression', $hold . 'CREATE INDEX ON idem.hold (expires_at) WHERE (expires_at + interval \'1 day\') IS NOT NULL' =~ s/expires_at \+ interval '1 day'/lower(source)/r ],
	[ 'one over another column', $hold . 'CREATE INDEX ON idem.hold (decided_at) WHERE expires_at IS NOT NULL' ],
	[ 'one over two columns', $hold . 'CREATE INDEX ON idem.hold (expires_at, status) WHERE expires_at IS NOT NULL' ],
	[ 'one over an expression', $hold . 'CREATE INDEX ON idem.hold (lower(source)) WHERE expires_at IS NOT NULL' ],
	[ 'one of another kind', $hold . 'CREATE INDEX ON idem.hold USING hash (expires_at) WHERE expires_at IS NOT NULL' ],
	[ 'one that is unique', $hold . 'CREATE UNIQUE INDEX ON idem.hold (expires_at) WHERE expires_at IS NOT NULL' ],
	[ 'one that excludes', $hold . 'ALTER TABLE idem.hold ADD EXCLUDE USING btree (expires_at WITH =) WHERE (expires_at IS NOT NULL)' ],
	[ 'two of them', 'CREATE INDEX ON idem.hold (expires_at) WHERE expires_at IS NOT NULL' ],
	[ 'none', $hold ])
{
	my ($what, $change, $route) = @$_;
	# all in a transaction, which is rolled back
	my (undef, $out, $err) = $node->psql('postgres', qq{
		BEGIN; $change;
		SELECT idem_claim('t', 'a'), idem_claim('t', 'a'), idem_respond('t', 'a', '1'), idem_response('t', 'a'), (SELECT string_agg(claimed::text, ' ') FROM idem_claim_batch('t', '{a, b, b}')),
			idem_stock_reserve('t', 'a', 'item', 1, '1 hour'), idem_stock_reserve('t', 'a', 'item', 1, '1 hour'), idem_stock_release('t', 'a');
		$plans;
		ROLLBACK;
	}, on_error_stop => 0);
	$route //= 'sql';
	if ($route eq 'error')
	{
		# an error it may be, but no wrong answer
		ok($out =~ /^t\|f\|t\|1\|false true false\|t\|t\|t\nsql$/ || $err =~ /ERROR/ && $out !~ /^t\|t/, "$what: not directly, and never wrong") or diag($out, $err);
	}
	else
	{
		is($out, "t|f|t|1|false true false|t|t|t\n$route", "$what: $route, the same answers") or diag($err);
	}
}

# Inserting through a trigger that inserts through idem_insert again, with other columns given
$node->safe_psql('postgres', q{
	CREATE TABLE tree (id int PRIMARY KEY, name varchar(3)[] UNIQUE, parent int, note text);
	CREATE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id < 3 THEN PERFORM idem_insert(ROW(NEW.id + 1, NULL, NEW.id, NULL)::tree); PERFORM idem_insert(ROW(NEW.id + 10, ARRAY['n' || NEW.id], NULL, 'x')::tree); END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER grow AFTER INSERT ON tree FOR EACH ROW EXECUTE FUNCTION grow();
});
is($node->safe_psql('postgres', q{SELECT inserted FROM idem_insert(ROW(1, ARRAY['abc'], NULL, 'root')::tree); SELECT inserted FROM idem_insert(ROW(1, ARRAY['abc'], NULL, 'root')::tree); SELECT string_agg(id::text, ' ' ORDER BY id) FROM tree}), "t\nf\n1 2 3 11 12", 'idem_insert within idem_insert');
is($node->safe_psql('postgres', q{SELECT idem_lock_row('tree_name_key', ARRAY['abc']), idem_lock_row('tree_name_key', '{n1}'::varchar(3)[]), idem_lock_row('tree_name_key', ARRAY['abcd'])}), 't|t|f', 'a key of arrays, whose elements have a length');

# An index that is dropped while its name is still known
for my $target (qw(gone gone_pkey))
{
	my $oid = $node->safe_psql('postgres', "CREATE TABLE gone (id int PRIMARY KEY, stock int); SELECT '$target'::regclass::oid");
	is($s1->ask("SELECT idem_lock_row($oid, 1)"), 'f', "$target: there");
	$s1->ask('DROP TABLE gone');
	is($s1->ask("SELECT idem_lock_row($oid, 1)"), 'ERROR 42P01', "$target: dropped");
}

# Not as a trigger
is($s1->ask('SELECT idem_version()'), 'ERROR 39P01', 'idem_version is a trigger');
is($s1->ask('SELECT idem_state()'), 'ERROR 39P01', 'idem_state is a trigger');
# not as a procedure
$node->safe_psql('postgres', q{CREATE FUNCTION as_function(interval, int, text) RETURNS void LANGUAGE c AS 'idem', 'idem_purge'; CREATE FUNCTION as_function(int) RETURNS void LANGUAGE c AS 'idem', 'idem_stock_expire'});
is($s1->ask(q{SELECT as_function('1 day', 1, NULL)}), 'ERROR 25001', 'idem_purge called as a function does nothing');
is($s1->ask(q{SELECT as_function(1)}), 'ERROR 25001', 'nor does idem_stock_expire');

# A key of tokens that is none
$s1->ask(q{BEGIN; UPDATE idem.token_key SET verify_until = 'infinity'; INSERT INTO idem.token_key VALUES ('short', '\x00', now(), NULL)});
is($s1->ask(q{SELECT idem_token_issue('p')}), 'ERROR XX000', 'a damaged key signs nothing');
$s1->ask('ROLLBACK');

$_->end for $s1, $s2, $s3;
$node->stop;
my @wrong = grep { /PANIC|TRAP|terminated by signal|WARNING:.*leak/ } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile);
is(join("\n", @wrong), '', 'no crash, no leak');

done_testing();
