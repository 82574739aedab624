# idem on a Citus cluster of one coordinator and two workers, where the server has Citus; otherwise skipped.
#
#   PG_CONFIG=/where/citus/is/installed/bin/pg_config script/test tap t/140_citus.pl
#
# idem_distribute; every function on every node, alone and in a block, as superuser and as an ordinary role, and delegated; rivals on
# different nodes; metadata that another node has changed; the caller's own tables; and the load of the fault tests while shards
# move and a worker is killed, judged by their oracle.
# soak: IDEM_FAULT_KILLS=50

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Oracle;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $started = time;
my $kills = $ENV{IDEM_FAULT_KILLS} // 2;
my ($sharedir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--sharedir' ]);

plan skip_all => 'this server has no Citus' unless -e "$sharedir/extension/citus.control";

my @conf = (
	"shared_preload_libraries = 'citus'", 'wal_level = logical', 'max_connections = 150', 'max_prepared_transactions = 150',
	"citus.node_conninfo = 'sslmode=disable'", 'citus.shard_count = 8', 'citus.enable_statistics_collection = off',
	'citus.distributed_deadlock_detection_factor = 2', 'citus.recover_2pc_interval = 1s', 'restart_after_crash = on',
	'deadlock_timeout = 100ms', "log_line_prefix = '%m [%p] %e '", 'log_statement = none', 'autovacuum_naptime = 1',
	'max_worker_processes = 20', 'max_replication_slots = 20', 'max_wal_senders = 20');
my %node = map { ($_ => PostgreSQL::Test::Cluster->new($_)) } qw(coordinator worker1 worker2);
my $c = $node{coordinator};
my @nodes = map { $node{$_} } qw(coordinator worker1 worker2);

foreach my $node (@nodes)
{
	$node->init(allows_streaming => 'logical');
	$node->append_conf('postgresql.conf', join("\n", @conf, "citus.local_hostname = '" . $node->host . "'", ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION citus');
}
$c->safe_psql('postgres', sprintf q{SELECT citus_set_coordinator_host('%s', %d)}, $c->host, $c->port);
$c->safe_psql('postgres', sprintf q{SELECT citus_add_node('%s', %d)}, $_->host, $_->port) for @nodes[ 1, 2 ];
load_tables($c);
$c->safe_psql('postgres', <<'SQL');
CREATE ROLE idem_app LOGIN;
CREATE ROLE idem_other LOGIN;
CREATE ROLE idem_group NOLOGIN;
GRANT idem_group TO idem_app;
SQL

# answer(NODE, SQL, ROLE): what psql prints, or ERROR and the SQLSTATE.
sub answer
{
	my ($node, $sql, $role) = @_;
	my ($out, $err) = ('', '');

	$node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql", stdout => \$out, stderr => \$err, on_error_stop => 0,
		extra_params => $role ? [ '-U', $role ] : []);
	return $err =~ /(?:ERROR|FATAL): +(\w{5})/ ? "ERROR $1" : $out;
}

# answers(NODE, SQL...): of several statements that expect no error, each with its own row or rows.
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
GRANT ALL ON work, prod TO idem_app;
CREATE FUNCTION place(r json) RETURNS json LANGUAGE plpgsql AS $$ BEGIN INSERT INTO work VALUES (r ->> 'source', r ->> 'seq'); RETURN r; END $$;
SELECT idem_machine('paper', 'made -> read -> filed');
SELECT idem_policy('kept', '30 days');
SQL

is(super(q{SELECT count(*) FROM pg_dist_partition WHERE logicalrelid IN ('work'::regclass, 'prod'::regclass) AND colocationid IN (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid::regclass::text LIKE 'idem.%')}),
	0, 'no table of the application is co-located with those of idem by default');

my @verbs = (
	[ q{SELECT idem_claim('w', 'K')}, 't' ],
	[ q{SELECT idem_claim('w', 'K')}, 'f' ],
	[ q{SELECT idem_claim('w', 42, '{"a": 1}')}, undef ],
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
	[ q{SELECT idem_verdict('paper', 'made', 'filed'), idem_machine_graph('paper') ~ 'made --> read'}, 'ahead|t' ],
	[ q{SELECT idem_retention('kept')}, '30 days' ],
	[ q{SELECT idem_stock_reserve('K', '1', 'tea K', 3), idem_stock_reserve('K', '1', 'tea K', 3), idem_stock_available('tea K')}, 't|t|97' ],
	[ q{SELECT idem_stock_reserve_items('K', '2', ARRAY['tea K', 'cup K'], ARRAY[1, 2]::numeric[])}, 't' ],
	[ q{SELECT idem_stock_amend('K', '2', 'cup K', 5), idem_stock_available('cup K')}, 't|95' ],
	[ q{SELECT item, quantity, status FROM idem_stock_lookup('K', '2') ORDER BY item}, "cup K|5|held\ntea K|1|held" ],
	[ q{SELECT idem_stock_renew('K', '2', '1 hour') > now(), idem_stock_confirm('K', '2'), idem_stock_confirm('K', '2')}, 't|t|f' ],
	[ q{SELECT idem_stock_release('K', '1'), idem_stock_available('tea K')}, 't|99' ]);

# but for triggers, which are not for distributed tables, and the procedure, which is run below
is(super(sprintf q{SELECT string_agg(DISTINCT proname, ', ') FROM pg_depend JOIN pg_proc p ON objid = p.oid AND classid = 'pg_proc'::regclass
	WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idem') AND refclassid = 'pg_extension'::regclass AND has_function_privilege('idem_other', p.oid, 'EXECUTE')
	AND prorettype <> 'trigger'::regtype AND prokind = 'f' AND proname <> ALL (string_to_array('%s', ' '))}, join ' ', map { $_->[0] =~ /\b(idem_\w+)\(/g } @verbs),
	'', 'no function for everybody is left out');

# each verb's statement and answer for one run
sub verbs_match
{
	my ($node, $role, $block, $key, $what) = @_;
	my $name = $role // $ENV{PGUSER};
	my ($sql, $expected) = ('', '');

	super("SELECT idem_stock_add('tea $key', 100, 4), idem_stock_add('cup $key', 100)");
	foreach my $verb (@verbs)
	{
		my ($statement, $answer) = @$verb;

		next unless defined $answer;
		s/\bK\b/$key/g, s/\bROLE\b/$name/g for $statement, $answer;
		$sql .= "$statement;\n";
		$expected .= "$answer\n";
	}
	chomp $expected;
	is(answer($node, $block ? "BEGIN;\n${sql}COMMIT;\n" : $sql, $role), $expected, sprintf '%d statements with every function, %s', scalar @verbs, $what);
	return;
}

my $runs = 0;
foreach my $node (@nodes)
{
	foreach my $role (undef, 'idem_app')
	{
		verbs_match($node, $role, $_, 'k' . ++$runs, join ' ', 'on', $node->name, 'as', $role // 'superuser', $_ ? 'in a block' : 'alone') for 0, 1;
	}
}
is(answer($_, "SET ROLE idem_group; SELECT idem_claim('group', '" . $_->name . "'); SELECT owner FROM idem_lookup('group', '" . $_->name . "')", 'idem_app'), "t\nidem_group", 'as a role that may not log in, on ' . $_->name) for @nodes;
is(answer($nodes[2], q{SELECT idem_claim('w', 'k3')}, 'idem_other'), 'ERROR 42501', 'what another role recorded on another node');
is(answer($nodes[1], q{BEGIN; SELECT idem_claim('gone', '1'); ROLLBACK; SELECT idem_claim('gone', '1')}), "t\nt", 'a claim that was rolled back is free');
is(answer($nodes[1], q{BEGIN; SAVEPOINT s; SELECT idem_claim('gone', '2'); ROLLBACK TO s; SELECT idem_claim('gone', '2'); COMMIT; SELECT idem_claim('gone', '2')}), "t\nt\nf", 'also to a savepoint');
is(answer($_, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT idem_claim('ser', '$_'), idem_claim('ser', '$_'); COMMIT"), 't|f', 'serializable on ' . $_->name) for @nodes;

# for administrators
is(answer($nodes[1], q{SELECT idem_forget('gone', '1'), idem_lock_break('k1'), idem_stock_remove('tea k1', 1), idem_policy_drop('kept')}), 't|t|t|t', 'administrators: forget, lock_break, stock_remove, policy_drop on a worker');
is(answer($c, q{SELECT idem_retention('kept')}), '', 'the coordinator knows of the policy');
# what may be granted on a function of an extension goes to no other node by itself
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
verbs_match($c, 'idem_app', $_, 'd' . $_, 'delegated' . ($_ ? ', in a block' : '')) for 0, 1;

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

#
# Under load: shards move, and a worker is killed
#
$ENV{PGOPTIONS} = '-c citus.enable_ddl_propagation=off';    # the oracle's own tables are for its session
super('DELETE FROM idem.token_spent');
my $load = Load->new($c, tolerate => 'XX000,XX001,55000,58', clients => 8);
$load->{expected} = qr/./;    # a killed worker is in the log
$load->start;
my $moved = 0;
foreach my $shard (split /\n/, super(q{SELECT s.shardid || ' ' || p.groupid FROM pg_dist_shard s JOIN pg_dist_placement p USING (shardid) WHERE logicalrelid = 'idem.claim'::regclass AND p.groupid > 0 ORDER BY 1 LIMIT 2}))
{
	my ($id, $group) = split / /, $shard;
	my ($from, $to) = $group == super(sprintf 'SELECT groupid FROM pg_dist_node WHERE nodeport = %d', $nodes[1]->port) ? @nodes[ 1, 2 ] : @nodes[ 2, 1 ];

	$load->await(100);
	super(sprintf q{SELECT citus_move_shard_placement(%d, '%s', %d, '%s', %d, 'force_logical')}, $id, $from->host, $from->port, $to->host, $to->port);
	$moved++;
}
$load->await(200);
$load->stop;
judged($load, "$moved shards of idem.claim and what is co-located moved under load");

my $killed = 0;
foreach my $n (1 .. $kills)
{
	$load->start;
	$load->await(100);
	crash($nodes[ 1 + $n % 2 ]);
	$killed++;
	$load->await(150);
	$load->stop;
	last if time_is_up();
}
# what was prepared on a worker when it was killed is ended by Citus
super('SELECT recover_prepared_transactions()');
judged($load, "$killed workers killed under load");
figures("$moved shards moved, $killed workers killed", $started);
note 'versions: ' . super(q{SELECT citus_version()}) . '; ' . super('SELECT version()');
$_->stop for @nodes;
done_testing();
