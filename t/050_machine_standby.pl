# Pins what pg_regress cannot: a standby's sessions follow a redefinition when they replay it, and refuse to define; a dump carries the
# machines; a crash keeps what was committed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Hermetic;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION idem;
	SELECT idem_machine('order', 'created -> paid -> shipped; created -> cancelled; x y; lone');
	CREATE TABLE orders (id int PRIMARY KEY, status text);
	CREATE TRIGGER s BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION idem_state('order', 'status');
	INSERT INTO orders VALUES (1, 'paid');
});
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# one session that stays, with the machine compiled
my $session = $standby->background_psql('postgres', on_error_stop => 0);
my $verdict = q{SELECT idem_verdict('order', 'paid', 'created')};
is($session->query_safe($verdict), 'late', 'a standby judges');
like($session->query_safe(q{SELECT idem_machine_graph('order')}), qr/created --> paid/, 'a standby draws');

$primary->safe_psql('postgres', q{SELECT idem_machine('order', 'paid -> created')});
$primary->wait_for_catchup($standby);
is($session->query_safe($verdict), 'apply', 'its open session follows a redefinition');

$primary->safe_psql('postgres', q{BEGIN; SELECT idem_machine('order', 'created -> x -> paid'); ROLLBACK});
$primary->wait_for_catchup($standby);
is($session->query_safe($verdict), 'apply', 'and not one that is rolled back');

my ($status, $out, $err) = $standby->psql('postgres', q{\set VERBOSITY verbose
SELECT idem_machine('order', 'a -> b')});
like($err, qr/25006.*recovery/, 'a standby does not define');
($status, $out, $err) = $standby->psql('postgres', q{\set VERBOSITY verbose
SELECT idem_advance('order', 'orders', 'status', 'created', 1)});
like($err, qr/25006.*recovery/, 'nor advance');
$session->quit;

# a crash right after the commit
my $live = $primary->background_psql('postgres', on_error_stop => 0);
$live->query_safe(q{SELECT idem_machine('order', 'created -> paid -> shipped; x y; lone')});
$primary->stop('immediate');
$primary->start;
is($primary->safe_psql('postgres', $verdict), 'late', 'a definition survives a crash');
eval { $live->quit };

# dump and restore
my $graph = $primary->safe_psql('postgres', q{SELECT idem_machine_graph('order')});
my $dump = $primary->basedir . '/dump.sql';
$primary->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'dump');
$primary->safe_psql('postgres', 'CREATE DATABASE restored');
$primary->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-q', '-f', $dump, '-d', 'restored' ], 'restore');
is($primary->safe_psql('restored', q{SELECT idem_machine_graph('order')}), $graph, 'the machine is in the dump');
is($primary->safe_psql('restored', q{UPDATE orders SET status = 'created'; TABLE orders}), '1|paid', 'and the trigger uses it');

$standby->stop;
$primary->stop;
done_testing();
