# All that script/bench measures: one entry for each, A (idem) and B (what idem is compared with). bench/run.pl expands an entry
# with several numbers of clients to a row for each, and measures it in pairs; bench/peers.sql has the tables and functions.
# measures-stock.pl has the entries of stock, measures-size.pl those of large tables and long times.
#
#   id      what the issue calls it, or a name; rows are chosen by it
#   what    is done, of A; against: of B; with: the conditions, beside those that the fields below say
#   kind    wire     clients do A, then B, over connections of their own; the rate is compared. Steps that bench/load.c explains:
#                    [kind => text, the answer expected, 'session' if only once], with :key and so on in SQL, {key} elsewhere.
#                    synchronous_commit is on, unless async says else; network: milliseconds that each message is under way;
#                    warm: seconds that A runs before the first pair
#           loop     PL/pgSQL loops over n keys, k, in the server; each has to leave true in done; the rate is compared
#           batch    the same over batches of 1,000 keys, ks, and done is their number
#           wal      as loop, with a commit after each call; the bytes of WAL for each call are compared
#           trigger  the time that EXPLAIN ANALYZE finds in the triggers of a statement over n rows
#           large    as loop, A and B in tables of many keys of a shape, and in tables of 10,000; 'of' is what is compared: each (the
#                    times of A and B among many), lost (the times that they lose by that), more (A among many, and among
#                    10,000), other (the same of B), or wal (bytes for each call after a checkpoint, A and B)
#           memory   bytes that the backend grows by, in one transaction of n calls
#           p99      99th percentile of A while something runs, and alone
#           purge    A and B remove a tenth of so many random keys, those older than 100 days, each from a copy of the same table; 'of' is
#                    what is compared: rate, wal or processor
#           soak     99th percentile of A at a steady rate with a purge every minute, and without
#   floor, goal      of the ratio A / B; lower: the smaller, the better (memory: bytes)
#   fresh   tables that are emptied before every tenth pair (loop, batch, wal), each (trigger, memory) or the first (wire)
#   before  SQL that is run before the first pair; note: SQL that is run after the last, for a remark
#   needs   redis, etcd, or a version of PostgreSQL
#   core    has floors and goals; the others are peers
#   named   takes so long that it runs only if it is asked for
#   count   instructions can be counted, of the loops or of these instead; their floor and goal, of A / B

use strict;
use warnings;
use utf8;

use File::Basename qw(dirname);

# the old keys, with their answers, on both sides
my $old_keys = 'CALL bench.old_keys(10000)';
my $call = q{SELECT idem_call('bench', :key, 'bench.do_work', jsonb_build_object('subject', :key::text))};
my $call_old = q{SELECT idem_call('bench', :old, 'bench.do_work', jsonb_build_object('subject', :old::text))};
my $claim_work = q{INSERT INTO work (subject, at) SELECT :key, clock_timestamp() WHERE (SELECT idem_claim('bench', :key))};
my $work = q{INSERT INTO work (subject, at) VALUES (:key, clock_timestamp())};
my $bare = q{INSERT INTO bare VALUES ('bench', :key, clock_timestamp()) ON CONFLICT DO NOTHING};
my $bare_loop = q{INSERT INTO bare VALUES ('bench', k, clock_timestamp()) ON CONFLICT DO NOTHING; done := FOUND};

my $select_loop = q{SELECT response IS NOT NULL INTO done FROM answered WHERE source = 'bench' AND seq = k};

# the whole of a request, in the loops
my $call_loop = q{done := idem_call('bench', k, 'bench.do_work', jsonb_build_object('subject', k)) IS NOT NULL};
my $function_loop = q{done := call_plpgsql('bench', k, json_build_object('subject', k)) IS NOT NULL};

# BEGIN goes along with the first statement, as good drivers do it: four round trips
my $by_hand = [
	[ begin => q{INSERT INTO answered (source, seq, claimed_at) VALUES ('bench', :key, clock_timestamp()) ON CONFLICT DO NOTHING}, '#1' ],
	[ pg => q{INSERT INTO work (subject, at) VALUES (:key, clock_timestamp()) RETURNING json_build_object('id', id)} ],
	[ pg => q{UPDATE answered SET response = :last WHERE source = 'bench' AND seq = :key}, '#1' ],
	[ pg => 'COMMIT' ],
];

# an attempt, in one transaction or in two, by idem or by hand: granted, or taken over if it has expired; then answered, if it is still ours
sub attempt
{
	my ($by, $between) = @_;
	my ($begin, $complete) = $by eq 'idem'
	  ? (q{SELECT fence INTO f FROM idem_begin('bench', k)}, q{done := idem_complete('bench', k, f, json_build_object('id', f))})
	  : (
		q{INSERT INTO same AS s (source, seq, owner, status, fence, claimed_at, lease_until, unsettled_since)
		VALUES ('bench', k, current_user, 'r', 1, clock_timestamp(), clock_timestamp() + '30 seconds', clock_timestamp())
		ON CONFLICT (seq, source) DO UPDATE SET fence = s.fence + 1, claimed_at = excluded.claimed_at, lease_until = excluded.lease_until,
			unsettled_since = excluded.unsettled_since
		WHERE s.status = 'o' OR s.status = 'r' AND s.lease_until <= clock_timestamp() RETURNING fence INTO f},
		q{UPDATE same SET status = 'd', completed_at = clock_timestamp(), lease_until = NULL, unsettled_since = NULL,
			response = json_build_object('id', f)
		WHERE seq = k AND source = 'bench' AND fence = f AND status = 'r' AND lease_until > clock_timestamp();
	done := FOUND});

	return join "\n\t", 'DECLARE', "\tf bigint;", 'BEGIN', map({ "\t$_;" } $begin, $between // (), $complete), 'END';
}

# a lock as an expert writes it: a fence from a sequence, a lease; whoever holds it deletes it
sub lock_by_hand
{
	my ($name) = @_;

	return [
		[ pg => qq{INSERT INTO lock_by_hand AS l VALUES ($name, nextval('lock_fence'), clock_timestamp() + '30 seconds')
			ON CONFLICT (name) DO UPDATE SET fence = excluded.fence, lease_until = excluded.lease_until
			WHERE l.lease_until <= clock_timestamp() RETURNING fence} ],
		[ pg => qq{DELETE FROM lock_by_hand WHERE name = $name AND fence = :last::bigint}, '#1' ] ];
}
my $own_name = [ pg => 'SELECT gen_random_uuid()', undef, 'session' ];

my $token_table = [ [ pg => q{INSERT INTO form_token (purpose, subject, expires_at)
	VALUES ('form', :key, clock_timestamp() + '15 minutes') RETURNING token} ] ];

# the entries of another file
sub entries
{
	my $file = dirname(__FILE__) . "/$_[0]";

	return @{ do $file or die "$file: " . ($@ || $!) };
}

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
		floor => 1.7, goal => 2.0, count => {},
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
		floor => 0.92, goal => 1.0,
		count => { a => $call_loop, b => $select_loop },
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
		id => 'P5', core => 1, needs => 'PostgreSQL 19',
		what => 'duplicate with its answer (idem_call)', against => 'ON CONFLICT DO SELECT RETURNING, of PostgreSQL 19',
		kind => 'wire', clients => [ 1, 8 ], before => $old_keys,
		a => [ [ pg => $call_old ] ],
		b => [ [ pg => q{INSERT INTO answered (source, seq, claimed_at) VALUES ('bench', :old, clock_timestamp())
			ON CONFLICT (source, seq) DO SELECT RETURNING response} ] ],
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
		id => 'P6r', core => 1,
		what => 'batch of 1,000 first claims', against => 'one INSERT … SELECT FROM unnest … ON CONFLICT DO NOTHING',
		with => 'random keys (UUID)', keys => 'random_keys',
		kind => 'batch', fresh => 'idem.claim, bare', n => 1_000,
		a => q{SELECT count(*) FILTER (WHERE claimed) INTO done FROM idem_claim_batch('bench', ks)},
		b => q{INSERT INTO bare SELECT 'bench', k, clock_timestamp() FROM unnest(ks) AS k ON CONFLICT DO NOTHING;
			GET DIAGNOSTICS done = ROW_COUNT},
		floor => 1.1, goal => 1.3, count => {},
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
		id => 'P7b', core => 1, lower => 1,
		what => 'WAL bytes of claim + work + answer (idem_call) and their commit', against => 'PL/pgSQL function that does it all',
		kind => 'wal', fresh => 'idem.claim, answered, work', n => 1_000,
		a => $call_loop,
		b => $function_loop,
		floor => 1.1, goal => 0.9,
	},
	{
		id => 'P8', core => 1,
		what => 'claim + work + answer (idem_call)', against => 'transaction of four statements by hand',
		kind => 'wire', clients => [ 1, 8, 32 ], fresh => 'idem.claim, answered, work',
		a => [ [ pg => $call ] ],
		b => $by_hand,
		floor => 1.4, goal => 2,
		count => {
			a => $call_loop,
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
		id => 'P8', core => 1, network => 0.5,
		what => 'claim + work + answer (idem_call)', against => 'transaction of four statements by hand',
		kind => 'wire', clients => [ 1, 8, 32 ], fresh => 'idem.claim, answered, work',
		a => [ [ pg => $call ] ],
		b => $by_hand,
		floor => 1.4, goal => 2,
	},
	{
		id => 'P8b', core => 1,
		what => 'claim + work + answer (idem_call)', against => 'PL/pgSQL function that does it all',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'idem.claim, answered, work',
		a => [ [ pg => $call ] ],
		b => [ [ pg => q{SELECT call_plpgsql('bench', :key, json_build_object('subject', :key::text))} ] ],
		floor => 1.0, goal => 1.2,
		count => { a => $call_loop, b => $function_loop, floor => 0.7, goal => 0.62 },
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
		id => 'P11', core => 1, lower => 1,
		what => 'memory of a million claims in one transaction', against => 'a million bare INSERTs from PL/pgSQL',
		kind => 'memory', n => 1_000_000, fresh => 'idem.claim, bare',
		a => q{done := idem_claim('bench', k)},
		b => $bare_loop,
		floor => 8_000_000, goal => 1_000_000,
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
		floor => 0.98, count => {},
	},
	{
		id => 'policy', core => 1,
		what => 'first claim under a policy without key_time', against => 'the same of a source without a policy',
		kind => 'loop', fresh => 'idem.claim', n => 2_000, before => q{SELECT idem_policy('kept', '1 day')},
		a => q{done := idem_claim('kept', k)},
		b => q{done := idem_claim('bench', k)},
		floor => 0.98, count => {},
	},

	# attempts
	{
		id => 'P16', core => 1, lower => 1,
		what => 'WAL bytes of idem_begin, idem_complete and their commits', against => 'INSERT and UPDATE of a table with the same columns, by hand',
		kind => 'wal', fresh => 'idem.claim, same', n => 1_000,
		a => attempt('idem', 'COMMIT'), b => attempt('hand', 'COMMIT'),
		floor => 0.9, goal => 0.85,
	},
	{
		id => 'P16', core => 1,
		what => 'idem_begin and idem_complete', against => 'INSERT and UPDATE of a table with the same columns, by hand',
		kind => 'loop', fresh => 'idem.claim, same', n => 1_000,
		a => attempt('idem'), b => attempt('hand'),
		count => { floor => 0.75, goal => 0.68 },
	},

	# locks
	{
		id => 'locks', core => 1,
		what => 'idem_lock, idem_unlock', against => 'a lock table by hand: INSERT … ON CONFLICT DO UPDATE where expired, DELETE',
		with => 'new names',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'idem.lock, lock_by_hand',
		a => [ [ pg => q{SELECT idem_lock(:key)}, '1' ], [ pg => q{SELECT idem_unlock(:key, :last::bigint)}, 't' ] ],
		b => lock_by_hand(':key'),
		floor => 1.0, goal => 1.3,
	},
	{
		id => 'locks', core => 1,
		what => 'idem_lock, idem_unlock', against => 'a lock table by hand: INSERT … ON CONFLICT DO UPDATE where expired, DELETE',
		with => 'each client the same name again and again',
		kind => 'wire', clients => [ 1, 8 ], fresh => 'idem.lock, lock_by_hand',
		a => [ $own_name, [ pg => q{SELECT idem_lock(:session)} ], [ pg => q{SELECT idem_unlock(:session, :last::bigint)}, 't' ] ],
		b => [ $own_name, @{ lock_by_hand(':session') } ],
		floor => 1.0, goal => 1.3,
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

	entries('measures-stock.pl'),
	entries('measures-size.pl'),

	# peers: what else people write or use
	{
		id => 'function',
		what => 'first claim', against => 'PL/pgSQL function with ON CONFLICT DO NOTHING',
		kind => 'loop', fresh => 'idem.claim, bare', n => 2_000,
		a => q{done := idem_claim('bench', k)},
		b => q{done := claim_plpgsql('bench', k)},
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
