# A Citus cluster over its life, where the server has Citus, as doc/scaling.md says it is to be done: a node is added, gets its share and
# works; a node is emptied and removed; ALTER EXTENSION UPDATE reaches every node and every shard; what pg_dump has of the coordinator is restored
# into a single server and into another cluster. Each time every key is known, none is done twice. t/140 says how to run it.
#
# The version 1.0.1 exists here alone.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use CitusCluster;
use CopiedServer;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

has_citus();
my ($installed, $extensions) = copied_server();
my @conf = ({ install_path => $installed }, 'citus.shard_count = 2');
my @nodes = citus_cluster(1, @conf);
my $c = $nodes[0];
my $roles = 'CREATE ROLE idem_app LOGIN; CREATE ROLE idem_group NOLOGIN; GRANT idem_group TO idem_app';
my $grant = 'SET citus.enable_ddl_propagation = off; GRANT EXECUTE ON PROCEDURE idem_purge TO idem_app';

# super(SQL): on the coordinator, without error.
sub super { return $c->safe_psql('postgres', @_); }

# everything that is recorded; but for keys of tokens: where the extension is created, there is a new one
sub records
{
	my ($node) = @_;

	return $node->safe_psql('postgres', join ';', map { "SELECT '$_', count(*), sum(hashtextextended(source || ' ' || seq || ' ' || owner, 0)::numeric) FROM idem.$_" } qw(claim hold)) . "\n" .
		$node->safe_psql('postgres', 'SELECT * FROM idem.policy ORDER BY source; SELECT * FROM idem.transition ORDER BY machine, position; SELECT * FROM idem.lock ORDER BY name; SELECT item, sum(quantity) FROM idem.stock GROUP BY item ORDER BY item; SELECT * FROM idem.token_spent ORDER BY nonce');
}

# what was recorded at the beginning is known on a node, and something new there is known on all
my $token;
my $probes = 0;
sub knows
{
	my ($node, $what, @all) = @_;
	my $key = 'probe ' . ++$probes;

	is(answer($node, q{SELECT count(*) FILTER (WHERE idem_claim('first', g)) FROM generate_series(1, 40) g; SELECT idem_retention('kept'), idem_verdict('paper', 'made', 'filed'), idem_stock_available('tea'), idem_lock('shop'), idem_token_status('} . $token . q{', 'form'); SELECT owner FROM idem_lookup('first', 1)}, 'idem_app'),
		"0\n30 days|ahead|7||live\nidem_app", "$what: everything is known on " . $node->name);
	is(answer($node, "SELECT idem_claim('probe', '$key'), idem_respond('probe', '$key', '[1]')", 'idem_app'), 't|t', '… a new key is claimed');
	is(join(' ', map { answer($_, "SELECT idem_claim('probe', '$key'), idem_response('probe', '$key')", 'idem_app') } @all), join(' ', ('f|[1]') x @all), '… which is known on every node');
	return;
}

sub rejected
{
	my ($node, $sql, $why, $what) = @_;
	my (undef, undef, $err) = $node->psql('postgres', $sql);

	return like($err, $why, $what);
}

sub shards
{
	my ($table) = @_;

	return super("SELECT string_agg(n::text, ' ' ORDER BY nodeport) FROM (SELECT nodeport, count(*) AS n FROM pg_dist_shard JOIN pg_dist_shard_placement USING (shardid) WHERE logicalrelid = '$table'::regclass GROUP BY nodeport) s");
}

super($roles);
super('CREATE EXTENSION idem');
super('SELECT idem_distribute()');
super(<<'SQL');
CREATE TABLE work (source text, seq integer);
SELECT create_distributed_table('work', 'source', colocate_with => 'none');
GRANT ALL ON work TO idem_app;
SELECT idem_policy('kept', '30 days'), idem_machine('paper', 'made -> read -> filed'), idem_stock_add('tea', 10);
SELECT count(*) FROM generate_series(1, 40) g, idem_claim('far ' || g, 'x');
SET ROLE idem_app;
SELECT count(*) FROM generate_series(1, 40) g, idem_claim('first', g);
SELECT idem_lock('shop', '1 day'), idem_stock_reserve('order', '1', 'tea', 3), idem_token_consume(idem_token_issue('form'), 'form');
SQL
$token = super(q{SELECT idem_token_issue('form', ttl => '1 day')});
$_->safe_psql('postgres', $grant) for @nodes;

#
# A node is added
#
my $new = citus_node('worker2', @conf);
my $add = sprintf q{SELECT citus_add_node('%s', %d)}, $new->host, $new->port;
rename "$extensions/idem.control", "$extensions/idem.not_here" or die $!;
rejected($c, $add, qr/extension "idem" is not available/, 'a node without the files of idem is refused');
rename "$extensions/idem.not_here", "$extensions/idem.control" or die $!;
super($add);
push @nodes, $new;
is($new->safe_psql('postgres', q{SELECT count(*) FROM pg_extension WHERE extname = 'idem'; SELECT count(*) FROM pg_roles WHERE rolname IN ('idem_app', 'idem_group')}), "1\n2", 'the extension and the roles are there');
knows($new, 'a node has been added', @nodes);
is(answer($new, q{CALL idem_purge('1 day')}, 'idem_app'), 'ERROR 42501', 'but not what was granted on functions');
$new->safe_psql('postgres', $grant);
is(answer($new, q{CALL idem_purge('1 day')}, 'idem_app'), '', 'until it is granted there, too');

# rebalanced while clients of all nodes claim the same keys
my @storms = map {
	my $file = PostgreSQL::Test::Utils::tempdir() . '/storm' . $_->name;
	append_to_file($file, "\\set n random(1, 200)\nBEGIN;\nSELECT idem_claim('storm ' || :n % 8, :n) AS won \\gset\n\\if :won\nINSERT INTO work VALUES ('storm', :n);\n\\endif\nCOMMIT;\n");
	[ 'pgbench', '-n', '-c', 2, '-t', 100, '-h', $_->host, '-p', $_->port, '-U', 'idem_app', '-f', $file, 'postgres' ]
} @nodes;
my @running = map { IPC::Run::start($_, '<', \undef, '>', '/dev/null', '2>', '/dev/null') } @storms;
is(shards('idem.claim'), '3', 'nothing has moved by itself');
super(q{SELECT rebalance_table_shards(shard_transfer_mode => 'block_writes')});
is(scalar(grep { $_->finish } @running), 3, '600 claims of 200 keys by clients on three nodes meanwhile, none failed');
is(super(q{SELECT count(*) = count(DISTINCT seq) AND count(*) > 100 FROM work}), 't', 'none was won twice');
is(super(q{SELECT count(*) FROM work FULL JOIN (SELECT seq::integer FROM idem.claim WHERE source LIKE 'storm %') c USING (seq) WHERE work.source IS NULL OR c.seq IS NULL}), 0, 'and won is what is recorded');
is(join(', ', map { join ' ', sort split / /, shards("idem.$_") } qw(claim hold lock stock token_spent token_rate)), '1 2, 1 2, 1 2, 1 2, 1 2, 1 2', 'after rebalance_table_shards each worker has its share');
is(join(', ', map { shards("idem.$_") } qw(policy transition token_key)), '1 1 1, 1 1 1, 1 1 1', 'and every node a copy of the reference tables');
is(super('SELECT idem_distribute()'), 'f', 'idem_distribute has nothing to do');
knows($_, 'rebalanced', @nodes) for @nodes;

#
# ALTER EXTENSION UPDATE
#
sub script
{
	my ($version, $text) = @_;

	append_to_file("$extensions/idem--1.0--$version.sql", $text);
	return;
}
script('1.0.9', "ALTER TABLE idem.claim ADD COLUMN note pg_catalog.text;\nCREATE INDEX claim_note ON idem.claim (note);\n");
script('1.0.1', <<'SQL');
CREATE FUNCTION @extschema@.idem_more() RETURNS pg_catalog.int4 LANGUAGE sql AS 'SELECT 1';
DO $$ BEGIN EXECUTE 'ALTER TABLE idem.claim ADD COLUMN IF NOT EXISTS note pg_catalog.text'; END $$;
DO $$ BEGIN EXECUTE 'CREATE INDEX IF NOT EXISTS claim_note ON idem.claim (note)'; END $$;
CREATE TABLE idem.more (name pg_catalog.text COLLATE pg_catalog."C" PRIMARY KEY);
SQL
my $records = records($c);
rejected($c, q{ALTER EXTENSION idem UPDATE TO '1.0.9'}, qr/cannot insert multiple commands/, 'an update that changes a table as on a single server is refused');
is(join(' ', map { $_->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'idem'}) } @nodes), '1.0 1.0 1.0', 'and has done nothing on any node');
super(q{ALTER EXTENSION idem UPDATE TO '1.0.1'});
is(super('SELECT idem_distribute()'), 'f', 'idem_distribute again, for tables that it knows');
foreach my $node (@nodes)
{
	is($node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'idem'; SELECT idem_more()}), "1.0.1\n1", 'updated: a new function is there on ' . $node->name);
	my $tables = $node == $c ? 1 : "(SELECT 1 + count(*) FROM pg_dist_shard JOIN pg_dist_shard_placement USING (shardid) WHERE logicalrelid = 'idem.claim'::regclass AND nodeport = ${\$node->port})";
	is($node->safe_psql('postgres', "SET citus.override_table_visibility = off; SELECT count(*) = $tables FROM pg_attribute JOIN pg_class c ON c.oid = attrelid AND relkind = 'r' WHERE relname ~ '^claim' AND attname = 'note'; SELECT count(*) = $tables FROM pg_class WHERE relkind = 'i' AND relname ~ '^claim_note'"), "t\nt",
		'a new column and a new index of idem.claim on every shard');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM idem.more}), 0, 'and a new table');
}
is(records($c), $records, 'every record is kept');
knows($_, 'updated', @nodes) for @nodes;

# what is made from now on has the new version
append_to_file("$extensions/idem.control", "default_version = '1.0.1'\n");

#
# A node is removed
#
my $remove = sprintf q{SELECT citus_remove_node('%s', %d)}, $new->host, $new->port;
rejected($c, $remove, qr/cannot remove or disable the node/, 'a node that has shards cannot be removed');
super(sprintf q{SELECT citus_drain_node('%s', %d, 'block_writes')}, $new->host, $new->port);
is(shards('idem.claim'), '3', 'it has been drained');
super($remove);
pop @nodes;
# until it is stopped
is(answer($_, q{SELECT idem_claim('probe', 'late')}), $_ == $new ? 't' : 'f', 'a key claimed on the node that was removed: ' . $_->name) for $new, @nodes;
$new->stop;
knows($_, 'a node has been removed', @nodes) for @nodes;

#
# pg_dump and restore
#
$records = records($c);
my $dir = PostgreSQL::Test::Utils::tempdir();
$c->command_ok([ 'pg_dump', '-d', $c->connstr('postgres'), '-f', "$dir/all.sql" ], 'pg_dump on the coordinator');
$c->command_ok([ 'pg_dump', '-e', 'idem', '-d', $c->connstr('postgres'), '-f', "$dir/plain.sql" ], 'and without the extension citus');
my @copy = make_cluster(map { citus_node($_, @conf) } 'copy', 'copyworker');
$copy[0]->safe_psql('postgres', $roles);
$copy[0]->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $copy[0]->connstr('postgres'), '-f', "$dir/all.sql" ], 'restored into a new cluster');
is($copy[0]->safe_psql('postgres', 'SET client_min_messages = warning; SELECT idem_distribute()'), 't', 'and distributed');
is(records($copy[0]), $records, 'every record is there');
knows($_, 'a new cluster', @copy) for @copy;
$_->stop for @copy;

my $plain = PostgreSQL::Test::Cluster->new('plain', install_path => $installed);
$plain->init;
$plain->start;
$plain->safe_psql('postgres', $roles);
$plain->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $plain->connstr('postgres'), '-f', "$dir/plain.sql" ], 'restored into a single server');
is(records($plain), $records, 'every record is there');
knows($plain, 'a single server', $plain);
$_->stop for $plain, @nodes;
done_testing();
