# What idem_stat has counted is what was committed, to the last one: after a load of all primitives in 16 sessions, on both routes,
# whose connections are cut at random, while others roll back all or part of what they do, or prepare it. IDEM_STAT_CUTS: how often.
# soak: IDEM_STAT_CUTS=500

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use Oracle;
use POSIX ();
use Test::More;
use Time::HiRes qw(time usleep);

my $wanted = $ENV{IDEM_STAT_CUTS} // 60;
my $node = load_node('counted', "shared_preload_libraries = 'idem'");
my $load = Load->new($node);
my $started = time;
my $cuts = 0;

# differences(): kinds and sources of which something else was counted than is there.
sub differences
{
	return $node->safe_psql('postgres', <<'SQL');
WITH counted AS (
	SELECT kind, source, outcome, count FROM idem_stat
), there (kind, source, outcome, count) AS (
	SELECT 'claim', source, 'first', count(*) FROM idem.claim WHERE fence = 0 AND status = 'd' GROUP BY 2
	UNION ALL SELECT 'attempt', source, 'granted', sum(fence) FROM idem.claim WHERE fence > 0 GROUP BY 2
	UNION ALL SELECT 'attempt', source, 'completed', count(*) FROM idem.claim WHERE fence > 0 AND status = 'd' GROUP BY 2
	UNION ALL SELECT 'lock', NULL, 'granted', sum(fence) FROM idem.lock
	UNION ALL SELECT 'token', NULL, 'consumed', count(*) FROM idem.token_spent
	UNION ALL SELECT 'stock', source, 'reserved', count(*) FROM idem.hold GROUP BY 2
	UNION ALL SELECT 'stock', source, 'confirmed', count(*) FROM idem.hold WHERE status = 'c' GROUP BY 2
	UNION ALL SELECT 'stock', source, 'released', count(*) FROM idem.hold WHERE status = 'r' GROUP BY 2
)
SELECT coalesce(t.kind, c.kind), coalesce(t.source, c.source), coalesce(t.outcome, c.outcome), c.count AS counted, t.count AS there
FROM there t FULL JOIN (
	SELECT kind, source, CASE outcome WHEN 'taken over' THEN 'granted' ELSE outcome END AS outcome, sum(count) AS count FROM counted
	WHERE outcome IN ('first', 'granted', 'taken over', 'completed', 'consumed', 'reserved', 'confirmed', 'released') GROUP BY 1, 2, 3) c
	ON c.kind = t.kind AND c.source IS NOT DISTINCT FROM t.source AND c.outcome = t.outcome
WHERE t.count IS DISTINCT FROM c.count AND coalesce(t.count, 0) <> coalesce(c.count, 0)
SQL
}

# beside the load: keys that are rolled back, wholly or to a savepoint, and then claimed after all, or prepared
my $beside = <<'SQL';
\set key random(1, 400)
\set way random(1, 5)
BEGIN;
SELECT idem_claim('beside', :key::text);
\if :way = 1
ROLLBACK;
\elif :way = 2
SAVEPOINT a;
SELECT idem_claim('beside', :key || 'a'), count(*) FROM idem_claim_batch('beside batch', ARRAY[:key || 'b', :key || 'c']);
SAVEPOINT b;
SELECT status FROM idem_begin('beside attempt', :key::text, '1 hour');
RELEASE b;
ROLLBACK TO a;
SELECT idem_claim('beside', :key || 'd');
COMMIT;
\elif :way = 3
SAVEPOINT a;
SELECT idem_claim('beside', :key || 'e'), idem_lock('beside ' || :key, '1 hour');
SAVEPOINT b;
SELECT count(*) FROM idem_claim_batch('beside batch', ARRAY[:key || 'f', :key || 'g']);
COMMIT;
\elif :way = 4
PREPARE TRANSACTION 'beside :client_id :key';
COMMIT PREPARED 'beside :client_id :key';
\else
COMMIT;
\endif
SQL

$load->start;
my $pgbench = fork // die "fork: $!";
if ($pgbench == 0)
{
	my $ok = eval { clients($node, 4, 12 * $wanted, $beside); 1 };
	warn $@ if !$ok;
	POSIX::_exit($ok ? 0 : 1);
}
while ($cuts < $wanted)
{
	$load->await(5 + int(rand(10)));
	$cuts += $node->safe_psql('postgres', "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'load' ORDER BY random() LIMIT 2) a");
	last if time_is_up();
}
$load->stop;
waitpid $pgbench, 0;
is($?, 0, 'those beside the load were not disturbed');
is(verdict($load), '', "$cuts connections cut: nothing is lost or twice");
is(differences(), '', '… and what was counted is what was committed');

# who was told that it was done before is counted, too
my $told = 0;
foreach my $file (glob "$load->{dir}/journal.*")
{
	open my $journal, '<', $file or die "$file: $!";
	$told += grep { my @field = split /\t/; $field[2] eq 'claim' && $field[5] =~ /^(?:done|again)$/ && $field[6] ne 'first' } readline $journal;
}
cmp_ok($node->safe_psql('postgres', "SELECT sum(count) FROM idem_stat WHERE kind = 'claim' AND source = 'claim' AND outcome = 'duplicate'"),
	'>=', $told, "duplicates: at least the $told that somebody was told of");
cmp_ok($told, '>', 0, '… of whom there are some');
cmp_ok($node->safe_psql('postgres', 'SELECT sum(waits) FROM idem_stat'), '>', 0, 'and some waited');

# all once more: nothing but duplicates
my $first = $node->safe_psql('postgres', "SELECT sum(count) FROM idem_stat WHERE outcome = 'first'");
$load->again;
is($node->safe_psql('postgres', "SELECT sum(count) FROM idem_stat WHERE outcome = 'first'"), $first, 'all sent again: no first');
is(differences(), '', '… and all is as counted');

figures("$cuts connections cut, what was counted compared with what was committed", $started);
$node->stop;
done_testing();
