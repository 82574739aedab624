# Pins that a lock has one holder: 32 sessions on one lock with random stalls, judged by the protected data alone. Each write is a
# transaction that checks the lock, stalls, and records its fence and when it was inside; no two of different fences overlap,
# and the fences never go back. The same without the check must be seen to fail, or this test would prove nothing.
# IDEM_STORM_SECONDS: for how long (5; before a release 20).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{IDEM_STORM_SECONDS} || 5;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'fsync = off');
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION idem;
	CREATE TABLE protected (n serial, name text, fence bigint, entered timestamptz, left_at timestamptz);
	CREATE TABLE lost (name text, fence bigint);

	-- what a holder does: stalls, then writes, stalling again inside; lease in ms
	CREATE FUNCTION write_protected(lock text, f bigint, checked boolean, lease integer) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		t timestamptz;
	BEGIN
		IF checked THEN
			PERFORM idem_lock_check(lock, f);
		END IF;
		t := clock_timestamp();
		PERFORM pg_sleep(lease / 1000.0 * random() * CASE WHEN random() < 0.2 THEN 2.5 ELSE 0.1 END);
		INSERT INTO protected (name, fence, entered, left_at) VALUES (lock, f, t, clock_timestamp());
	EXCEPTION WHEN SQLSTATE 'ID412' THEN
		INSERT INTO lost VALUES (lock, f);
	END $$;

	-- what the protected data say: writers inside at once, and writes by an older fence after those of a newer one
	CREATE VIEW verdict AS
		SELECT name, count(*) AS writes, max(fence) AS grants,
			count(*) FILTER (WHERE entered < left_before) AS at_once,
			count(*) FILTER (WHERE fence < fence_before) AS steps_back
		FROM (
			SELECT name, fence, entered,
				max(left_at) OVER w AS left_before, max(fence) OVER w AS fence_before
			FROM protected
			WINDOW w AS (PARTITION BY name ORDER BY entered ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
		) AS p
		GROUP BY name;
});

# runs 32 clients, half of them through SQL
sub storm
{
	my ($lock, $checked, $time, $lease) = @_;
	my $stall = int(2.5 * $lease);
	my $script = $node->basedir . "/$lock.sql";

	append_to_file($script, <<"END");
SELECT set_config('idem.force_sql', (:client_id % 2 = 0)::text, false), coalesce(idem_lock('$lock', '$lease milliseconds'), 0) AS fence \\gset
\\if :fence > 0
\\set stall CASE WHEN random(0, 9) < 2 THEN random(0, $stall) ELSE 0 END
\\sleep :stall ms
SELECT write_protected('$lock', :fence, $checked, $lease);
\\set then random(0, 3)
\\if :then = 0
SELECT idem_lock_renew('$lock', :fence, '$lease milliseconds');
SELECT write_protected('$lock', :fence, $checked, $lease);
\\elif :then < 3
SELECT idem_unlock('$lock', :fence);
\\endif
\\else
\\sleep 1 ms
\\endif
END
	$node->command_ok(
		[ 'pgbench', '-n', '-c', '32', '-j', '2', '-T', $time, '-f', $script, 'postgres' ],
		"storm on $lock");
	return $node->safe_psql('postgres', "SELECT writes, grants, at_once, steps_back FROM verdict WHERE name = '$lock'");
}

# leases are so short that holders lose them now and then; where the machine is too busy for any to last, they get longer, and so
# does the storm
my ($writes, $grants, $refused) = (0, 0, 0);
my ($overlaps, $back);
foreach my $lease (20, 60, 180, 540, 1620)
{
	my $lock = "checked, $lease ms";

	(my ($more, $granted), $overlaps, $back) = split /\|/, storm($lock, 'true', $seconds + int($lease / 20), $lease) || '0|0|0|0';
	$writes += $more;
	$grants += $granted;
	$refused += $node->safe_psql('postgres', "SELECT count(*) FROM lost WHERE name = '$lock'");
	note "$lock: so far $writes writes, $grants grants, $refused refused; $overlaps overlaps, $back steps back";
	is($overlaps, 0, 'never two holders inside at once');
	is($back, 0, 'fences never go back');
	is( $node->safe_psql('postgres', "SELECT count(*) FROM (SELECT fence FROM lost WHERE name = '$lock' INTERSECT SELECT fence FROM protected WHERE name = '$lock') AS f WHERE fence > (SELECT fence FROM idem.lock WHERE name = '$lock')"),
		0, 'no fence that was never granted');
	last if $writes > 20 && $grants > 20 && $refused > 0;
}
cmp_ok($writes, '>', 20, 'there were writes');
cmp_ok($grants, '>', 20, '... by many holders, one after the other');
cmp_ok($refused, '>', 0, 'stalled holders were refused');

foreach my $try (1 .. 20)
{
	my $lock = "unchecked $try";

	($writes, $grants, $overlaps, $back) = split /\|/, storm($lock, 'false', 1 + $try, 20) || '0|0|0|0';
	note "$lock: $writes writes, $grants grants, $overlaps overlaps, $back steps back";
	last if $overlaps > 0;
}
cmp_ok($overlaps, '>', 0, 'without the check two are inside at once, and the protected data show it');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|deadlock detected|WARNING:.*leak/, 'nothing odd in the log');

done_testing();
