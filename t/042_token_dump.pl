# Tokens through pg_dump: in the copy, live tokens are live and used ones used; the dumped keys meet the one that CREATE
# EXTENSION made there; another database accepts none of them.
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
$node->append_conf('postgresql.conf', 'fsync = off');
$node->start;
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(old other plain custom again);
$node->safe_psql($_, 'CREATE EXTENSION idem') for qw(old other);

sub issue { my ($db, $subject) = @_; return $node->safe_psql($db, "SELECT idem_token_issue('form', '$subject', '1 day')"); }
sub status { my ($db, $token, $subject) = @_; return $node->safe_psql($db, "SELECT idem_token_status('$token', 'form', '$subject')"); }
sub consume { my ($db, $token, $subject) = @_; return $node->safe_psql($db, "SELECT idem_token_consume('$token', 'form', '$subject')"); }
sub signs { my ($db) = @_; return substr(issue($db, ''), 1, 12); }

# one token of a key that has been replaced, one live, one used, one count
my $earlier = issue('old', 'earlier');
$node->safe_psql('old', 'SELECT idem_token_rekey()');
my $live = issue('old', 'live');
my $used = issue('old', 'used');
is(consume('old', $used, 'used'), 't', 'used before the dump');
$node->safe_psql('old', "SELECT idem_token_issue('form', 'limited', max_issues => 1, per => '1 day')");

is(status('other', $live, 'live'), 'invalid', 'another database: invalid');
is(consume('other', $live, 'live'), 'f', 'another database: not consumed');

# as text, and as an archive
my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-f', "$dump.sql", $node->connstr('old') ], 'pg_dump');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql", $node->connstr('plain') ], 'psql');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", $node->connstr('old') ], 'pg_dump -Fc');
$node->command_ok([ 'pg_restore', '-e', '-d', $node->connstr('custom'), "$dump.custom" ], 'pg_restore');

my $later = issue('old', 'later');

for my $db ('plain', 'custom')
{
	is($node->safe_psql($db, 'SELECT count(*), count(*) FILTER (WHERE verify_until IS NULL) FROM idem.token_key'), '3|2', "$db: the dumped keys and a new one");
	is(signs($db), signs($db), "$db: one of them signs");
	is(signs($db), $node->safe_psql($db, 'SELECT id FROM idem.token_key WHERE verify_until IS NULL ORDER BY created_at DESC, id DESC LIMIT 1'), 'the newest');

	is(status($db, $earlier, 'earlier'), 'live', 'of the replaced key: live');
	is(status($db, $live, 'live'), 'live', 'live');
	is(status($db, $used, 'used'), 'used', 'used is used');
	is(consume($db, $used, 'used'), 'f', 'and cannot be consumed again');
	is(status($db, $later, 'later'), 'live', 'issued by the old database after the dump: live');
	my (undef, undef, $stderr) = $node->psql($db, "SELECT idem_token_issue('form', 'limited', max_issues => 1, per => '1 day')");
	like($stderr, qr/too many tokens/, 'the count goes on');

	my $own = issue($db, 'own');
	is(status('old', $own, 'own'), 'invalid', 'signed by the new key: not for the old database');
	$node->safe_psql($db, 'SELECT idem_token_rekey()');
	is($node->safe_psql($db, 'SELECT count(*) FILTER (WHERE verify_until IS NULL) FROM idem.token_key'), '1', 'rekeying leaves one that signs');
	is(consume($db, $earlier, 'earlier'), 't', 'after rekeying: the replaced key');
	is(consume($db, $live, 'live'), 't', 'the dumped one');
	is(consume($db, $own, 'own'), 't', 'the one that CREATE EXTENSION made');
	is(consume($db, $live, 'live'), 'f', 'once');
}

# the copy can be dumped in its turn
$node->command_ok([ 'pg_dump', '-f', "$dump.again.sql", $node->connstr('plain') ], 'dump of the copy');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.again.sql", $node->connstr('again') ], 'its restore');
is(status('again', $live, 'live'), 'used', 'used there');
is(status('again', $later, 'later'), 'live', 'live there');

# dropped and made anew in one session: the kept number of the key is not believed
is($node->safe_psql('other', <<'SQL'), "t\nlive\ninvalid", 'a new extension, a new key');
SELECT idem_token_issue('form') AS t \gset
SELECT length(:'t') = 88;
SET client_min_messages = warning;
DROP EXTENSION idem;
CREATE EXTENSION idem;
SELECT idem_token_status(idem_token_issue('form'), 'form');
SELECT idem_token_status(:'t', 'form');
SQL

done_testing();
