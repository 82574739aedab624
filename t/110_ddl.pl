# Pins what happens when idem's own tables, and those that it is told to work on, are rebuilt and altered under 16 clients that
# do everything: REINDEX CONCURRENTLY, VACUUM FULL, CLUSTER and CREATE INDEX pass unnoticed; a table, a column or a key that is
# gone for a moment is a clean error, and the next call is right. All promises are kept, as the oracle judges.
# IDEM_DDL_ROUNDS: how many changes of each of the two kinds.
# soak: IDEM_DDL_ROUNDS=1000

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{IDEM_DDL_ROUNDS} // 20;    # even
my $node = load_node('ddl', 'autovacuum = off', 'fsync = off');
my $started = time;
my %made;
my @tables = qw(claim lock token_spent token_rate token_key transition stock hold);
my @targets = qw(product document doc thing);

# what nobody may notice, in pairs of which the second one undoes the first, or is about another table
my @unnoticed;
foreach my $how ('REINDEX TABLE CONCURRENTLY %s.%s', 'VACUUM FULL %s.%s', 'CLUSTER %s.%s USING %2$s_pkey', 'REINDEX TABLE %s.%s', 'VACUUM FREEZE %s.%s',
	'ALTER TABLE %s.%s SET (fillfactor = 70)')
{
	push @unnoticed, map { sprintf $how, 'idem', $_ } @tables;
	push @unnoticed, map { sprintf $how, 'load', $_ } @targets;
}
my @pairs = (
	'CREATE INDEX CONCURRENTLY extra ON idem.claim (claimed_at)', 'DROP INDEX CONCURRENTLY idem.extra',
	'CREATE INDEX extra ON idem.hold (reserved_at)', 'DROP INDEX idem.extra',
	'ALTER TABLE idem.stock ENABLE ROW LEVEL SECURITY', 'ALTER TABLE idem.stock DISABLE ROW LEVEL SECURITY',
	'ALTER TABLE idem.lock SET UNLOGGED', 'ALTER TABLE idem.lock SET LOGGED',
	map({ ("CREATE TRIGGER extra BEFORE UPDATE ON $_ FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", "DROP TRIGGER extra ON $_") }
		qw(idem.claim idem.lock idem.hold idem.stock load.product)),
	map({ ("ALTER TABLE $_ ADD extra integer DEFAULT 1", "ALTER TABLE $_ DROP extra") } qw(load.product load.document load.doc)));
# one pair in four is of the first kind
splice @unnoticed, 8 * $_ + 2, 0, @pairs[ 2 * $_, 2 * $_ + 1 ] foreach 0 .. $#pairs / 2;

# what is not there for a moment, and how it comes back. A table that is rewritten is empty for older snapshots: the server says so.
my @noticed = (
	'ALTER TABLE load.product ALTER stock TYPE numeric', 'ALTER TABLE load.product ALTER stock TYPE bigint',
	'ALTER TABLE idem.claim RENAME TO other', 'ALTER TABLE idem.other RENAME TO claim',
	'ALTER TABLE idem.hold RENAME TO other', 'ALTER TABLE idem.other RENAME TO hold',
	'ALTER TABLE load.product RENAME TO other', 'ALTER TABLE load.other RENAME TO product',
	'ALTER TABLE load.product RENAME COLUMN stock TO other', 'ALTER TABLE load.product RENAME COLUMN other TO stock',
	'ALTER TABLE load.product DROP CONSTRAINT product_pkey', 'ALTER TABLE load.product ADD PRIMARY KEY (id)',
	'ALTER TABLE load.document DROP CONSTRAINT document_pkey', 'ALTER TABLE load.document ADD PRIMARY KEY (key)',
	'ALTER SCHEMA idem RENAME TO other', 'ALTER SCHEMA other RENAME TO idem',
	'ALTER TABLE load.document RENAME COLUMN status TO other', 'ALTER TABLE load.document RENAME COLUMN other TO status');

# alter(LOAD, WHAT, NUMBER, STATEMENT...): so many of the statements, pair by pair, beginning anywhere, while the load is on;
# requests are begun before each pair, and within it if there is something to go on with
sub alter
{
	my ($load, $what, $n, @statements) = @_;
	my $first = 2 * int(rand(@statements / 2));
	my @failed;

	$made{$what} += $n;
	$load->start;
	foreach my $i (0 .. $n - 1)
	{
		my $statement = $statements[ ($first + $i) % @statements ];
		$load->await(16) if $i % 2 == 0 || $what eq 'unnoticed';
		my ($ret, $out, $err) = $node->psql('postgres', $statement);
		push @failed, "$statement: $err" if $ret != 0;
	}
	$load->await(50);
	$load->stop;
	is(join("\n", @failed), '', "$what: $n changes made");
	return judged($load, $what);
}

for (my $left = $rounds; $left > 0 && !time_is_up(); $left -= 100)
{
	my $n = $left < 100 ? $left : 100;
	my $load = Load->new($node);

	alter($load, 'unnoticed', $n, @unnoticed) or last;
	fresh($load);
	$load = Load->new($node, tolerate => 'ID404,42P01,42703,42P10,42704,3F000,42883');
	alter($load, 'noticed', $n, @noticed) or last;
	fresh($load);
}
figures("$made{unnoticed} changes that nobody may notice, $made{noticed} that show", $started);
$node->stop;
done_testing();
