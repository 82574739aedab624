# Pins what many sessions do to the caller's rows at once: deductions add up and never go below zero, one natural key gives all sessions
# one row, a refusal writes no WAL, and DDL under load leads to the right answer or a clean error.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
max_connections = 100
autovacuum = off
fsync = off
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION idem');

#
# 16 sessions deduct from one row, under each isolation level; some roll back
#
$node->safe_psql(
	'postgres', q{
CREATE TABLE stock (id int PRIMARY KEY, qty int CHECK (qty >= 0), price numeric(12,2));
CREATE TABLE granted (level text, n int);
});

foreach my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	my $max_tries = $level eq 'READ COMMITTED' ? 1 : 1000;

	$node->safe_psql('postgres',
		'TRUNCATE stock, granted; INSERT INTO stock VALUES (1, 1000, 0)');
	$node->pgbench(
		"--no-vacuum --client=16 --jobs=2 --transactions=150 --max-tries=$max_tries",
		0,
		[qr{actually processed: 2400/2400}],
		[qr{^}],
		"16 sessions deduct, $level",
		{
			'100_deduct_' . ($level =~ s/ /_/r) => qq{
\\set n random(1, 3)
\\set fate random(1, 10)
BEGIN ISOLATION LEVEL $level;
WITH d AS MATERIALIZED (SELECT idem_deduct('stock', 'qty', :n, 1) AS ok)
INSERT INTO granted SELECT '$level', :n FROM d WHERE ok;
\\if :fate = 1
ROLLBACK;
\\else
COMMIT;
\\endif
}
		});
	is( $node->safe_psql(
			'postgres',
			'SELECT qty + (SELECT sum(n) FROM granted), qty >= 0 FROM stock'),
		'1000|t',
		"$level: what is left and what was granted is what there was");
	cmp_ok(
		$node->safe_psql('postgres', 'SELECT qty FROM stock'),
		'<', 3, "$level: sold out");
}

#
# A refusal writes nothing: 0 bytes of WAL for many of them, one by one and against a rival
#
$node->safe_psql(
	'postgres', q{
TRUNCATE stock;
INSERT INTO stock VALUES (1, 2, 1.5);
CREATE TABLE named (id bigserial PRIMARY KEY, name text UNIQUE);
INSERT INTO named (name) VALUES ('there');
SELECT idem_deduct('stock', 'qty', 5, 1), idem_insert(ROW(NULL, 'there')::named);
CHECKPOINT;
});
my $refusals = q{
SELECT pg_current_wal_insert_lsn() AS before \gset
SELECT count(*) FROM generate_series(1, 1000) WHERE idem_deduct('stock', 'qty', 5, 1);
SELECT count(*) FROM generate_series(1, 1000) WHERE idem_deduct('stock', 'price', 1e10, 1);
SELECT count(*) FROM generate_series(1, 1000) WHERE idem_lock_row('stock', 2);
SELECT count(*) FROM generate_series(1, 1000) WHERE (SELECT inserted FROM idem_insert(ROW(NULL, 'there')::named));
SELECT pg_current_wal_insert_lsn() - :'before';
};
# whatever the server itself wrote meanwhile (a snapshot of running transactions) does not come three times
my $wal;
foreach (1 .. 3)
{
	my @lines = split /\n/, $node->safe_psql('postgres', $refusals);
	is_deeply([ @lines[ 0 .. 3 ] ], [ 0, 0, 0, 0 ], 'refused');
	$wal = $lines[4];
	last if $wal == 0;
}
is($wal, 0, '4000 refusals and duplicates: 0 bytes of WAL');

#
# 64 sessions insert the same natural key, and get the same row
#
$node->safe_psql('postgres',
	'CREATE TABLE got (k int, id bigint, inserted bool)');
$node->pgbench(
	'--no-vacuum --client=64 --jobs=2 --transactions=20',
	0,
	[qr{actually processed: 1280/1280}],
	[qr{^$}],
	'64 sessions insert the same keys',
	{
		'100_insert' => q{
\set k random(1, 20)
INSERT INTO got SELECT :k, (i.stored).id, i.inserted FROM idem_insert(ROW(NULL, 'key ' || :k)::named) i;
}
	});
is( $node->safe_psql(
		'postgres', q{
SELECT count(*) FROM (
	SELECT k FROM got GROUP BY k
	HAVING count(DISTINCT id) <> 1 OR count(*) FILTER (WHERE inserted) <> 1
		OR min(id) IS DISTINCT FROM (SELECT n.id FROM named n WHERE n.name = 'key ' || k)) AS wrong}),
	'0',
	'each key: one row, inserted once, the same for all');

# the same with rows that are deleted all the while: everyone has a row that was there, nobody an error
$node->pgbench(
	'--no-vacuum --client=16 --jobs=2 --transactions=200',
	0,
	[qr{actually processed: 3200/3200}],
	[qr{^$}],
	'16 sessions insert and delete the same keys',
	{
		'100_delete' => q{
\set k random(1, 3)
SELECT 1 / (stored IS NOT NULL)::int FROM idem_insert(ROW(NULL, 'gone ' || :k)::named);
DELETE FROM named WHERE name = 'gone ' || :k;
}
	});
$node->pgbench(
	'--no-vacuum --client=16 --jobs=2 --transactions=50 --max-tries=1000',
	0,
	[qr{actually processed: 800/800}],
	[qr{^}],
	'16 sessions insert, serializable',
	{
		'100_serializable' => q{
\set k random(1, 30)
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO got SELECT 1000 + :k, (i.stored).id, i.inserted FROM idem_insert(ROW(NULL, 'ser ' || :k)::named) i;
COMMIT;
}
	});
is( $node->safe_psql(
		'postgres',
		'SELECT count(*) FROM (SELECT k FROM got WHERE k > 1000 GROUP BY k HAVING count(DISTINCT id) <> 1 OR count(*) FILTER (WHERE inserted) <> 1) AS wrong'
	),
	'0',
	'serializable: one row for each key');

#
# The version counts every accepted update
#
$node->safe_psql(
	'postgres', q{
CREATE TABLE doc (id int PRIMARY KEY, version int NOT NULL DEFAULT 0, accepted int NOT NULL DEFAULT 0);
CREATE TRIGGER version BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
INSERT INTO doc VALUES (1);
});
$node->pgbench(
	'--no-vacuum --client=16 --jobs=2 --transactions=100',
	0,
	[qr{actually processed: 1600/1600}],
	[qr{^$}],
	'16 sessions update one document',
	{
		'100_version' => q{
SELECT version AS seen FROM doc WHERE id = 1 \gset
\set kind random(1, 3)
\if :kind = 1
UPDATE doc SET accepted = accepted + 1 WHERE id = 1;
\elif :kind = 2
UPDATE doc SET accepted = accepted + 1, version = version + 1 WHERE id = 1 AND version = :seen;
\else
DO $$ BEGIN UPDATE doc SET accepted = accepted + 1, version = 0 WHERE id = 1; EXCEPTION WHEN SQLSTATE 'ID412' THEN END $$;
\endif
}
	});
is($node->safe_psql('postgres', 'SELECT version = accepted FROM doc'),
	't', 'the version is the number of accepted updates');

#
# DDL while others call: the right answer or a clean error, and what was granted still adds up
#
$node->safe_psql(
	'postgres', q{
CREATE TABLE goods (id int PRIMARY KEY, pad text, qty int NOT NULL, code text UNIQUE);
INSERT INTO goods VALUES (1, 'x', 1000000, 'one');
CREATE TABLE ok (n int);
CREATE TABLE failed (code text, message text);
CREATE PROCEDURE try_one() LANGUAGE plpgsql AS $$
DECLARE m text;
BEGIN
	IF idem_deduct('goods', 'qty', 1, 1) AND idem_deduct('goods_code_key', 'qty', 1, 'one') AND idem_lock_row('goods', 1)
		AND NOT (SELECT inserted FROM idem_insert(jsonb_populate_record(NULL::goods, '{"code":"one"}'))) THEN
		INSERT INTO ok VALUES (2);
	ELSE
		RAISE EXCEPTION 'wrong answer';
	END IF;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT;
	INSERT INTO failed VALUES (SQLSTATE, m);
END $$;
});
my @ddl = (
	q{ALTER TABLE goods ADD COLUMN extra text DEFAULT 'e'},
	q{ALTER TABLE goods DROP COLUMN extra},
	q{ALTER TABLE goods ALTER COLUMN qty TYPE bigint},
	q{ALTER TABLE goods ALTER COLUMN qty TYPE int},
	q{ALTER TABLE goods RENAME TO goods_2},
	q{ALTER TABLE goods_2 RENAME TO goods},
	q{ALTER TABLE goods DROP CONSTRAINT goods_pkey, ADD PRIMARY KEY (id)},
	q{REINDEX TABLE CONCURRENTLY goods},
	q{ALTER TABLE goods RENAME COLUMN qty TO quantity},
	q{ALTER TABLE goods RENAME COLUMN quantity TO qty},
	q{CREATE TRIGGER v BEFORE UPDATE ON goods FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()},
	q{DROP TRIGGER v ON goods},
	q{BEGIN; LOCK TABLE goods; CREATE TABLE goods_3 AS TABLE goods; DROP TABLE goods; ALTER TABLE goods_3 RENAME TO goods;
	  ALTER TABLE goods ADD CONSTRAINT goods_pkey PRIMARY KEY (id), ADD CONSTRAINT goods_code_key UNIQUE (code),
	  ALTER COLUMN qty SET NOT NULL; COMMIT},
	q{ANALYZE goods},
	q{VACUUM FULL goods});
my $script = $node->basedir . '/100_ddl.sql';
append_to_file($script, "CALL try_one();\n");
my $changes = 0;
# a busy machine may need another one for what is wanted
foreach (1 .. 10)
{
	my ($stdin, $stdout, $stderr) = ('', '', '');
	my $storm = IPC::Run::start(
		[
			'pgbench', '--no-vacuum', '--client=8', '--jobs=2', '--time=15',
			'--file', $script, $node->connstr('postgres')
		],
		'<', \$stdin, '>', \$stdout, '2>', \$stderr);
	while ($storm->pumpable)
	{
		foreach my $statement (@ddl)
		{
			my ($ret, $out, $err);

			# who is chosen in a deadlock with the calls begins again, or the table would keep another name
			for (1 .. 20)
			{
				($ret, $out, $err) = $node->psql('postgres', $statement);
				last if $ret == 0 || $err !~ /deadlock detected/;
			}
			$changes++ if $ret == 0;
			diag("$statement: $err") if $ret != 0;
		}
		$storm->pump_nb;
	}
	$storm->finish;
	is($storm->result(0), 0, 'sessions under a storm of DDL go on');
	unlike($stderr, qr/error/, 'none of them lost');
	last if $changes > 30 && $node->safe_psql('postgres', 'SELECT count(*) FROM ok') > 100;
}
cmp_ok($changes, '>', 30, "$changes changes of the table");
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM ok'),
	'>', 100, 'calls succeeded');
is( $node->safe_psql(
		'postgres',
		'SELECT qty + (SELECT sum(n) FROM ok) FROM goods'),
	'1000000',
	'what was granted adds up');
is( $node->safe_psql(
		'postgres', q{
SELECT string_agg(DISTINCT code || ' ' || message, E'\n') FROM failed
WHERE code NOT IN ('42P01', '42703', '42P10', '42704', '40P01')}),
	'',
	'errors only name what was not there just then');

$node->stop;

done_testing();
