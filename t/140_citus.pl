# idem on a Citus cluster of one coordinator and two workers, where the server has Citus; otherwise skipped.
#
#   PG_CONFIG=/where/citus/is/installed/bin/pg_config script/test tap t/140_citus.pl
#
# idem_distribute; every function of the extension on every node, alone and in a block, as superuser and as an ordinary role; rivals on
# different nodes; metadata that another node has changed; the caller's own tables; what would come of delegating. Nodes that come and go,
# dumps and updates: t/139. Under load and faults: t/149.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use CitusCluster;
use IdemTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

has_citus();
my @nodes = citus_cluster(2, 'citus.shard_count = 8', "shared_preload_libraries = 'citus, idem'", 'track_functions = all');
my $c = $nodes[0];
$c->safe_psql('postgres', 'CREATE EXTENSION idem');
$c->safe_psql('postgres', <<'SQL');
CREATE ROLE idem_app LOGIN;
CREATE ROLE idem_other LOGIN;
CREATE ROLE idem_group NOLOGIN;
GRANT idem_group TO idem_app;
CREATE ROLE idem_admin LOGIN;
CREATE ROLE idem_old NOLOGIN;
CREATE ROLE idem_new NOLOGIN;
GRANT idem_old, idem_new, pg_monitor TO idem_admin;
GRANT idem_old TO idem_app;
SQL

# super(SQL): on the coordinator, without error.
sub super { return $c->safe_psql('postgres', @_); }

#
# idem_distribute
#
super(q{SELECT idem_claim('before', '1'), idem_stock_add('before', 3), idem_lock('before'), idem_token_rekey()});
my $token = super(q{SELECT idem_token_issue('before')});
is(answer($c, 'SELECT idem_distribute()', 'idem_app'), 'ERROR 42501', 'idem_distribute is for administrators');
$nodes[1]->safe_psql('postgres', q{SELECT idem_claim('own', '1')});
my (undef, undef, $err) = $c->psql('postgres', 'SELECT idem_distribute()');
like($err, qr/table "idem.claim" cannot be distributed\nDETAIL: +It has rows of its own.*:${\$nodes[1]->port}/, 'refused while a worker has rows of its own');
is(super('SELECT count(*) FROM pg_dist_partition'), 0, 'and nothing was done');
$nodes[1]->safe_psql('postgres', q{SELECT idem_forget('own', '1')});
my $second = sprintf q{'%s', %d}, $nodes[2]->host, $nodes[2]->port;
super("SELECT citus_disable_node($second, synchronous => true)");
(undef, undef, $err) = $c->psql('postgres', 'SELECT idem_distribute()');
like($err, qr/table "idem.claim" cannot be distributed\nDETAIL: +It has rows of its own, or cannot be read, on .*:${\$nodes[2]->port};/, 'refused while a worker is disabled, which nobody can ask');
super("SELECT citus_activate_node($second)");
is(answer($c, 'BEGIN; SELECT idem_distribute(); ROLLBACK'), 't', 'distributed, and rolled back');
is(answer($c, 'SELECT idem_distribute()'), 't', 'distributed');
is(answer($_, 'SELECT idem_distribute()'), 'f', 'again: it is so already, on ' . $_->name) for @nodes;
is(super(q{SELECT string_agg(logicalrelid::regclass || ' ' || coalesce(column_to_column_name(logicalrelid, partkey), 'reference'), ', ' ORDER BY logicalrelid::regclass::text) FROM pg_dist_partition}),
	'idem.claim source, idem.hold source, idem.lock name, idem.policy reference, idem.stock item, idem.token_key reference, idem.token_rate purpose, idem.token_spent nonce, idem.transition reference',
	'by the column that statements name');
is(super(q{SELECT bool_and(pg_relation_size(logicalrelid) = 0) FROM pg_dist_partition}), 't', 'no copy is left behind on the coordinator');
is(super(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'idem'::regnamespace AND relkind = 'r' AND oid NOT IN (SELECT logicalrelid FROM pg_dist_partition)}), 0, 'every table of idem is distributed');
is(answer($_, q{SELECT idem_claim('before', '1'), idem_stock_available('before'), idem_lock('before')}), 'f|3|', 'what was there before is known on ' . $_->name) for @nodes;
is(answer($nodes[2], "SELECT idem_token_consume('$token', 'before')"), 't', 'a token of before is good on a worker, once');
is(answer($nodes[1], "SELECT idem_token_consume('$token', 'before')"), 'f', 'and not on the other');

#
# Every function, on every node, alone and in a block, as a superuser and as an ordinary role. K is the run's own key.
#
super(<<'SQL');
CREATE TABLE work (source text NOT NULL, seq text NOT NULL, PRIMARY KEY (source, seq));
SELECT create_distributed_table('work', 'source');
CREATE TABLE prod (id text PRIMARY KEY, n integer, status text);
SELECT create_distributed_table('prod', 'id');
CREATE TABLE num (id integer PRIMARY KEY, n integer, status text);
SELECT create_distributed_table('num', 'id');
GRANT ALL ON work, prod, num TO idem_app;
CREATE FUNCTION place(r json) RETURNS json LANGUAGE plpgsql AS $$ BEGIN INSERT INTO work VALUES (r ->> 'source', r ->> 'seq'); RETURN r; END $$;
SELECT idem_machine('paper', 'made -> read -> filed');
SELECT idem_policy('kept', '30 days');
SQL

is(super(q{SELECT count(*) FROM pg_dist_partition WHERE logicalrelid IN ('work'::regclass, 'prod'::regclass) AND colocationid IN (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid::regclass::text LIKE 'idem.%')}),
	0, 'no table of the application is co-located with those of idem by default');

my @verbs = (
	[ q{SELECT idem_claim('w', 'K')}, 't' ],
	[ q{SELECT idem_claim('w', 'K')}, 'f' ],
	[ q{SELECT idem_claim('w K', 42, '{"a": 1}'), idem_claim('w K', '42')}, 't|f' ],
	[ q{SELECT idem_respond('w', 'K', '{"a":  1}'), idem_response('w', 'K')}, 't|{"a":  1}' ],
	[ q{SELECT status, owner FROM idem_lookup('w', 'K')}, 'done|ROLE' ],
	[ q{SELECT seq, claimed FROM idem_claim_batch('w', ARRAY['K b', 'K', 'K a', 'K b'])}, "K b|t\nK|f\nK a|t\nK b|f" ],
	[ q{SELECT idem_call('w', 'K call', 'place', '{"source":"K","seq":"1"}')}, '{"seq": "1", "source": "K"}' ],
	[ q{SELECT replayed, response FROM idem_handle('w', 'K call', 'place', '{"source":"K","seq":"1"}')}, 't|{"seq": "1", "source": "K"}' ],
	[ q{SELECT count(*) FROM work WHERE source = 'K'}, '1' ],
	[ q{SELECT idem_cancel('w', 'K cancel'), idem_claim('w', 'K cancel')}, 'cancelled|f' ],
	[ q{SELECT status, fence FROM idem_begin('K', 'att', '1 hour')}, 'granted|1' ],
	[ q{SELECT status, fence FROM idem_begin('K', 'att')}, 'running|1' ],
	[ q{SELECT idem_renew('K', 'att', 1, '1 hour') > now()}, 't' ],
	[ q{SELECT seq, status, fence FROM idem_begin_batch('K', ARRAY['2', '1', 'att'], '1 hour')}, "2|granted|1\n1|granted|1\natt|running|1" ],
	[ q{SELECT idem_complete('K', 'att', 1, '{}'), idem_fail('K', '2', 1)}, 't|t' ],
	[ q{SELECT seq, status FROM idem_unsettled('K', 10) ORDER BY seq}, "1|running\n2|open" ],
	[ q{SELECT idem_lock('K', '1 hour'), idem_lock('K')}, '1|' ],
	[ q{SELECT idem_lock_renew('K', 1, '1 hour'), idem_lock_check('K', 1)}, 't|' ],
	[ q{SELECT held, fence, owner FROM idem_lock_lookup('K')}, 't|1|ROLE' ],
	[ q{SELECT idem_unlock('K', 1), idem_unlock('K', 1), idem_lock('K', '1 hour')}, 't|f|2' ],
	[ q{SELECT idem_token_consume(idem_token_issue('form', 'K'), 'form', 'K')}, 't' ],
	[ q{SELECT length(idem_token_issue('form', 'K', max_issues => 1))}, '88' ],
	[ q{SELECT length(idem_token_rotate(idem_token_issue('form'), 'form')), idem_token_status(idem_token_issue('form'), 'form')}, '88|live' ],
	[ q{SELECT inserted, (stored).n FROM idem_insert(ROW('K', 5, 'made')::prod)}, 't|5' ],
	[ q{SELECT inserted, (stored).n FROM idem_insert(ROW('K', 6, 'made')::prod)}, 'f|5' ],
	[ q{SELECT idem_deduct('prod', 'n', 3, 'K'), idem_deduct('prod', 'n', 3, 'K'), idem_lock_row('prod', 'K')}, 't|f|t' ],
	[ q{SELECT idem_advance('paper', 'prod', 'status', 'read', 'K'), idem_advance('paper', 'prod', 'status', 'made', 'K')}, 't|f' ],
	[ q{SELECT n, status FROM prod WHERE id = 'K'}, '2|read' ],
	[ q{SELECT inserted FROM idem_insert(ROW(hashtext('K'), 5, 'made')::num)}, 't' ],
	[ q{SELECT idem_deduct('num', 'n', 1, hashtext('K')), idem_lock_row('num', hashtext('K')), idem_advance('paper', 'num', 'status', 'read', hashtext('K'))}, 't|t|t' ],
	[ q{SELECT idem_deduct('prod', 'n', 1, VARIADIC ARRAY['K']), idem_lock_row('prod', VARIADIC ARRAY['K']), idem_advance('paper', 'prod', 'status', 'filed', VARIADIC ARRAY['K'])}, 't|t|t' ],
	[ q{CREATE TEMP TABLE doc (id text, version bigint, made bigint, status text)}, '' ],
	[ q{CREATE TRIGGER v BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version')}, '' ],
	[ q{CREATE TRIGGER n BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_newer('made')}, '' ],
	[ q{CREATE TRIGGER s BEFORE INSERT OR UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_state('paper', 'status')}, '' ],
	[ q{INSERT INTO doc VALUES ('K', 1, 5, 'made')}, '' ],
	[ q{UPDATE doc SET made = 4, status = 'read' RETURNING id}, '' ],
	[ q{UPDATE doc SET made = 6, status = 'read' RETURNING version, status}, '2|read' ],
	[ q{SELECT idem_verdict('paper', 'made', 'filed'), idem_machine_graph('paper') ~ 'made --> read'}, 'ahead|t' ],
	[ q{SELECT idem_retention('kept')}, '30 days' ],
	[ q{SELECT idem_stock_reserve('K', '1', 'tea K', 3), idem_stock_reserve('K', '1', 'tea K', 3), idem_stock_available('tea K')}, 't|t|97' ],
	[ q{SELECT idem_stock_reserve_items('K', '2', ARRAY['tea K', 'cup K'], ARRAY[1, 2]::numeric[])}, 't' ],
	[ q{SELECT idem_stock_amend('K', '2', 'cup K', 5), idem_stock_available('cup K')}, 't|95' ],
	[ q{SELECT item, quantity, status FROM idem_stock_lookup('K', '2') ORDER BY item}, "cup K|5|held\ntea K|1|held" ],
	[ q{SELECT idem_stock_renew('K', '2', '1 hour') > now(), idem_stock_confirm('K', '2'), idem_stock_confirm('K', '2')}, 't|t|f' ],
	[ q{SELECT idem_stock_release('K', '1'), idem_stock_available('tea K')}, 't|99' ]);

# for administrators: for a superuser, and for an ordinary role to which they have been granted
my @administration = (
	[ q{SELECT 1 FROM idem_policy('K', '30 days')}, '1' ],
	[ q{SELECT idem_retention('K'), idem_policy_drop('K')}, '30 days|t' ],
	[ q{SELECT idem_claim('K', 'forgotten'), idem_forget('K', 'forgotten'), idem_claim('K', 'forgotten')}, 't|t|t' ],
	[ q{SELECT idem_lock('K broken', '1 hour'), idem_lock_break('K broken'), idem_lock('K broken')}, '1|t|2' ],
	[ q{SET role idem_old}, '' ],
	[ q{SELECT idem_claim('K', 'moved'), idem_lock('K moved'), idem_stock_reserve('K', 'moved', 'tea K', 1)}, 't|1|t' ],
	[ q{RESET role}, '' ],
	[ q{SELECT idem_reassign('idem_old', 'idem_new')}, '3' ],
	[ q{SELECT c.owner, l.owner FROM idem_lookup('K', 'moved') c, idem_lock_lookup('K moved') l}, 'idem_new|idem_new' ],
	[ q{SELECT 1 FROM idem_machine('machine K', 'a -> b')}, '1' ],
	[ q{SELECT idem_verdict('machine K', 'a', 'b')}, 'apply' ],
	[ q{SELECT 1 FROM idem_token_rekey()}, '1' ],
	[ q{SELECT idem_stock_add('cake K', 5), idem_stock_remove('cake K', 2), idem_stock_available('cake K')}, '5|t|3' ],
	[ q{SELECT count(*) >= 0 FROM idem_stat}, 't' ],
	[ q{SELECT count(*) >= 0 FROM idem_stat_run}, 't' ],
	[ q{SELECT 1 FROM idem_stat_reset()}, '1' ],
	[ q{SELECT idem_distribute()}, 'f' ]);

# functions of the extension, by the catalog, that were not called to their end on a node since the counts were reset
sub not_called
{
	my ($node) = @_;

	return $node->safe_psql('postgres', <<'SQL');
SELECT string_agg(objid::regprocedure::text, ', ' ORDER BY objid) FROM pg_depend LEFT JOIN pg_stat_user_functions ON funcid = objid
WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idem') AND refclassid = 'pg_extension'::regclass AND classid = 'pg_proc'::regclass AND calls IS NULL
SQL
}

# each statement of a list and its answer, for one run
sub verbs_match
{
	my ($node, $role, $block, $key, $what, @list) = @_;
	my $name = $role // $ENV{PGUSER};
	my ($sql, $expected) = ('', '');

	super("SELECT idem_stock_add('tea $key', 100, 4), idem_stock_add('cup $key', 100)");
	foreach my $verb (@list)
	{
		my ($statement, $answer) = @$verb;

		s/\bK\b/$key/g, s/\bROLE\b/$name/g for $statement, $answer;
		$sql .= "$statement;\n";
		$expected .= "$answer\n" if $answer ne '';
	}
	chomp $expected;
	is(answer($node, $block ? "BEGIN;\n${sql}COMMIT;\n" : $sql, $role), $expected, sprintf '%d statements %s', scalar @list, $what);
	return;
}

# what may be granted on a function of an extension goes to no other node by itself
my $grant = <<'SQL';
SET citus.enable_ddl_propagation = off;
SELECT format('GRANT EXECUTE ON ROUTINE %s TO idem_admin', objid::regprocedure) FROM pg_depend
WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idem') AND refclassid = 'pg_extension'::regclass AND classid = 'pg_proc'::regclass \gexec
SQL
my $runs = 0;
foreach my $role (undef, 'idem_app')
{
	my $admin = $role ? 'idem_admin' : undef;

	foreach my $node (@nodes)
	{
		my $where = join ' ', 'on', $node->name, 'as', $role ? 'an ordinary role' : 'superuser';

		$node->safe_psql('postgres', $grant) if $role;
		$node->safe_psql('postgres', 'SELECT pg_stat_reset()');
		foreach my $block (0, 1)
		{
			my $key = 'k' . ++$runs;
			my $how = $block ? "$where, in a block" : $where;

			verbs_match($node, $role, $block, $key, $how, @verbs);
			verbs_match($node, $admin, $block, "a$key", "of administration $how", @administration);
		}
		is(answer($node, q{CALL idem_purge('1 day'); CALL idem_stock_expire()}, $admin), '', "the procedures $where");
		is(not_called($node), '', "no function of the extension was not called $where");
	}
}
foreach my $node (@nodes)
{
	my $denied = join ' ', map { answer($node, $_, 'idem_other') } q{SELECT idem_policy('w', '1 day')}, q{SELECT idem_policy_drop('w')}, q{SELECT idem_forget('w', 'k1')},
		q{SELECT idem_lock_break('k1')}, q{SELECT idem_reassign('idem_app', 'idem_other')}, q{SELECT idem_machine('m', 'a -> b')}, q{SELECT idem_token_rekey()},
		q{SELECT idem_stock_add('i', 1)}, q{SELECT idem_stock_remove('i', 1)}, q{SELECT * FROM idem_stat}, q{SELECT idem_stat_reset()}, q{SELECT idem_distribute()}, q{CALL idem_purge()};
	is($denied, join(' ', ('ERROR 42501') x 13), 'what is for administrators is denied to others on ' . $node->name);
	is(answer($node, q{SELECT idem_forget('w', 'k1')}, 'idem_admin'), 'ERROR 42501', 'and does not reach what belongs to others, granted');
	$node->safe_psql('postgres', q{SELECT idem_stat_reset(); SELECT idem_claim('counted', '} . $node->name . q{'), idem_claim('counted', '} . $node->name . q{')});
	is(answer($node, q{SELECT outcome, count FROM idem_stat WHERE source = 'counted' ORDER BY 1}, 'idem_admin'), "duplicate|1\nfirst|1", 'counters are those of one node');
}
is(answer($_, "SET ROLE idem_group; SELECT idem_claim('group', '" . $_->name . "'); SELECT owner FROM idem_lookup('group', '" . $_->name . "')", 'idem_app'), "t\nidem_group", 'as a role that may not log in, on ' . $_->name) for @nodes;
is(answer($nodes[2], q{SELECT idem_claim('w', 'k3')}, 'idem_other'), 'ERROR 42501', 'what another role recorded on another node');
is(answer($nodes[1], q{BEGIN; SELECT idem_claim('gone', '1'); ROLLBACK; SELECT idem_claim('gone', '1')}), "t\nt", 'a claim that was rolled back is free');
is(answer($nodes[1], q{BEGIN; SAVEPOINT s; SELECT idem_claim('gone', '2'); ROLLBACK TO s; SELECT idem_claim('gone', '2'); COMMIT; SELECT idem_claim('gone', '2')}), "t\nt\nf", 'also to a savepoint');
is(answer($_, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT idem_claim('ser', '$_'), idem_claim('ser', '$_'); COMMIT"), 't|f', 'serializable on ' . $_->name) for @nodes;

# for administrators
is(answer($nodes[1], q{SELECT idem_policy_drop('kept')}), 't', 'a policy is dropped on a worker');
is(answer($c, q{SELECT idem_retention('kept')}), '', 'the coordinator knows of the policy');
$_->safe_psql('postgres', 'SET citus.enable_ddl_propagation = off; GRANT EXECUTE ON PROCEDURE idem_purge TO idem_app') for @nodes;
super(q{SELECT count(*) FROM generate_series(1, 300) g, idem_claim('old', g)});
super(q{SELECT idem_stock_add('due', 100)});
foreach my $n (0 .. 2)
{
	my $name = $nodes[$n]->name;

	super(sprintf q{UPDATE idem.claim SET claimed_at = '2020-01-01', completed_at = NULL WHERE source = 'old' AND seq::integer %% 3 = %d}, $n);
	is(answer($nodes[$n], q{CALL idem_purge('1 day', 50)}, 'idem_app'), '', "idem_purge on $name");
	is(super(q{SELECT count(*) FROM idem.claim WHERE source = 'old'}), 200 - 100 * $n, 'and what is old is gone');
	super(sprintf q{SELECT count(*) FROM generate_series(1, 20) g, idem_stock_reserve('due', '%d ' || g, 'due', 2, '1 millisecond')}, $n);
	is(answer($nodes[$n], q{CALL idem_stock_expire(7)}, 'idem_app'), '', "idem_stock_expire on $name");
	is(super(q{SELECT idem_stock_available('due')}), 100, 'and what was due is back');
}

#
# Rivals on different nodes
#
my %session = map { ($_->name => IdemTest::Session->new($_, user => 'idem_app')) } @nodes;
my ($one, $two, $three) = @session{qw(worker1 worker2 coordinator)};
$one->ask('BEGIN');
is($one->ask(q{SELECT idem_claim('rival', '1'), idem_lock('rival')}), 't|1', 'a claim in a transaction on one node');
foreach my $rival ($two, $three)
{
	my $asked = time;

	is($rival->ask(q{SELECT idem_claim('rival', '1', wait => false)}), 'ERROR ID409', 'wait => false on another does not wait');
	is($rival->ask(q{SELECT idem_lock('rival')}), '', 'nor does a lock');
	is($rival->ask(q{SELECT seq, claimed, status FROM idem_claim_batch('rival', ARRAY['1'], wait => false)}), '1|f|busy', 'nor a batch');
	cmp_ok(time - $asked, '<', 60, 'which the rival would never have let go');
}
$two->tell(q{SELECT idem_claim('rival', '1')});
$three->tell(q{SELECT idem_claim('rival', '1')});
usleep(300_000);
$one->ask('ROLLBACK');
is(join('', sort $two->answer, $three->answer), 'ft', 'it rolls back: one of two who wait has it');
$one->ask(q{BEGIN; SELECT idem_claim('rival', '2')});
$two->tell(q{SELECT idem_claim('rival', '2')});
usleep(300_000);
$one->ask('COMMIT');
is($two->answer, 'f', 'it commits: who waits has it not');
$one->ask(q{BEGIN; SELECT idem_claim('circle', '1')});
$two->ask(q{BEGIN; SELECT idem_claim('circle', '2')});
$one->tell(q{SELECT idem_claim('circle', '2')});
$two->tell(q{SELECT idem_claim('circle', '1')});
is(join(' ', sort $one->answer, $two->answer), 'ERROR 40P01 t', 'a circle over two nodes is found, and one goes on');
$_->ask('ROLLBACK') for $one, $two;

$one->ask(q{SET role idem_old; BEGIN; SELECT idem_claim('moves', '1')});
my $reassigns = IdemTest::Session->new($nodes[2], user => 'idem_admin');
$reassigns->tell(q{SELECT idem_reassign('idem_old', 'idem_new')});
usleep(300_000);
$one->ask('COMMIT; RESET role');
is($reassigns->answer, '1', 'idem_reassign waits for who writes on another node, and has what was written');
is($reassigns->ask(q{SELECT owner FROM idem_lookup('moves', '1')}), 'idem_new', 'with its new owner');
$reassigns->end;

my @storms = map {
	my $file = PostgreSQL::Test::Utils::tempdir() . '/storm' . $_->name;
	append_to_file($file, "\\set n random(1, 300)\nBEGIN;\nSELECT idem_claim('storm', :n) AS won \\gset\n\\if :won\nINSERT INTO work VALUES ('storm ' || pg_backend_pid() || ' ' || clock_timestamp(), :n);\n\\endif\nCOMMIT;\n");
	[ 'pgbench', '-n', '-c', 4, '-t', 100, '-h', $_->host, '-p', $_->port, '-U', 'idem_app', '-f', $file, 'postgres' ]
} @nodes;
my @running = map { IPC::Run::start($_, '<', \undef, '>', '/dev/null', '2>', '/dev/null') } @storms;
is(scalar(grep { $_->finish } @running), 3, '12 clients on three nodes, 1200 claims of 300 keys, none failed');
my $storm = super(q{SELECT count(*) || ' ' || count(DISTINCT seq) FROM work WHERE source LIKE 'storm %'});
is($storm, join(' ', (super(q{SELECT count(*) FROM idem.claim WHERE source = 'storm'})) x 2), "won, distinct: $storm");

#
# Metadata: what one node changes the others know at their next call
#
is($one->ask(q{SELECT idem_verdict('paper', 'made', 'filed')}), 'ahead', 'a machine on a worker');
super(q{SELECT idem_machine('paper', 'made -> filed')});
is($one->ask(q{SELECT idem_verdict('paper', 'made', 'filed')}), 'apply', 'is another one when the coordinator has changed it');
is($two->ask(q{SELECT idem_claim('dated', '20200101')}), 't', 'a key without a policy');
super(q{SELECT idem_policy('dated', '30 days', 'date')});
is($two->ask(q{SELECT idem_claim('dated', '20200102')}), 'ERROR ID410', 'and with one that the coordinator made');
$token = $one->ask(q{SELECT idem_token_issue('keys')});
super('SELECT idem_token_rekey()');
is($two->ask("SELECT idem_token_status('$token', 'keys')"), 'live', 'a token of before a rekey');
$token = $two->ask(q{SELECT idem_token_issue('keys')});
is($one->ask("SELECT idem_token_consume('$token', 'keys')"), 't', 'and one of after it');
$_->end for values %session;

#
# The caller's own tables
#
super(<<'SQL');
CREATE TABLE near (source text COLLATE "C" NOT NULL, seq text NOT NULL, PRIMARY KEY (source, seq));
SELECT create_distributed_table('near', 'source', colocate_with => 'idem.claim');
CREATE TABLE here (source text, seq text);
GRANT ALL ON near, here TO idem_app;
CREATE FUNCTION work_near(source text, seq text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF idem_claim(source, seq) THEN
		INSERT INTO near VALUES (source, seq);
		PERFORM idem_respond(source, seq, '{}');
		RETURN true;
	END IF;
	RETURN false;
END $$;
SELECT create_distributed_function('work_near(text, text)', 'source', colocate_with => 'idem.claim');
SQL
foreach my $table ('work', 'here')
{
	is(answer($c, "BEGIN; SELECT idem_claim('mine', '$table'); INSERT INTO $table VALUES ('mine', '$table'); COMMIT", 'idem_app'), 't', "claim and work in a block: table $table");
}
is(answer($c, q{BEGIN; SELECT idem_claim('mine', 'near'); INSERT INTO near VALUES ('mine', 'near'); COMMIT}, 'idem_app'), 'ERROR 25001', 'a co-located table: refused to a role that is not the owner of idem');
is(answer($c, q{BEGIN; SELECT idem_claim('mine', 'near'); INSERT INTO near VALUES ('mine', 'near'); COMMIT}), 't', 'but not to the owner');
is(answer($_, "SELECT work_near('mine', '" . $_->name . "'); SELECT work_near('mine', '" . $_->name . "')", $_ == $c ? 'idem_app' : undef), "t\nf", 'in a function that is delegated, from ' . $_->name) for @nodes;
like(answer($c, q{CREATE TRIGGER v BEFORE UPDATE ON prod FOR EACH ROW EXECUTE FUNCTION idem_version('n')}), qr/^ERROR /, 'triggers are not for distributed tables');
is(answer($c, q{BEGIN; SELECT idem_claim('2pc', '1'); PREPARE TRANSACTION 'idem'}), 'ERROR 0A000', 'PREPARE TRANSACTION is refused');

# our own functions, if somebody delegates them all the same: the same answers for a role that may log in
super(sprintf q{SELECT create_distributed_function(p.oid::regprocedure, 'source', colocate_with => 'idem.claim') FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND proname = ANY (ARRAY[%s]) AND proargnames[1] = 'source'},
	join ',', map { "'idem_$_'" } qw(claim lookup respond response begin begin_batch claim_batch complete fail renew cancel));
super(q{SELECT idem_machine('paper', 'made -> read -> filed'), idem_policy('kept', '30 days')});
verbs_match($c, 'idem_app', $_, 'd' . $_, 'delegated' . ($_ ? ', in a block' : ''), @verbs) for 0, 1;

# but not for every role and session, which is why idem_distribute delegates none
is(answer($c, q{SET ROLE idem_group; SELECT idem_claim('group', 'delegated')}, 'idem_app'), 'ERROR 08006', 'delegated: a role that may not log in is refused');
is(answer($_, q{SET default_transaction_read_only = on; SELECT idem_claim('read only', 'delegated')}), $_ == $c ? 't' : 'ERROR 25006', 'a session that is read only writes if it is delegated: ' . $_->name) for @nodes[ 1, 0 ];

# a dump of the coordinator, restored elsewhere, has every key
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->append_conf('postgresql.conf', "shared_preload_libraries = 'citus'\n");
$plain->start;
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
command_ok([ 'pg_dump', '--data-only', '-t', 'idem.*', '-d', $c->connstr('postgres'), '-f', $dump ], 'pg_dump on the coordinator');
$plain->safe_psql('postgres', 'CREATE EXTENSION idem');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $plain->connstr('postgres'), '-f', $dump ], 'restored into a single server');
is($plain->safe_psql('postgres', q{SELECT count(*) FROM idem.claim}), super(q{SELECT count(*) FROM idem.claim}), 'with every key');
$plain->stop;

note 'versions: ' . super(q{SELECT citus_version()}) . '; ' . super('SELECT version()');
$_->stop for @nodes;
done_testing();
