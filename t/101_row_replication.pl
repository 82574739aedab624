# Pins the caller's rows where there are two servers: on a hot standby every verb on rows raises 25006, and a subscriber's version
# trigger runs when logical replication applies a change only if it is enabled for that, and then agrees with the publisher's.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 'logical');
$primary->start;
$primary->safe_psql(
	'postgres', q{
CREATE EXTENSION idem;
CREATE TABLE doc (id int PRIMARY KEY, body text, version int NOT NULL DEFAULT 1);
CREATE TRIGGER version BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
INSERT INTO doc VALUES (1, 'one', 7);
});

#
# Hot standby
#
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

foreach my $call (
	q{idem_deduct('doc', 'version', 1, 1)},
	q{idem_deduct('doc', 'version', 1, 99)},
	q{idem_lock_row('doc', 1)},
	q{idem_insert(ROW(1, 'one', 1)::doc)})
{
	my ($ret, $stdout, $stderr) =
	  $standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT $call");
	like($stderr, qr{25006: cannot write during recovery},
		"standby: $call");
}
$standby->stop;

#
# Logical replication
#
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->start;
$subscriber->safe_psql(
	'postgres', q{
CREATE EXTENSION idem;
CREATE TABLE doc (id int PRIMARY KEY, body text, version int NOT NULL DEFAULT 1);
CREATE TRIGGER version BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
});
my $connection = $primary->connstr . ' dbname=postgres';
$primary->safe_psql('postgres', 'CREATE PUBLICATION docs FOR TABLE doc');
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION docs CONNECTION '$connection' PUBLICATION docs");
$subscriber->wait_for_subscription_sync($primary, 'docs');

# an ordinary trigger does not run: the publisher's version arrives as it is
$primary->safe_psql('postgres', q{UPDATE doc SET body = 'two' WHERE id = 1});
$primary->wait_for_catchup('docs');
is($subscriber->safe_psql('postgres', 'SELECT body, version FROM doc'),
	'two|8', 'applied, trigger for origin only');

# one that always runs accepts what the publisher's made
$subscriber->safe_psql('postgres',
	'ALTER TABLE doc ENABLE ALWAYS TRIGGER version');
$primary->safe_psql(
	'postgres', q{
UPDATE doc SET body = 'three' WHERE id = 1;
UPDATE doc SET body = 'four', version = version + 1 WHERE id = 1;
INSERT INTO doc VALUES (2, 'new', 40);
UPDATE doc SET body = 'newer' WHERE id = 2;
});
$primary->wait_for_catchup('docs');
is( $subscriber->safe_psql(
		'postgres', 'SELECT id, body, version FROM doc ORDER BY id'),
	"1|four|10\n2|newer|41",
	'applied, trigger enabled always');

# and stops a change that would overwrite what the subscriber changed itself
$subscriber->safe_psql('postgres',
	q{UPDATE doc SET body = 'local' WHERE id = 2});
$subscriber->safe_psql('postgres',
	q{UPDATE doc SET body = 'local' WHERE id = 2});
my $offset = -s $subscriber->logfile;
$primary->safe_psql('postgres', q{UPDATE doc SET body = 'late' WHERE id = 2});
$subscriber->wait_for_log(
	qr{row of table "doc" has another version.*Column "version" is 43, and the update sets it to 42}s,
	$offset);
is( $subscriber->safe_psql(
		'postgres', 'SELECT body, version FROM doc WHERE id = 2'),
	'local|43',
	'a stale change is not applied');

$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION docs DISABLE');
$subscriber->stop('immediate');
$primary->stop('immediate');

done_testing();
