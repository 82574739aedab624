# All that script/bench measures: one entry for each, A (idem) and B (what idem is compared with). bench/run.pl expands an entry
# with several numbers of clients to a row for each, and measures it in pairs; bench/peers.sql has the tables and functions.
#
#   id      what the issue calls it, or a name; rows are chosen by it
#   what    is done, of A; against: of B; with: the conditions, beside those that the fields below say
#   kind    wire     clients do A, then B, over connections of their own; the rate is compared. Steps that bench/load.c explains:
#                    [kind => text, the answer expected, 'session' if only once], with :key and so on in SQL, {key} elsewhere.
#                    synchronous_commit is on, unless async says else
#           loop     PL/pgSQL loops over n keys, k, in the server; each has to leave true in done; the rate is compared
#           batch    the same over batches of 1,000 keys, ks, and done is their number
#           wal      as loop, with a commit after each call; the bytes of WAL for each call are compared
#           trigger  the time that EXPLAIN ANALYZE finds in the triggers of a statement over n rows
#           large    as loop, A in a table of many keys, B (the same) in one of 10,000; the time for each call is compared
#           memory   bytes that the backend grows by, in one transaction of n calls
#           p99      99th percentile of A while something runs, and alone
#           purge    A and B remove a tenth of so many random keys each time, those older than %d days; the rate is compared
#   floor, goal      of the ratio A / B; lower: the smaller, the better (memory: bytes)
#   fresh   tables that are emptied before every tenth pair (loop, batch, wal), each (trigger, memory) or the first (wire)
#   before  SQL that is run before the first pair
#   needs   redis, etcd
#   core    has floors and goals; the others are peers
#   count   instructions can be counted, of the loops or of these instead

use strict;
use warnings;
use utf8;

# the old keys, with their answers, on both sides
my $old_keys = 'CALL bench.old_keys(10000)';
my $call = q{SELECT idem_call('bench', :key, 'bench.do_work', jsonb_build_object('subject', :key::text))};
my $call_old = q{SELECT idem_call('bench', :old, 'bench.do_work', jsonb_build_object('subject', :old::text))};
my $claim_work = q{INSERT INTO work (subject, at) SELECT :key, clock_timestamp() WHERE (SELECT idem_claim('bench', :key))};
my $work = q{INSERT INTO work (subject, at) VALUES (:key, clock_timestamp())};
my $bare = q{INSERT INTO bare VALUES ('bench', :key, clock_timestamp()) ON CONFLICT DO NOTHING};
my $bare_loop = q{INSERT INTO bare VALUES ('bench', k, clock_timestamp()) ON CONFLICT DO NOTHING; done := FOUND};

my $select_loop = q{SELECT response IS NOT NULL INTO done FROM answered WHERE source = 'bench' AND seq = k};

# the strongest plain way to take one of an item and to note who took it: one statement, one round trip
my $plain_sale = q{
	WITH j AS (INSERT INTO journal VALUES ('bench', :key, 'hot', 1, clock_timestamp()) ON CONFLICT DO NOTHING RETURNING 1)
	UPDATE plain_stock SET quantity = quantity - 1 WHERE item = 'hot' AND quantity >= 1 AND EXISTS (SELECT FROM j)};

my $token_table = [ [ pg => q{INSERT INTO form_token (purpose, subject, expires_at)
	VALUES ('form', :key, clock_timestamp() + '15 minutes') RETURNING token} ] ];

return [
	{
		id => 'P1', core => 1,
		what => 'first claim', against => 'bare INSERT … ON CONFLICT DO NOTHING',
		kind => 'wire', clients => [ 1, 8, 32 ], fresh => 'idem.claim, bare',
		a => [ [ pg => q{SELECT idem_claim('bench', :key)}, 't' ] ],
		b => [ [ pg => $bare, '#1' ] ],
		floor => 0.97, goal => 1.05,
	},
	{
		id => 'P2', core => 1, async => 1,
		what => 'first claim', against => 'bare INSERT … ON CONFLICT DO NOTHING',
		kind => 'wire', clients => [ 1, 8, 32 ], fresh => 'idem.claim, bare',
		a => [ [ pg => q{SELECT idem_claim('bench', :key)}, 't' ] ],
		b => [ [ pg => $bare, '#1' ] ],
		floor => 1.0, goal => 1.2,
	},
	{
		id => 'P3', core => 1,
		what => 'first claim', against => 'the same INSERT from PL/pgSQL',
		kind => 'loop', fresh => 'idem.claim, bare', n => 2_000,
		a => q{done := idem_claim('bench', k)},
		b => $bare_loop,
		floor => 1.5, goal => 2.5, count => {},
	},
	{
		id => 'P4', core => 1,
		what => 'duplicate with its answer (idem_response)', against => 'SELECT by key',
		kind => 'wire', clients => [ 1, 8 ], before => $old_keys,
		a => [ [ pg => q{SELECT idem_response('bench', :old)} ] ],
		b => [ [ pg => q{SELECT response FROM answered WHERE source = 'bench' AND seq = :old} ] ],
		floor => 0.9, goal => 1.0,
		count => { a => q{done := idem_response('bench', k) IS NOT NULL}, b => $select_loop },
	},
	{
		id => 'P4', core => 1,
		what => 'duplicate with its answer (idem_call, the request compared)', against => 'SELECT by key',
		kind => 'wire', clients => [ 1, 8 ], before => $old_keys,
		a => [ [ pg => $call_old ] ],
		b => [ [ pg => q{SELECT response FROM answered WHERE source = 'bench' AND seq = :old} ] ],
		floor => 0.9, goal => 1.0,
		count => { a => q{done := idem_call('bench', k, 'bench.do_work', jsonb_build_object('subject', k)) IS NOT NULL}, b => $select_loop },
	},
	{
		id => 'P5', core => 1,
		what => 'duplicate with its answer (idem_call)', against => 'ON CONFLICT DO UPDATE … RETURNING',
		kind => 'wire', clients => [ 1, 8 ], before => $old_keys,
		a => [ [ pg => $call_old ] ],
		b => [ [ pg => q{INSERT INTO answered (source, seq, claimed_at) VALUES ('bench', :old, clock_timestamp())
			ON CONFLICT (source, seq) DO UPDATE SET claimed_at = answered.claimed_at RETURNING response} ] ],
		floor => 3, goal => 20,
	},
	{
		id => 'P6', core => 1,
		what => 'batch of 1,000 first claims', against => 'one INSERT … SELECT FROM unnest … ON CONFLICT DO NOTHING',
		with => 'ascending keys',
		kind => 'batch', fresh => 'idem.claim, bare', n => 1_000,
		a => q{SELECT count(*) FILTER (WHERE claimed) INTO done FROM idem_claim_batch('bench', ks)},
		b => q{INSERT INTO bare SELECT 'bench', k, clock_timestamp() FROM unnest(ks) AS k ON CONFLICT DO NOTHING;
			GET DIAGNOSTICS done = ROW_COUNT},
		floor => 1.0, goal => 1.6, count => {},
	},
	{
		id => 'P6', core => 1,
		what => 'batch of 1,000 first claims', against => 'the same with RETURNING, which says which were new',
		with => 'ascending keys',
		kind => 'batch', fresh => 'idem.claim, bare', n => 1_000,
		a => q{SELECT count(*) FILTER (WHERE claimed) INTO done FROM idem_claim_batch('bench', ks)},
		b => q{WITH new AS (INSERT INTO bare SELECT 'bench', k, clock_timestamp() FROM unnest(ks) AS k ON CONFLICT DO NOTHING RETURNING seq)
			SELECT count(seq) INTO done FROM new},
		floor => 1.0, goal => 1.6, count => {},
	},
	{
		id => 'P6', core => 1,
		what => 'batch of 1,000 first claims', against => 'one INSERT … SELECT FROM unnest … ON CONFLICT DO NOTHING',
		with => 'random keys (UUID)', keys => 'random_keys',
		kind => 'batch', fresh => 'idem.claim, bare', n => 1_000,
		a => q{SELECT count(*) FILTER (WHERE claimed) INTO done FROM idem_claim_batch('bench', ks)},
		b => q{INSERT INTO bare SELECT 'bench', k, clock_timestamp() FROM unnest(ks) AS k ON CONFLICT DO NOTHING;
			GET DIAGNOSTICS done = ROW_COUNT},
		floor => 1.0, goal => 1.6, count => {},
	},
	{
		id => 'P7', core => 1, lower => 1,
		what => 'WAL bytes of a first claim and its commit', against => 'the bare INSERT into a table with the same columns',
		kind => 'wal', fresh => 'idem.claim, same', n => 1_000,
		a => q{done := idem_claim('bench', k)},
		b => q{INSERT INTO same (source, seq, owner, status, fence, claimed_at)
			VALUES ('bench', k, 'postgres', 'd', 0, clock_timestamp()) ON CONFLICT DO NOTHING; done := FOUND},
		floor => 1.0, goal => 0.8,
	},
	{
		id => 'P7', core => 1, lower => 1,
		what => 'WAL bytes of a first claim and its commit', against => 'the bare INSERT into a table of source, seq and time',
		kind => 'wal', fresh => 'idem.claim, bare', n => 1_000,
		a => q{done := idem_claim('bench', k)},
		b => $bare_loop,
	},
	{
		id => 'P8', core => 1,
		what => 'claim + work + answer (idem_call)', against => 'transaction of four statements by hand',
		kind => 'wire', clients => [ 1, 8, 32 ], fresh => 'idem.claim, answered, work',
		a => [ [ pg => $call ] ],
		# BEGIN goes along with the first statement, as good drivers do it: four round trips
		b => [
			[ begin => q{INSERT INTO answered (source, seq, claimed_at) VALUES ('bench', :key, clock_timestamp()) ON CONFLICT DO NOTHING}, '#1' ],
			[ pg => q{INSERT INTO work (subject, at) VALUES (:key, clock_timestamp()) RETURNING json_build_object('id', id)} ],
			[ pg => q{UPDATE answered SET response = :last WHERE source = 'bench' AND seq = :key}, '#1' ],
			[ pg => 'COMMIT' ],
		],
		floor => 1.5, goal => 3,
		count => {
			a => q{done := idem_call('bench', k, 'bench.do_work', jsonb_build_object('subject', k)) IS NOT NULL},
			b => q{DECLARE
				answer json;
			BEGIN
				INSERT INTO answered (source, seq, claimed_at) VALUES ('bench', k, clock_timestamp()) ON CONFLICT DO NOTHING;
				INSERT INTO work (subject, at) VALUES (k, clock_timestamp()) RETURNING json_build_object('id', id) INTO answer;
				UPDATE answered SET response = answer WHERE source = 'bench' AND seq = k;
				done := FOUND;
			END}
		},
	},
	{
		id => 'P9', core => 1, needs => 'redis',
		what => 'claim + work, one statement', against => 'Redis SET NX (appendfsync always), then the work in PostgreSQL',
		kind => 'wire', clients => [ 1, 8, 32 ], fresh => 'idem.claim, work',
		a => [ [ pg => $claim_work, '#1' ] ],
		b => [ [ redis => 'SET claim:bench:{key} 1 NX EX 86400', '+OK' ], [ pg => $work, '#1' ] ],
		floor => 1.2, goal => 2,
	},
	{
		id => 'P10', core => 1, lower => 1,
		what => 'first claim, many keys in the table', against => 'first claim, 10,000 keys in the table',
		with => 'ascending keys',
		kind => 'large', n => 1_000,
		a => q{done := idem_claim('bench', k)},
		floor => 1.5, goal => 1.15,
	},
	{
		id => 'P10', core => 1, lower => 1,
		what => 'first claim, many keys in the table', against => 'first claim, 10,000 keys in the table',
		with => 'random keys (UUID)', keys => 'random_keys',
		kind => 'large', n => 1_000,
		a => q{done := idem_claim('random', k)},
		floor => 1.5, goal => 1.15,
	},
	{
		id => 'P10', lower => 1,
		what => 'bare INSERT, many keys in the table', against => 'bare INSERT, 10,000 keys in the table',
		with => 'random keys (UUID)', keys => 'random_keys',
		kind => 'large', n => 1_000,
		a => q{INSERT INTO bare VALUES ('random', k, clock_timestamp()) ON CONFLICT DO NOTHING; done := FOUND},
	},
	{
		id => 'P11', core => 1, lower => 1,
		what => 'memory of a million claims in one transaction', against => 'a million bare INSERTs from PL/pgSQL',
		kind => 'memory', n => 1_000_000, fresh => 'idem.claim, bare',
		a => q{done := idem_claim('bench', k)},
		b => $bare_loop,
		floor => 8_000_000, goal => 1_000_000,
	},
	{
		id => 'P12', core => 1,
		what => 'reserve of a hot item, 16 buckets', against => 'conditional UPDATE of its one row, with a journal',
		kind => 'wire', clients => [ 32 ], fresh => 'idem.hold, journal', before => 'VACUUM idem.stock, plain_stock',
		a => [ [ pg => q{SELECT idem_stock_reserve('bench', :key, 'hot', 1)}, 't' ] ],
		b => [ [ pg => $plain_sale, '#1' ] ],
		floor => 4, goal => 8,
	},
	{
		id => 'P13', core => 1,
		what => 'trigger idem_version', against => 'the same in PL/pgSQL',
		kind => 'trigger', n => 200,
		fresh => 'version_idem, version_plpgsql',
		rows => q{INSERT INTO version_idem SELECT i FROM generate_series(1, %d) AS i; INSERT INTO version_plpgsql TABLE version_idem},
		a => q{UPDATE version_idem SET pad = 'y'},
		b => q{UPDATE version_plpgsql SET pad = 'y'},
		floor => 2.5, goal => 4,
	},
	{
		id => 'P13', core => 1,
		what => 'trigger idem_state', against => 'PL/pgSQL with the transitions in its code',
		kind => 'trigger', n => 200,
		fresh => 'state_idem, state_code',
		rows => q{INSERT INTO state_idem SELECT i, 'created' FROM generate_series(1, %d) AS i; INSERT INTO state_code TABLE state_idem},
		a => q{UPDATE state_idem SET status = 'paid'},
		b => q{UPDATE state_code SET status = 'paid'},
		floor => 2.5, goal => 4,
	},
	{
		id => 'P13', core => 1,
		what => 'trigger idem_state', against => 'PL/pgSQL with the transitions in a table',
		kind => 'trigger', n => 200,
		fresh => 'state_idem, state_table',
		rows => q{INSERT INTO state_idem SELECT i, 'created' FROM generate_series(1, %d) AS i; INSERT INTO state_table TABLE state_idem},
		a => q{UPDATE state_idem SET status = 'paid'},
		b => q{UPDATE state_table SET status = 'paid'},
		floor => 2.5, goal => 4,
	},

	{
		id => 'policy', core => 1,
		what => 'first claim under a policy with key_time', against => 'the same of a source without a policy',
		kind => 'loop', fresh => 'idem.claim', n => 2_000, keys => 'time_keys', before => q{SELECT idem_policy('timed', '1 day', 'unix')},
		a => q{done := idem_claim('timed', k)},
		b => q{done := idem_claim('bench', k)},
		floor => 0.96, goal => 0.98, count => {},
	},
	{
		id => 'P14', core => 1,
		what => 'idem_purge', against => 'DELETE of ranges of blocks, with a commit after 10,000 rows',
		kind => 'purge',
		a => q{CALL idem_purge('%d days')},
		b => q{CALL purge_blocks('%d days', 10000)},
		floor => 0.8, goal => 1.1,
	},
	{
		id => 'P14', core => 1,
		what => 'idem_purge by a policy', against => 'DELETE of ranges of blocks, with a commit after 10,000 rows',
		kind => 'purge',
		a => q{DO $$ BEGIN PERFORM idem_policy('random', '%1$d days'); COMMIT; CALL idem_purge(); PERFORM idem_policy_drop('random'); END $$},
		b => q{CALL purge_blocks('%d days', 10000)},
		floor => 0.8, goal => 1.1,
	},

	# tokens
	{
		id => 'token', core => 1,
		what => 'issue a token', against => 'INSERT of a token into a table',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'form_token',
		a => [ [ pg => q{SELECT idem_token_issue('form', :key)} ] ],
		b => $token_table,
		goal => 3,
	},
	{
		id => 'token', core => 1,
		what => 'issue and consume a token', against => 'INSERT, DELETE … RETURNING',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'form_token, idem.token_spent',
		a => [ [ pg => q{SELECT idem_token_issue('form', :key)} ], [ pg => q{SELECT idem_token_consume(:last, 'form', :key)}, 't' ] ],
		b => [
			@$token_table,
			[ pg => q{DELETE FROM form_token WHERE token = :last::uuid AND purpose = 'form' AND subject = :key
				AND expires_at > clock_timestamp() RETURNING 'consumed'}, 'consumed' ],
		],
	},
	{
		id => 'token', core => 1, needs => 'redis',
		what => 'issue, and consume with the work', against => 'Redis SET EX, DEL (appendfsync always), then the work in PostgreSQL',
		kind => 'wire', clients => [ 1, 8, 32 ], fresh => 'idem.token_spent, work',
		a => [
			[ pg => q{SELECT idem_token_issue('form', :key)} ],
			[ pg => q{INSERT INTO work (subject, at) SELECT :key::text, clock_timestamp() WHERE idem_token_consume(:last, 'form', :key)}, '#1' ],
		],
		b => [
			[ redis => 'SET form:{key}:{uuid} 1 EX 900', '+OK' ],
			[ redis => 'DEL form:{key}:{uuid}', ':1' ],
			[ pg => $work, '#1' ],
		],
		goal => 1.3,
	},

	# stock
	{
		id => 'stock', core => 1,
		what => 'reserve of a hot item, 16 buckets', against => 'conditional UPDATE of its one row, with a journal',
		kind => 'wire', clients => [ 16 ], fresh => 'idem.hold, journal', before => 'VACUUM idem.stock, plain_stock',
		a => [ [ pg => q{SELECT idem_stock_reserve('bench', :key, 'hot', 1)}, 't' ] ],
		b => [ [ pg => $plain_sale, '#1' ] ],
		floor => 4, goal => 8,
	},
	{
		id => 'stock', core => 1,
		what => 'reserve of a hot item, one bucket', against => 'conditional UPDATE of its one row, with a journal',
		kind => 'wire', clients => [ 16 ], fresh => 'idem.hold, journal', before => 'VACUUM idem.stock, plain_stock',
		a => [ [ pg => q{SELECT idem_stock_reserve('bench', :key, 'one', 1)}, 't' ] ],
		b => [ [ pg => $plain_sale, '#1' ] ],
		goal => 0.9,
	},
	{
		id => 'stock', core => 1,
		what => 'reserve of what is sold out, 16 buckets', against => 'UPDATE that matches nothing',
		kind => 'wire', clients => [ 16 ], before => 'VACUUM idem.stock, plain_stock',
		a => [ [ pg => q{SELECT idem_stock_reserve('bench', :key, 'none', 1)}, 'f' ] ],
		b => [ [ pg => q{UPDATE plain_stock SET quantity = quantity - 1 WHERE item = 'none' AND quantity >= 1}, '#0' ] ],
		goal => 0.9,
		count => {
			a => q{done := NOT idem_stock_reserve('bench', k, 'none', 1)},
			b => q{UPDATE plain_stock SET quantity = quantity - 1 WHERE item = 'none' AND quantity >= 1; done := NOT FOUND}
		},
	},
	{
		id => 'stock', core => 1,
		what => 'reserve of what is sold out, one bucket', against => 'UPDATE that matches nothing',
		kind => 'wire', clients => [ 16 ], before => 'VACUUM idem.stock, plain_stock',
		a => [ [ pg => q{SELECT idem_stock_reserve('bench', :key, 'none of one', 1)}, 'f' ] ],
		b => [ [ pg => q{UPDATE plain_stock SET quantity = quantity - 1 WHERE item = 'none' AND quantity >= 1}, '#0' ] ],
		goal => 0.9,
		count => {
			a => q{done := NOT idem_stock_reserve('bench', k, 'none of one', 1)},
			b => q{UPDATE plain_stock SET quantity = quantity - 1 WHERE item = 'none' AND quantity >= 1; done := NOT FOUND}
		},
	},
	{
		id => 'stock', core => 1, lower => 1,
		what => 'p99 of reserve beside idem_stock_expire', against => 'p99 of reserve alone',
		kind => 'p99', clients => [ 16 ], n => 100_000,
		a => [ [ pg => q{SELECT idem_stock_reserve('bench', :key, 'hot', 1)}, 't' ] ],
		goal => 2,
	},

	# peers: what else people write or use
	{
		id => 'function',
		what => 'first claim', against => 'PL/pgSQL function with ON CONFLICT DO NOTHING',
		kind => 'loop', fresh => 'idem.claim, bare', n => 2_000,
		a => q{done := idem_claim('bench', k)},
		b => q{done := claim_plpgsql('bench', k)},
	},
	{
		id => 'function',
		what => 'claim + work + answer (idem_call)', against => 'PL/pgSQL function that does it all',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'idem.claim, answered, work',
		a => [ [ pg => $call ] ],
		b => [ [ pg => q{SELECT call_plpgsql('bench', :key, json_build_object('subject', :key::text))} ] ],
	},
	{
		id => 'exception',
		what => 'first claim', against => 'PL/pgSQL with an exception block',
		kind => 'loop', fresh => 'idem.claim, bare', n => 2_000,
		a => q{done := idem_claim('bench', k)},
		b => q{done := claim_exception('bench', k)},
	},
	{
		id => 'exception',
		what => 'duplicate', against => 'PL/pgSQL with an exception block',
		kind => 'wire', clients => [ 8 ], before => $old_keys,
		a => [ [ pg => q{SELECT idem_claim('bench', :old)}, 'f' ] ],
		b => [ [ pg => q{SELECT claim_exception('bench', :old)}, 'f' ] ],
	},
	{
		id => 'cte',
		what => 'first claim', against => 'insert-then-select in one CTE',
		kind => 'loop', fresh => 'idem.claim, answered', n => 2_000,
		a => q{done := idem_claim('bench', k)},
		b => q{WITH new AS (INSERT INTO answered (source, seq, claimed_at) VALUES ('bench', k, clock_timestamp()) ON CONFLICT DO NOTHING RETURNING response)
			SELECT true INTO done FROM new UNION ALL SELECT false FROM answered WHERE source = 'bench' AND seq = k LIMIT 1},
	},
	{
		id => 'cte',
		what => 'duplicate with its answer (idem_call)', against => 'insert-then-select in one CTE',
		kind => 'wire', clients => [ 8 ], before => $old_keys,
		a => [ [ pg => $call_old ] ],
		b => [ [ pg => q{WITH new AS (INSERT INTO answered (source, seq, claimed_at) VALUES ('bench', :old, clock_timestamp())
				ON CONFLICT DO NOTHING RETURNING response)
			SELECT response FROM new UNION ALL SELECT response FROM answered WHERE source = 'bench' AND seq = :old LIMIT 1} ] ],
	},
	{
		id => 'upsert',
		what => 'first claim', against => 'ON CONFLICT DO UPDATE … RETURNING',
		kind => 'loop', fresh => 'idem.claim, bare', n => 2_000,
		a => q{done := idem_claim('bench', k)},
		b => q{INSERT INTO bare VALUES ('bench', k, clock_timestamp())
			ON CONFLICT (source, seq) DO UPDATE SET claimed_at = bare.claimed_at RETURNING true INTO done},
	},
	{
		id => 'brandur',
		what => 'attempt: idem_begin, then work + idem_complete', against => 'idempotency_keys with recovery points, as brandur.org has it',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'idem.claim, idempotency_keys, work',
		a => [
			[ pg => q{SELECT fence FROM idem_begin('bench', :key, request => jsonb_build_object('subject', :key::text))}, '1' ],
			[ pg => q{WITH w AS (INSERT INTO work (subject, at) VALUES (:key, clock_timestamp()) RETURNING id)
				SELECT idem_complete('bench', :key, :last::bigint, json_build_object('id', id)) FROM w}, 't' ],
		],
		b => [
			[ pg => q{INSERT INTO idempotency_keys (idempotency_key, locked_at, request_method, request_params, request_path, recovery_point, user_id)
				VALUES (:key, now(), 'POST', jsonb_build_object('subject', :key::text), '/work', 'started', 1)
				ON CONFLICT (user_id, idempotency_key) DO NOTHING RETURNING id} ],
			[ pg => q{WITH w AS (INSERT INTO work (subject, at) VALUES (:key, clock_timestamp()) RETURNING id)
				UPDATE idempotency_keys AS k SET locked_at = NULL, recovery_point = 'finished', response_code = 201,
					response_body = jsonb_build_object('id', w.id)
				FROM w WHERE k.id = :last::bigint}, '#1' ],
		],
	},
	{
		id => 'advisory',
		what => 'idem_lock, idem_unlock', against => 'pg_try_advisory_lock, pg_advisory_unlock',
		with => 'which writes nothing, and ends with its session',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'idem.lock',
		a => [ [ pg => q{SELECT idem_lock('lock ' || :key)}, '1' ], [ pg => q{SELECT idem_unlock('lock ' || :key, :last::bigint)}, 't' ] ],
		b => [ [ pg => q{SELECT pg_try_advisory_lock(hashtextextended(:key, 0))}, 't' ], [ pg => q{SELECT pg_advisory_unlock(hashtextextended(:key, 0))}, 't' ] ],
	},
	{
		id => 'advisory',
		what => 'first claim', against => 'advisory lock, then SELECT and INSERT in one transaction',
		kind => 'wire', clients => [ 8 ], fresh => 'idem.claim, bare',
		a => [ [ pg => q{SELECT idem_claim('bench', :key)}, 't' ] ],
		b => [
			[ begin => q{SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))} ],
			[ pg => q{INSERT INTO bare SELECT 'bench', :key::text, clock_timestamp()
				WHERE NOT EXISTS (SELECT FROM bare WHERE source = 'bench' AND seq = :key)}, '#1' ],
			[ pg => 'COMMIT' ],
		],
	},
	{
		id => 'redis', needs => 'redis',
		what => 'first claim', against => 'Redis SET NX (appendfsync always), and no work',
		with => 'a claim that the work does not commit with',
		kind => 'wire', clients => [ 1, 8, 32 ], fresh => 'idem.claim',
		a => [ [ pg => q{SELECT idem_claim('bench', :key)}, 't' ] ],
		b => [ [ redis => 'SET claim:bench:{key} 1 NX EX 86400', '+OK' ] ],
	},
	{
		id => 'etcd', needs => 'etcd',
		what => 'idem_lock, work + idem_lock_check, idem_unlock', against => 'etcd lock (one lease for each client), work in PostgreSQL, unlock',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'idem.lock, work',
		a => [
			[ pg => q{SELECT idem_lock('lock ' || :key)}, '1' ],
			[ pg => q{WITH held AS MATERIALIZED (SELECT idem_lock_check('lock ' || :key, :last::bigint))
				INSERT INTO work (subject, at) SELECT :key::text, clock_timestamp() FROM held RETURNING :last} ],
			[ pg => q{SELECT idem_unlock('lock ' || :key, :last::bigint)}, 't' ],
		],
		b => [
			[ etcd => '/v3/lease/grant {"TTL":3600}', undef, 'session' ],
			[ etcd => '/v3/lock/lock {"name":"{b64key}","lease":"{session}"}' ],
			[ pg => $work, '#1' ],
			[ etcd => '/v3/lock/unlock {"key":"{last}"}' ],
		],
	},
	{
		id => 'row',
		what => 'idem_deduct', against => 'conditional UPDATE from PL/pgSQL',
		kind => 'loop', n => 2_000, keys => 'keys', before => 'VACUUM deduct_idem, deduct_plain', old => 1,
		a => q{done := idem_deduct('deduct_idem', 'stock', 1, k::bigint)},
		b => q{UPDATE deduct_plain SET stock = stock - 1 WHERE id = k::bigint AND stock >= 1; done := FOUND},
	},
];
