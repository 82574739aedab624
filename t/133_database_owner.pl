# A database owner who is no superuser: cannot install idem, which is not trusted, nor take it away; uses it, administers it once granted;
# cannot dump it, and is told so.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IdemTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE landlord LOGIN CREATEROLE CREATEDB');
$node->safe_psql('postgres', 'CREATE DATABASE house OWNER landlord');

# as(SQL): as the owner of the database; what it answers, or the error
sub as
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('house', $sql, extra_params => [ '-U', 'landlord' ]);
	return $status == 0 ? $out : $err;
}

is($node->safe_psql('house', "SELECT trusted, superuser FROM pg_available_extension_versions WHERE name = 'idem' AND version = '1.0'"), 'f|t', 'not trusted: a superuser installs it');
my $refused = as('CREATE EXTENSION idem');
like($refused, qr/permission denied to create extension "idem"/, 'the owner of the database does not');
like($refused, qr/HINT:  Must be superuser/, '… and is told who does');
is($node->safe_psql('house', "SELECT count(*) FROM pg_namespace WHERE nspname = 'idem'"), '0', '… and nothing was made');

$node->safe_psql('house', 'CREATE EXTENSION idem');

# using it
is(as("SELECT idem_claim('a', '1'), idem_claim('a', '1'), idem_respond('a', '1', '1'), idem_token_status(idem_token_issue('form'), 'form')"), 't|f|t|live', 'he uses it');
is(as('SET idem.force_sql = on; ' . "SELECT idem_claim('a', '2'), idem_claim('a', '2'), idem_lock('l')"), 't|f|1', '… also through SQL');

# administering it: not by owning the database
my %verbs = (
	'idem_forget(text, anycompatible)' => "SELECT idem_forget('a', '2')",
	'idem_purge(interval, integer, text)' => "CALL idem_purge('1 day')",
	'idem_policy(text, interval, text, timestamp with time zone)' => "SELECT idem_policy('a', '1 day')",
	'idem_policy_drop(text)' => "SELECT idem_policy_drop('b')",
	'idem_machine(text, text)' => "SELECT idem_machine('m', 'a -> b')",
	'idem_token_rekey()' => 'SELECT idem_token_rekey()',
	'idem_stock_add(text, numeric, integer)' => "SELECT idem_stock_add('apple', 1)");
like(as($verbs{$_}), qr/permission denied for (?:function|procedure)/, "refused: $_") foreach sort keys %verbs;
$node->safe_psql('house', "GRANT EXECUTE ON ROUTINE $_ TO landlord") foreach sort keys %verbs;
unlike(as($verbs{$_}), qr/ERROR/, "granted: $_") foreach sort keys %verbs;

# the records are not his, nor is the extension
foreach my $sql (
	'TABLE idem.claim', 'DELETE FROM idem.claim', 'ALTER TABLE idem.claim OWNER TO landlord', 'ALTER SCHEMA idem OWNER TO landlord',
	'GRANT SELECT ON idem.claim TO landlord', 'CREATE TRIGGER t BEFORE INSERT ON idem.claim FOR EACH ROW EXECUTE FUNCTION idem_version()',
	'DROP SCHEMA idem CASCADE', 'DROP EXTENSION idem', 'ALTER EXTENSION idem DROP TABLE idem.claim', "ALTER EXTENSION idem UPDATE TO '1.0'",
	"CREATE FUNCTION mine() RETURNS bigint AS '\$libdir/idem', 'idem_lock' LANGUAGE c")
{
	like(as($sql), qr/ERROR:  (?:permission denied|must be owner)/, "refused: $sql");
}

# a dump needs the records, and fails loudly without; one who may read all data can
my $dir = PostgreSQL::Test::Utils::tempdir();
my @dump = ('pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'landlord', '-f', "$dir/house.sql", 'house');
command_fails_like(\@dump, qr/permission denied for (?:table|schema)/, 'his dump fails');
$node->safe_psql('house', 'GRANT pg_read_all_data TO landlord');
command_ok(\@dump, 'with pg_read_all_data it does not');
like(slurp_file("$dir/house.sql"), qr/^COPY idem\.claim .*\n(?:.*\n)*?a\t1\tlandlord\td\t/m, '… and has the keys');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/house.sql", $node->connstr('copy') ], 'a superuser restores it');
is($node->safe_psql('copy', "SET ROLE landlord; SELECT idem_claim('a', '1')"), 'f', 'the key is there');

# the database is still his to drop
command_ok([ 'dropdb', '-h', $node->host, '-p', $node->port, '-U', 'landlord', '--maintenance-db', 'postgres', 'house' ], 'he drops his database');

$node->stop;
done_testing();
