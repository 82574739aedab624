# Pins cancellation: sessions that call every primitive are cancelled, and run into statement_timeout and lock_timeout, at
# random moments, also inside of a block that catches it and goes on. Nothing is half done: each effect has its record and
# each record its effect, the books balance, the indexes are whole; the sessions go on, and nothing is left behind: no
# lock, no memory, no warning in the log. A lock and an effect outside of the transaction are what the judge is shown. The
# other half of the cancellations meets the clients of the fault tests, which pursue each request to its answer.
# IDEM_CANCELS: how many statements are to be cancelled; IDEM_SEED: for what the sessions call.
# soak: IDEM_CANCELS=50000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use IPC::Run;
use Oracle;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $wanted = ($ENV{IDEM_CANCELS} // 500) / 2;
my $seed = $ENV{IDEM_SEED} // 20261123;
my $sessions = 8;
my $transactions = $wanted > 5000 ? 1500 : 150;    # of each session in a round
my $node = idem_node('cancels', 'fsync = off', 'deadlock_timeout = 20ms', 'autovacuum = off', 'log_min_error_statement = panic');

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE effect (what text, key text, n integer DEFAULT 1);
CREATE TABLE goods (id integer PRIMARY KEY, qty integer);
INSERT INTO goods SELECT i, 1000000 FROM generate_series(1, 3) i;
CREATE TABLE doc (id integer PRIMARY KEY, version integer);
INSERT INTO doc SELECT i, 0 FROM generate_series(1, 3) i;
CREATE TRIGGER v BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
CREATE TABLE purchase (id text PRIMARY KEY, status text);
CREATE TABLE named (id bigserial PRIMARY KEY, name text UNIQUE);
CREATE TABLE token (k integer PRIMARY KEY, t text);
INSERT INTO token SELECT k, idem_token_issue('form') FROM generate_series(1, 100000) k;
SELECT idem_machine('m', (SELECT string_agg('s' || i, ' -> ' ORDER BY i) FROM generate_series(0, 9) i));
SELECT idem_stock_add('one', 1000), idem_stock_add('four', 1000, 4);

-- each of these does something once, with a row of effect in the same transaction
CREATE FUNCTION claim(round text, k integer) RETURNS void LANGUAGE sql AS $$
	INSERT INTO effect SELECT 'claim', round || ' ' || i FROM generate_series(k, k + 9) i WHERE idem_claim('claim', round || ' ' || i)
$$;
CREATE FUNCTION claim_batch(round text, k integer) RETURNS void LANGUAGE sql AS $$
	INSERT INTO effect SELECT 'claim', seq
	FROM idem_claim_batch('claim', (SELECT array_agg(round || ' ' || i ORDER BY random()) FROM generate_series(k, k + 29) i)) WHERE claimed
$$;
CREATE FUNCTION respond(round text, k integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FILTER (WHERE idem_respond('claim', key, to_json(key))) FROM (SELECT key FROM effect WHERE what = 'claim' ORDER BY random() LIMIT 5) e
$$;
CREATE FUNCTION work(request json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect VALUES ('call', request->>'key');
	RETURN request;
END $$;
CREATE FUNCTION call(round text, k integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(idem_call('call', round || ' ' || i, 'work', jsonb_build_object('key', round || ' ' || i))) FROM generate_series(k, k + 5) i
$$;
CREATE FUNCTION attempt(round text, k integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	b record;
BEGIN
	FOR i IN k..k + 5 LOOP
		b := idem_begin('attempt', round || ' ' || i, '1 millisecond');
		IF b.status = 'granted' THEN
			INSERT INTO effect VALUES ('grant', round || ' ' || i, b.fence);
			IF i % 3 = 0 THEN
				PERFORM idem_renew('attempt', round || ' ' || i, b.fence), idem_fail('attempt', round || ' ' || i, b.fence);
			ELSIF b.fence > 5 THEN
				PERFORM idem_complete('attempt', round || ' ' || i, b.fence, '"done"');
			END IF;
		END IF;
	END LOOP;
END $$;
CREATE FUNCTION lock(round text, k integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	fence bigint;
BEGIN
	FOR i IN 1..5 LOOP
		fence := idem_lock((k % 7)::text, '1 millisecond');
		IF fence IS NOT NULL THEN
			INSERT INTO effect VALUES ('lock', k % 7, fence);
			IF i = 3 AND idem_unlock((k % 7)::text, fence) THEN
				CONTINUE;
			END IF;
		END IF;
	END LOOP;
END $$;
CREATE FUNCTION token(round text, k integer) RETURNS void LANGUAGE sql AS $$
	INSERT INTO effect SELECT 'token', token.k FROM token
	WHERE token.k BETWEEN round::integer * 40 + k AND round::integer * 40 + k + 5
		AND CASE token.k % 2 WHEN 0 THEN idem_token_consume(t, 'form') ELSE idem_token_rotate(t, 'form') IS NOT NULL END
$$;
CREATE FUNCTION issue(round text, k integer) RETURNS void LANGUAGE sql AS $$
	INSERT INTO effect SELECT 'issue', k % 3, length(idem_token_issue('limited', (k % 3)::text, max_issues => 1000000, per => '1 day')) / 50
$$;
CREATE FUNCTION deduct(round text, k integer) RETURNS void LANGUAGE sql AS $$
	INSERT INTO effect SELECT 'deduct', id, 2 FROM generate_series(k % 3 + 1, 3) id WHERE idem_deduct('goods', 'qty', 2, id)
$$;
CREATE FUNCTION insert(round text, k integer) RETURNS void LANGUAGE sql AS $$
	INSERT INTO effect SELECT 'insert', name FROM (SELECT round || ' ' || i AS name FROM generate_series(k, k + 4) i) n
	WHERE (SELECT inserted FROM idem_insert(ROW(NULL, name)::named))
$$;
CREATE FUNCTION version(round text, k integer) RETURNS void LANGUAGE sql AS $$
	WITH u AS (UPDATE doc SET version = version + k % 2 WHERE id = k % 3 + 1 RETURNING id) INSERT INTO effect SELECT 'version', id FROM u
$$;
CREATE FUNCTION advance(round text, k integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	next integer;
BEGIN
	INSERT INTO purchase VALUES (round, 's0') ON CONFLICT DO NOTHING;
	SELECT ltrim(status, 's')::integer + 1 INTO next FROM purchase WHERE id = round;
	IF next < 10 AND idem_advance('m', 'purchase', 'status', 's' || next, round) THEN
		INSERT INTO effect VALUES ('advance', round, next);
	END IF;
END $$;
CREATE FUNCTION reserve(round text, k integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF idem_stock_reserve_items('hold', round || ' ' || k, CASE k % 2 WHEN 0 THEN ARRAY['one', 'four'] ELSE ARRAY['four', 'one'] END, ARRAY[2, 2], '1 hour') THEN
		IF k % 2 = 1 THEN
			PERFORM idem_stock_release('hold', round || ' ' || k);
		ELSIF k % 10 = 2 THEN
			PERFORM idem_stock_confirm('hold', round || ' ' || k);
		END IF;
	END IF;
END $$;
CREATE FUNCTION release(round text, k integer) RETURNS boolean LANGUAGE sql AS $$ SELECT idem_stock_release('hold', round || ' ' || k) $$;
CREATE FUNCTION look(round text, k integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count((idem_lookup('claim', round || ' ' || i)).status) + count(idem_response('call', round || ' ' || i)) + count(idem_stock_available('four'))
		+ count(idem_verdict('m', 's1', 's2')) FROM generate_series(k, k + 9) i
$$;
CREATE FUNCTION define(round text, k integer) RETURNS integer LANGUAGE sql AS $$
	SELECT idem_machine('m', (SELECT string_agg('s' || i, ' -> ' ORDER BY i) FROM generate_series(0, 9) i))
$$;
CREATE FUNCTION rekey(round text, k integer) RETURNS void LANGUAGE sql AS $$ SELECT idem_token_rekey() FROM generate_series(1, 1) WHERE k = 7 $$;
-- goes on in the same transaction, whatever happened
CREATE FUNCTION caught(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'SELECT ' || what;
	RETURN '';
EXCEPTION WHEN query_canceled OR OTHERS THEN
	RETURN sqlstate;
END $$;

-- what is wrong, in words
CREATE VIEW fault AS
SELECT 'claim: ' || count(*) AS fault FROM (SELECT key FROM effect WHERE what = 'claim') e
	FULL JOIN (SELECT seq FROM idem.claim WHERE source = 'claim') c ON e.key = c.seq WHERE key IS NULL OR seq IS NULL HAVING count(*) > 0
UNION ALL SELECT 'answer: ' || seq FROM idem.claim WHERE source = 'claim' AND (status <> 'd' OR response::text <> to_json(seq)::text)
UNION ALL SELECT 'call: ' || count(*) FROM (SELECT key FROM effect WHERE what = 'call') e
	FULL JOIN (SELECT seq FROM idem.claim WHERE source = 'call' AND status = 'd' AND response->>'key' = seq) c ON e.key = c.seq
	WHERE key IS NULL OR seq IS NULL HAVING count(*) > 0
UNION ALL SELECT 'call: ' || seq FROM idem.claim WHERE source = 'call' AND status <> 'd'
UNION ALL SELECT 'attempt: ' || seq FROM idem.claim c WHERE source = 'attempt'
	AND fence <> (SELECT count(*) FROM effect WHERE what = 'grant' AND key = seq)
UNION ALL SELECT 'lock: ' || name FROM idem.lock WHERE fence <> (SELECT count(*) FROM effect WHERE what = 'lock' AND key = name)
UNION ALL SELECT 'token: ' FROM idem.token_spent HAVING count(*) <> (SELECT count(*) FROM effect WHERE what = 'token')
UNION ALL SELECT 'issue: ' || subject FROM idem.token_rate r WHERE issued <> (SELECT count(*) FROM effect WHERE what = 'issue' AND key = subject)
UNION ALL SELECT 'goods: ' || id FROM goods WHERE qty + (SELECT coalesce(sum(n), 0) FROM effect WHERE what = 'deduct' AND key = id::text) <> 1000000
UNION ALL SELECT 'insert: ' || count(*) FROM (SELECT key FROM effect WHERE what = 'insert') e FULL JOIN named ON key = name
	WHERE key IS NULL OR name IS NULL HAVING count(*) > 0
UNION ALL SELECT 'version: ' || id FROM doc WHERE version <> (SELECT count(*) FROM effect WHERE what = 'version' AND key = id::text)
UNION ALL SELECT 'advance: ' || id FROM purchase p WHERE ltrim(status, 's')::integer <> (SELECT count(*) FROM effect WHERE what = 'advance' AND key = id)
UNION ALL SELECT 'twice: ' || what || ' ' || key FROM effect WHERE what NOT IN ('issue', 'deduct', 'version') GROUP BY what, key, CASE WHEN what IN ('grant', 'lock', 'advance') THEN n END HAVING count(*) > 1
UNION ALL SELECT 'stock: ' || item FROM idem.stock GROUP BY item HAVING min(quantity) < 0 OR sum(quantity) + (SELECT coalesce(sum(q), 0)
	FROM idem.hold, unnest(items, quantities) AS t (i, q) WHERE i = item AND status IN ('h', 'c')) <> 1000;
-- locks that a session has kept although it is in no transaction; those of serializable outlive it by design
CREATE FUNCTION kept_locks() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid' AND mode <> 'SIReadLock'
		AND coalesce(relation, 0) NOT IN ('pg_locks'::regclass, 'pg_class'::regclass, 'pg_class_oid_index'::regclass, 'pg_class_relname_nsp_index'::regclass, 'pg_class_tblspc_relfilenode_index'::regclass)
$$;
CREATE FUNCTION memory() RETURNS bigint LANGUAGE sql AS $$ SELECT (sum(total_bytes) / 1024)::bigint FROM pg_backend_memory_contexts $$;
-- cancels one after the other until there is none left
CREATE PROCEDURE cancel_all() LANGUAGE plpgsql AS $$
DECLARE
	victims integer[];
BEGIN
	LOOP
		PERFORM pg_stat_clear_snapshot();
		SELECT array_agg(pid) INTO victims FROM pg_stat_activity WHERE application_name = 'victim';
		EXIT WHEN victims IS NULL;
		PERFORM pg_cancel_backend(victims[1 + floor(random() * array_length(victims, 1))]), pg_sleep(random() * 0.004);
	END LOOP;
END $$;
SQL
$node->safe_psql('postgres', 'CREATE EXTENSION amcheck');

my @calls = qw(claim claim claim_batch claim_batch respond call call attempt attempt lock token issue deduct insert version advance
  reserve reserve release look define rekey);

sub pick { return $_[ rand @_ ] }

# script(ROUND): transactions of one session, as psql runs them
sub script
{
	my ($round) = @_;
	my $script = "\\set VERBOSITY sqlstate\nSET application_name = 'victim';\n";
	my $call = sub { return pick(@calls) . "('$round', " . int(1 + rand 40) . ')' };
	my $statement = sub { my $c = $call->(); return rand() < 0.3 ? "SELECT caught(\$\$$c\$\$);\n" : "SELECT $c;\n" };

	foreach my $n (1 .. $transactions)
	{
		# what a session needs anyway is in its memory by then
		$script .= "SET statement_timeout = 0;\nSELECT 'memory before', memory();\n" if $n == int($transactions / 2);
		$script .= 'SET statement_timeout = ' . pick(0, 0, 0, 0, 1, 2, 5, 10) . ";\n" if rand() < 0.3;
		$script .= 'SET lock_timeout = ' . pick(0, 0, 0, 2) . ";\n" if rand() < 0.1;
		$script .= 'SET idem.force_sql = ' . pick('on', 'off') . ";\n" if rand() < 0.2;
		if (rand() < 0.5)
		{
			$script .= $statement->();
			next;
		}
		$script .= 'BEGIN ISOLATION LEVEL ' . pick('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE') . ";\n";
		foreach (0 .. rand 3)
		{
			$script .= $statement->();
			$script .= "SAVEPOINT s;\n" . $statement->() . "ROLLBACK TO s;\n" if rand() < 0.2;
		}
		$script .= pick('COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK') . ";\n";
	}
	# a cancellation may still be on its way, so the end is said more than once
	$script .= "SET application_name = 'done';\nROLLBACK;\nSET statement_timeout = 0;\n";
	return $script . ("SELECT pg_sleep(0.02);\nROLLBACK;\nRESET application_name;\nRESET statement_timeout;\n"
		  . "SELECT 'kept', kept_locks();\nSELECT 'memory after', memory();\nSELECT 'alive';\n") x 3;
}

srand $seed;
my ($cancelled, $round, $growth) = (0, 0);
my (%errors, @lost);
# more rounds than are ever needed: the limit is for what would not end
while ($cancelled < $wanted && !@lost && $round < 100 + $wanted && !time_is_up())
{
	my (@running, @out, @err);

	$round++;
	foreach my $i (0 .. $sessions - 1)
	{
		my $file = $node->basedir . "/session$i.sql";
		unlink $file;
		append_to_file($file, script($round));
		$out[$i] = $err[$i] = '';
		push @running, IPC::Run::start([ 'psql', '-XAtq', '-F', ' ', '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out[$i], '2>', \$err[$i]);
	}
	$node->safe_psql('postgres', 'CALL cancel_all()');
	$_->finish foreach @running;
	foreach my $i (0 .. $sessions - 1)
	{
		$errors{$1}++ while $err[$i] =~ /(?:ERROR|FATAL): +(\w{5})/g;
		$errors{$1}++ while $out[$i] =~ /^(\w{5})$/mg && $1 ne 'alive';
		push @lost, "session $i: " . substr($out[$i], -200) . substr($err[$i], -200) if $out[$i] !~ /^kept 0$/m || $out[$i] =~ /^kept [1-9]/m || $out[$i] !~ /^alive$/m;
		my ($before) = $out[$i] =~ /^memory before (\d+)$/m;
		my ($after) = $out[$i] =~ /^memory after (\d+)$/m;
		$growth = $after - $before if defined $before && defined $after && $after - $before > ($growth // -1e9);
	}
	$cancelled = $errors{57014} // 0;
	push @lost, "round $round: $_" foreach split /\n/, $node->safe_psql('postgres', 'SELECT fault FROM fault');
}
note("errors: " . join ', ', map { "$_ $errors{$_}" } sort keys %errors);
note("effects: " . $node->safe_psql('postgres', q{SELECT string_agg(what || ' ' || n, ', ') FROM (SELECT what, count(*) AS n FROM effect GROUP BY what ORDER BY what) e}));
note("figures: $cancelled statements cancelled");
ok($cancelled >= $wanted || time_is_up(), "$cancelled statements cancelled in $round rounds");
is(join("\n", @lost), '', "seed $seed: nothing half done, all sessions alive, no lock kept");
ok(defined $growth && $growth < 4096, 'memory of a session grew by ' . ($growth // '?') . ' kB at most');
is(join(' ', grep { !/^(57014|55P03|40001|40P01|25P0[12]|3B001|ID4\d\d)$/ } sort keys %errors), '', 'no error but those of being cancelled, refused or too late');
is( $node->safe_psql('postgres', q{SELECT count(bt_index_check(indexrelid, true)) = count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
		WHERE relnamespace = 'idem'::regnamespace}),
	't', 'indexes whole');
is($node->safe_psql('postgres', q{SELECT count(*) FROM effect WHERE what = 'claim'}) > 50, 1, 'claims were made');
my @warnings = grep { /WARNING:|PANIC:|TRAP:|was terminated by signal/ && !/there is (already a|no) transaction in progress|PID \d+ is not a PostgreSQL/ } split /\n/, slurp_file($node->logfile);
is(join("\n", @warnings), '', 'no warning in the log');

#
# The controls: what is outside of the transaction is left behind, and the judge sees it
#
my ($s1, $s2) = map { IdemTest::Session->new($node) } 1, 2;
$s1->ask(q{BEGIN; SELECT idem_claim('claim', 'wrong')});
is($s2->ask(q{INSERT INTO effect VALUES ('claim', 'wrong'); SELECT FROM pg_advisory_lock(1, 1)}), '', 'an effect that is committed by itself, a lock of the session');
# only what waits has a limit, which ends with the transaction: a busy machine may need as long for anything else
is($s2->ask(q{BEGIN; SELECT set_config('statement_timeout', '20ms', true) \g /dev/null
	SELECT idem_claim('claim', 'wrong')}), 'ERROR 57014', '… and whose claim is cancelled');
$s2->ask('ROLLBACK');
$s1->ask('ROLLBACK');
is($node->safe_psql('postgres', 'SELECT fault FROM fault'), 'claim: 1', '… is seen by the judge');
is($s2->ask('SELECT kept_locks()'), '1', 'and so is a lock of the session');

$_->end foreach $s1, $s2;
$node->stop;

#
# The same under the load, whose promises the oracle judges
#
my $started = time;
my $busy = load_node('busy', 'fsync = off', 'autovacuum = off');
my $load = Load->new($busy);
my $met = 0;
$busy->safe_psql('postgres', <<'SQL');
CREATE PROCEDURE load.cancel(n integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..n LOOP
		PERFORM pg_stat_clear_snapshot();
		PERFORM pg_cancel_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'load' AND state = 'active' ORDER BY random() LIMIT 1) p;
		PERFORM pg_sleep(random() * 0.002);
	END LOOP;
END $$;
SQL
while ($met < $wanted && !($met > 0 && time_is_up()))
{
	my $before = $met;

	$load = fresh($load) if $met > 0;
	$load->start;
	while ($met < $wanted && $met - $before < 2500)
	{
		my $offset = -s $busy->logfile;
		$busy->safe_psql('postgres', 'CALL load.cancel(100)');
		$met += () = slurp_file($busy->logfile, $offset) =~ /canceling statement due to user request/g;
	}
	$load->stop;
	judged($load, "$met requests cancelled") or last;
}
figures("$met cancelled under the load", $started);
$busy->stop;
done_testing();
