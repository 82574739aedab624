# Pins the counters of idem_stat where one session does not show them: when they count (prepared, rolled back, waiting, cut off),
# of whom (two databases, thousands of sources), and what becomes of them (a crash, a standby, DROP and CREATE EXTENSION under
# load, a server that has no room for them). Before PostgreSQL 17 the server must have idem in shared_preload_libraries.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('stat');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'idem'
max_connections = 100
max_prepared_transactions = 10
restart_after_crash = on
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION idem; CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION idem');

# counted(KIND, SOURCE, OUTCOME, DATABASE): how often.
sub counted
{
	my ($kind, $source, $outcome, $database) = @_;

	return $node->safe_psql($database // 'postgres',
		"SELECT coalesce(sum(count), 0) FROM idem_stat WHERE kind = '$kind' AND source "
		  . (defined $source ? "= '$source'" : 'IS NULL')
		  . (defined $outcome ? " AND outcome = '$outcome'" : ''));
}

# what is prepared counts, once, whatever becomes of it
$node->safe_psql('postgres', q(BEGIN; SELECT idem_claim('prepared', '1'); PREPARE TRANSACTION 'p'));
is(counted('claim', 'prepared', 'first'), 1, 'counted when it is prepared');
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
is(counted('claim', 'prepared', 'first'), 1, '… and not again at COMMIT PREPARED');

# a connection that is cut off takes with it what it has not committed
my $a = IdemTest::Session->new($node);
$a->ask(q(BEGIN; SELECT idem_claim('cut', '1')));
$node->safe_psql('postgres', "SELECT pg_terminate_backend($a->{pid}, 10000)");
is(counted('claim', 'cut'), 0, 'a session that is terminated has counted nothing');
$a->end;

# waits, on both routes: of the second of two, with its outcome
foreach my $route ('off', 'on')
{
	my ($first, $second) = (IdemTest::Session->new($node), IdemTest::Session->new($node));
	my $source = "wait $route";

	$_->ask("SET idem.force_sql = $route") foreach $first, $second;
	$first->ask("BEGIN; SELECT idem_claim('$source', '1')");
	$second->tell("BEGIN; SELECT idem_claim('$source', '1')");
	$second->waits($node);
	usleep(300_000);
	$first->ask('COMMIT');
	is($second->answer, 'f', "force_sql $route: the second is a duplicate");
	is($node->safe_psql('postgres', "SELECT outcome, count, waits, wait_seconds BETWEEN 0.25 AND 60 FROM idem_stat WHERE source = '$source' ORDER BY 1"),
		"duplicate|0|1|t\nfirst|1|0|f", '… its wait counts at once, its answer not yet');
	$second->ask('COMMIT');
	is(counted('claim', $source, 'duplicate'), 1, '… now it does');

	# who is told so by lock_timeout has no outcome; who did not want to wait is busy
	$first->ask("BEGIN; SELECT idem_claim('$source', '2')");
	is($second->ask("SET lock_timeout = '100ms'; SELECT idem_claim('$source', '2')"), 'ERROR 55P03', '… lock_timeout');
	is($second->ask("SELECT idem_claim('$source', '2', wait => false)"), 'ERROR ID409', '… busy');
	is($node->safe_psql('postgres', "SELECT outcome, count, waits FROM idem_stat WHERE source = '$source' ORDER BY 1"),
		"busy|1|0\nduplicate|1|1\nfirst|1|0\n|0|1", '… and both count at once');
	$first->ask('ROLLBACK');

	# an answer that a savepoint takes back leaves its wait
	$first->ask("BEGIN; SELECT idem_claim('$source', '3')");
	$second->tell("RESET lock_timeout; BEGIN; SAVEPOINT s; SELECT idem_claim('$source', '3')");
	$second->waits($node);
	$first->ask('ROLLBACK');
	is($second->answer, 't', '… waited, and was first');
	$second->ask('ROLLBACK TO s; COMMIT');
	is($node->safe_psql('postgres', "SELECT count, waits FROM idem_stat WHERE source = '$source' AND outcome = 'first'"),
		'1|1', '… and took it back');
	$_->end foreach $first, $second;
}

# one database does not see the other
$node->safe_psql('other', q(SELECT count(idem_claim('prepared', s::text)) FROM generate_series(1, 7) s));
is(counted('claim', 'prepared', 'first'), 1, 'two databases with a source of the same name: one');
is(counted('claim', 'prepared', 'first', 'other'), 7, '… and the other');
$node->safe_psql('postgres', 'SELECT idem_stat_reset()');
is(counted('claim', 'prepared', 'first'), 0, 'what is reset in one');
is(counted('claim', 'prepared', 'first', 'other'), 7, '… is there in the other');
is($node->safe_psql('other', "SELECT count(*) FROM idem_stat WHERE source LIKE 'wait%'"), 0, 'no source of the one is seen in the other');

# a thousand sources, the n-th of which claims n times: the busiest 200 by themselves, the rest in a sum
$node->safe_psql('postgres', q(SELECT count(idem_claim('source ' || n, i::text)) FROM generate_series(1, 1000) n, generate_series(1, n) i));
is( $node->safe_psql('postgres', q(SELECT count(*), bool_and(count = split_part(source, ' ', 2)::integer), min(count) FROM idem_stat WHERE source IS NOT NULL)),
	'200|t|801', '1,000 sources: the busiest 200, each with its own');
is(counted('claim', undef, 'first'), 800 * 801 / 2, '… and the sum of the others');

# more than there is room for: the sum is right whatever is where, and what is busy stays
my $clients = clients($node, 8, 25, <<'SQL');
SELECT count(idem_claim('many ' || :client_id || ' ' || n, gen_random_uuid()::text)) FROM generate_series(1, 50) n;
SELECT count(idem_claim('many busy ' || :client_id, gen_random_uuid()::text)) FROM generate_series(1, 2000) n;
SQL
$node->safe_psql('postgres', <<'SQL');
DO $$
BEGIN
	FOR n IN 1 .. 9000 LOOP
		PERFORM idem_claim('one more ' || n, '1');
		COMMIT;
	END LOOP;
END $$
SQL
is($node->safe_psql('postgres', 'SELECT sum(count) FROM idem_stat'), 1000 * 1001 / 2 + 8 * 25 * 2050 + 9000, '10,400 sources: the sum is right');
is($node->safe_psql('postgres', q(SELECT string_agg(count::text, ' ') FROM idem_stat WHERE source LIKE 'many busy%')),
	join(' ', (50_000) x 8), '… and the busy ones have their own');
is(counted('claim', 'prepared', 'first', 'other'), 7, '… and so has the other database');

# memory of the session: many sources in one transaction
my $memory = IdemTest::Session->new($node);
$memory->ask(q(SELECT count(idem_claim('memory', s::text)) FROM generate_series(1, 100) s; BEGIN));
$memory->ask(q(SELECT count(idem_claim('memory ' || s, '1')) FROM generate_series(1, 5000) s));
my $before = $memory->ask(q(SELECT total_bytes FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext'));
$memory->ask(q(SELECT count(idem_claim('memory ' || s, '2')) FROM generate_series(1, 20000) s));
my $after = $memory->ask(q(SELECT total_bytes FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext'));
cmp_ok($after - $before, '<', 100_000, 'a transaction of 20,000 more sources takes no more memory');
my $sum = $node->safe_psql('postgres', 'SELECT sum(count) FROM idem_stat');
$memory->ask('COMMIT');
is($node->safe_psql('postgres', "SELECT sum(count) - $sum FROM idem_stat"), 25_000, '… and counts them all');
$memory->end;

# a standby counts for itself
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('stat_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', 'SELECT count(*) FROM idem_stat'), 0, 'a standby has counted nothing yet');
$standby->safe_psql('postgres', q(SELECT idem_token_issue('standby')));
is($standby->safe_psql('postgres', 'SELECT kind, outcome, count FROM idem_stat'), 'token|issued|1', '… but what it can do');
is(sqlstate($standby, q(SELECT idem_claim('standby', '1'))), '25006', '… which is not claiming');
$standby->safe_psql('postgres', 'SELECT idem_stat_reset()');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM idem_stat'), 0, '… and is reset by itself');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM idem_stat'), '>', 0, '… alone');
$standby->stop;

# a crash empties it, and says since when
my $since = $node->safe_psql('postgres', 'SELECT DISTINCT stats_since FROM idem_stat');
my $victim = IdemTest::Session->new($node);
kill 'KILL', $victim->{pid};
$victim->end;
# the place of a killed backend is free only after the restart
$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $victim->{pid})") or die 'no restart';
is($node->safe_psql('postgres', 'SELECT count(*) FROM idem_stat'), 0, 'empty after a crash');
$node->safe_psql('postgres', q(SELECT idem_claim('after', '1')));
is($node->safe_psql('postgres', "SELECT outcome, count, stats_since > '$since' FROM idem_stat WHERE source = 'after'"), 'first|1|t', '… and counts from then on');

# DROP and CREATE EXTENSION while everybody claims keys of their own: what is counted is what is there
my @crowd = map { IdemTest::Session->new($node) } 1 .. 6;
foreach my $round (1 .. 3)
{
	foreach my $n (0 .. $#crowd)
	{
		$crowd[$n]->tell(join ";\n", map { "SELECT idem_claim('crowd', '$round $n $_')" } 1 .. 150);
	}
	usleep(50_000);
	$node->safe_psql('postgres', 'DROP EXTENSION idem');
	usleep(20_000);
	$node->safe_psql('postgres', 'CREATE EXTENSION idem');
	$_->answer foreach @crowd;
	is($node->safe_psql('postgres', q(SELECT (SELECT coalesce(sum(count), 0) FROM idem_stat WHERE kind = 'claim' AND outcome = 'first') - (SELECT count(*) FROM idem.claim))),
		0, "DROP and CREATE EXTENSION under load: counted is what is there ($round)");
}
$_->end foreach @crowd;

# a database that is no more; then a server without preload
$node->safe_psql('postgres', 'DROP DATABASE other');
$node->safe_psql('postgres', 'SELECT idem_stat_reset()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM idem_stat'), 0, 'reset with a database that is no more');

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$node->safe_psql('postgres', q(SELECT idem_claim('without', '1')));
my (undef, $out, $err) = $node->psql('postgres', 'TABLE idem_stat; TABLE idem_stat_run');
if ($node->pg_version >= 17)
{
	like($out, qr/^claim\|without\|first\|1\|/, 'counted without preload');

	# no room for the counters: the work goes on, and who asks is told
	my $segments = $node->data_dir . '/pg_dynshmem';
	$node->append_conf('postgresql.conf', 'dynamic_shared_memory_type = mmap');
	$node->restart;
	chmod 0500, $segments or die "$segments: $!";
	(undef, $out, $err) = $node->psql('postgres', q(SELECT idem_claim('no room', '1'), idem_claim('no room', '2'); TABLE idem_stat));
	is($out, 't|t', 'claimed without room for counters');
	is(() = $err =~ /WARNING: +idem counts nothing in this session\n.*DETAIL: .*\S\n.*HINT: /g, 1, '… a session is warned once');
	like($err, qr/NOTICE: +idem counts nothing in this session/, '… and idem_stat says why it is empty');
	is($node->psql('postgres', q(CALL idem_purge('1000 days'); CALL idem_stock_expire())), 0, '… procedures run, too');
	is($node->safe_psql('postgres', q(SELECT count(*) FROM idem.claim WHERE source = 'no room')), 2, '… and the claims are there');
	chmod 0700, $segments or die "$segments: $!";
}
else
{
	is($out, '', 'empty without preload');
	is(() = $err =~ /NOTICE: +idem counts nothing on this server/g, 2, '… and says so');
}

$node->stop;
done_testing();
